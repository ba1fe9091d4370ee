"""Images a second of ``lsn extract`` against two plain loops, its stages, and decoding alone.

    python -m benchmarks.speed.extraction [--images DIR] [--model NAME ...] [--quick | --tiny]

The plain loops (plain_extraction.py) are the authors' script and open_clip with a DataLoader; all
variants take turns in one process. Ours is all of ``lsn extract`` except listing: it reads, decodes, encodes
and writes a store; in bfloat16 only where the processor has it. Ratios are of wall time, and beside them of
CPU time, which other programs disturb less. DIR (or LSN_IMAGES) holds photos-original.tar; without it the
sample photos of installed packages are used. ViTs have random weights, because time does not depend on the
weights. Only the full form writes results/extraction.json.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.goals import Row, goal_of, ratio
from benchmarks.machines import has_bf16, machine, name_of
from benchmarks.records import record
from benchmarks.speed import plain_extraction
from benchmarks.speed.subjects import OURS, load, photos, pixels_only, run_ours, sources, ways
from benchmarks.speed.timing import Rows, interleaved
from lsncli.extraction.extract import Extraction
from lsncli.images.item import Listing
from lsncli.store.reader import read_split

AUTHORS, LOADER = "authors' loop", "open_clip + DataLoader"
ALONE = "pixels alone, "
FP32 = f"{OURS} fp32, exact"
CLOCK = "wall time to the authors' loop"
FULL = {"mini": 400, "ViT-B-32": 192, "ViT-B-16": 64}
QUICK = {"mini": 96, "ViT-B-32": 64, "ViT-B-16": 32}
TINY = {"mini": 4}
"""How many images each model encodes: full batches for each of two threads, or one would wait at the end."""

QUICK_BUDGET = 45
"""Seconds for the rounds of one model in the quick form."""

WARMUP = 8


@dataclass(frozen=True)
class Measured:
    """Figures of one model: times of every variant, seconds of the stages of ours, agreement."""

    images: int
    rows: Rows
    stages: dict[str, dict[str, float]]
    cosine: float
    """The least cosine of our features (fp32, exact decoding) with open_clip's of the same image."""


def measure(
    name: str,
    folder: Path,
    found: list[Path],
    number: int,
    rounds: int,
    fast: bool,
    budget: float | None = None,
) -> Measured:
    """Measure every variant of one model on the CPU; ``folder`` keeps weights and stores.

    Each first encodes a few photos, which are compared and do not count. ``budget`` (seconds) is that of
    ``timing.interleaved``.
    """
    cpu, store, stages = torch.device("cpu"), folder / "features.h5", {}
    ours, plain = ways(name, folder, fast=fast), load(name, folder)

    def extracting(listing: Listing, way: str) -> Callable[[], object]:
        return lambda: stages.update({way: seconds(run_ours(listing, ours[way], store))})

    def variants(listing: Listing) -> dict[str, Callable[[], object]]:
        items, size = listing.items, plain.fingerprint.image_size
        alone = {way: f"{ALONE}{way.split(', ')[1]}" for way in ours if way.startswith(f"{OURS} fp32")}
        return {
            AUTHORS: lambda: plain_extraction.authors(items, plain.model, size, cpu),
            LOADER: lambda: plain_extraction.loader(items, plain.model, plain.transform, cpu),
            **{way: extracting(listing, way) for way in ours},
            **{title: pixels_only(listing, ours[way]) for way, title in alone.items()},
        }

    few = photos(found, min(number, WARMUP))
    for run in variants(few).values():
        run()
    run_ours(few, ours[FP32], store)
    theirs = plain_extraction.loader(few.items, plain.model, plain.transform, cpu).numpy()
    cosine = smallest_cosine(np.asarray(read_split(store, "photos").features), theirs)
    times = interleaved(variants(photos(found, number)), rounds, warm=False, budget=budget)
    return Measured(number, times, stages, cosine)


def seconds(done: Extraction) -> dict[str, float]:
    """Return the seconds of each stage of a run."""
    return asdict(done.seconds)


def smallest_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the least cosine between rows of the same image."""
    wide = [rows.astype(np.float64) for rows in (ours, theirs)]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in wide]
    return float((unit[0] * unit[1]).sum(axis=1).min())


def show(name: str, found: Measured) -> None:
    """Print images a second, ratios by both clocks, and stages."""
    print(f"\n{name}, {found.images} photos; smallest cosine with open_clip's features: {found.cosine:.6f}")
    head = ("images/s", "x authors", "x loader", "CPU: x", "x")
    print(f"  {'variant':<26}" + "".join(f"{column:>11}" for column in head) + "  stages, seconds")
    authors, loader = found.rows[AUTHORS], found.rows[LOADER]
    for variant, row in found.rows.items():
        ratios = [base[clock] / row[clock] for clock in ("wall_s", "cpu_s") for base in (authors, loader)]
        stages = ", ".join(f"{key} {value:.1f}" for key, value in found.stages.get(variant, {}).items())
        figures = (found.images / row["wall_s"], *ratios)
        print(f"  {variant:<26}" + "".join(f"{figure:>11.2f}" for figure in figures) + f"  {stages}")


def goals(name: str, found: Measured) -> list[Row]:
    """Return the figures of a model that have a goal, and those that explain them."""
    here, rows = machine(), []
    authors, loader, own = (found.rows[key] for key in (AUTHORS, LOADER, FP32))
    for way in found.stages:
        what = f"extraction, {name}, {way.removeprefix(f'{OURS} ').removesuffix(', exact')}"
        rows.append(ratio(what, found.rows[way], goal_of(what, here["kind"]), CLOCK))
    if not has_bf16(here):
        rows.append(Row(f"extraction, {name}, bf16", None, "x", of="this processor has no bf16"))
    what = f"extraction, {name}, fp32"
    return [
        *rows,
        Row(f"{what}, by CPU time", authors["cpu_s"] / own["cpu_s"], "x", of="to the authors' loop"),
        Row(f"{what}, to a DataLoader", loader["wall_s"] / own["wall_s"], "x", of="wall time"),
        Row(f"{what}, 1 - cosine with open_clip's", max(0.0, 1 - found.cosine), "", 1e-4, "at most"),
    ]


def rows(tiny: bool) -> list[Row]:
    """Return the rows of ``benchmarks.all``."""
    images = os.environ.get("LSN_IMAGES")
    where = sources(Path(images) if images else None)
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lsn-extraction-") as folder:
        for name, number in (TINY if tiny else QUICK).items():
            fast = name == "mini"  # elsewhere the tower is everything
            rounds = 1 if tiny else 2
            measured = measure(name, Path(folder), where, number, rounds, fast, QUICK_BUDGET)
            found += goals(name, measured)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Check that the features agree, time all variants, and in the full form write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"))
    parser.add_argument("--model", action="append", choices=list(FULL), help="only this one; repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer images and rounds, writes nothing")
    size.add_argument("--tiny", action="store_true", help="a few images, to see that the script runs")
    given = parser.parse_args(arguments)
    form = QUICK if given.quick else TINY if given.tiny else FULL
    rounds = given.rounds if form is FULL else 2 if given.quick else 1
    images = Path(given.images) if given.images else None
    if images is None:
        print("LSN_IMAGES is not set: using the sample photos of installed packages.")
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="lsn-extraction-") as folder:
        for name in [name for name in form if name in (given.model or form)]:
            found[name] = measure(name, Path(folder), sources(images), form[name], rounds, True)
            show(name, found[name])
    print(f"\n{name_of(machine())}, {torch.get_num_threads()} threads")
    if form is FULL and not given.model:
        what = "Extraction of photos on a CPU; ratio = wall time of the authors' loop over own"
        record("extraction", what, **{name: asdict(one) for name, one in found.items()})


if __name__ == "__main__":
    main()
