"""From the bytes of an image to a model's pixels: exact, fast, and decoding alone, which is a lower bound.

    python -m benchmarks.speed.decoding [--images DIR] [--record]

CPU time of one thread, bytes in memory, all variants in turn: open_clip's own transform on Pillow's image,
the same pixels by lsn, and ``--decode fast``, whose largest difference from open_clip's pixels is shown in
grey levels of 255. DIR (or LSN_IMAGES) holds photos-original.tar; without it the sample photos of installed
packages are used. The second set is synthetic: JPEGs of the size of ImageNet's. Needs simplejpeg.
"""

import argparse
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from simplejpeg import decode_jpeg

from benchmarks.goals import Row, goal_of, ratio
from benchmarks.machines import machine
from benchmarks.records import record
from benchmarks.speed.subjects import made_up, photos, sources
from benchmarks.speed.timing import Rows, interleaved
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.preprocessing import Preprocessing, preprocessing_of
from lsncli.images.decode import decode
from lsncli.images.fast_decode import fast_decoder, is_plain
from lsncli.images.read import read_bytes

SIZE = 224
PLAIN, EXACT, FAST = "open_clip", "lsn exact", "lsn fast"
PILLOW, TURBO = "decoding alone, Pillow", "decoding alone, simplejpeg"
LEVELS = 2.0
BUDGET = 20
"""Seconds for the rounds of one set in ``benchmarks.all``."""

Pixels = Callable[[bytes], torch.Tensor]


def variants() -> tuple[dict[str, Pixels], Preprocessing]:
    """Return three ways to the pixels of a CLIP of ``SIZE``, and the program's exact preprocessing."""
    ensure_torchvision()
    from open_clip.transform import image_transform

    plain = image_transform(SIZE, is_train=False)
    normalise = plain.transforms[-1]
    config = {"size": SIZE, "resize_mode": "shortest", "interpolation": "bicubic"}
    exact = preprocessing_of(plain, config | {"mean": normalise.mean, "std": normalise.std})
    if not isinstance(exact, Preprocessing):
        raise SystemExit("open_clip's transform is not the one that lsn knows.")
    quick, jpeg = exact.decoding_fast(), fast_decoder()
    return {
        PLAIN: lambda data: plain(Image.open(io.BytesIO(data)).convert("RGB")),
        EXACT: lambda data: exact(decode(data)),
        FAST: lambda data: quick(jpeg(data)),
    }, exact


def measure(
    files: Sequence[bytes], rounds: int, budget: float | None = None
) -> tuple[Rows, dict[str, float]]:
    """Return times of every variant over all files, and the largest difference from open_clip's pixels.

    Differences are in grey levels; ``budget`` (seconds) is that of ``timing.interleaved``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ways, exact = variants()
    scale = 255 * torch.tensor(exact.std).view(3, 1, 1)
    apart = dict.fromkeys((EXACT, FAST), 0.0)
    for data in files:
        expected = ways[PLAIN](data)
        for name in apart:
            apart[name] = max(apart[name], float(((ways[name](data) - expected) * scale).abs().max()))
    alone: dict[str, Callable[[bytes], object]] = {
        PILLOW: lambda data: Image.open(io.BytesIO(data)).load(),
        TURBO: lambda data: decode_jpeg(data) if is_plain(data) else decode(data),
    }

    def over(way: Callable[[bytes], object]) -> Callable[[], None]:
        def run() -> None:
            for data in files:
                way(data)

        return run

    try:
        runs = {name: over(way) for name, way in (ways | alone).items()}
        found = interleaved(runs, rounds, clock="cpu", budget=budget)
    finally:
        torch.set_num_threads(threads)
    return found, {name: round(levels, 3) for name, levels in apart.items()}


def sets(images: Path | None, number: int, folder: Path) -> dict[str, list[bytes]]:
    """Return the bytes of ``number`` images of each set."""
    found = {"photos": sources(images), "ImageNet's size": made_up(folder, number)}
    return {name: [read_bytes(item) for item in photos(ones, number).items] for name, ones in found.items()}


def rows(tiny: bool) -> list[Row]:
    """Return the figures that have a goal, and those that explain them."""
    images, kind = os.environ.get("LSN_IMAGES"), machine()["kind"]
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        every = sets(Path(images) if images else None, 4 if tiny else 40, Path(folder))
    for name, files in every.items():
        times, apart = measure(files, 1 if tiny else 5, BUDGET)
        what = f"preprocessing, {name}"
        found += [
            ratio(f"{what}, fast", times[FAST], goal_of(f"{what}, fast", kind), "CPU time to open_clip"),
            Row(f"{what}, fast, largest difference", apart[FAST], "levels", LEVELS, "at most"),
            ratio(f"{what}, exact", times[EXACT], None, "CPU time to open_clip"),
            Row(f"{what}, exact, largest difference", apart[EXACT], "levels", 0.0, "at most"),
            ratio(f"{what}, decoding alone", times[TURBO], None, "CPU time to open_clip"),
        ]
    return found


def show(name: str, files: Sequence[bytes], times: Rows, apart: dict[str, float]) -> None:
    """Print times and differences."""
    kib = sum(map(len, files)) / len(files) / 1024
    print(f"\n{name}: {len(files)} images of {kib:.0f} KiB, {sum(map(is_plain, files))} of them plain JPEGs")
    print(f"  {'variant':<28}{'ms/image':>10}{'images/s/core':>15}{'ratio':>8}{'levels':>8}")
    for variant, row in times.items():
        each = row["cpu_s"] / len(files)
        levels = f"{apart[variant]:.0f}" if variant in apart else ""
        print(f"  {variant:<28}{1000 * each:>10.2f}{1 / each:>15.0f}{row['ratio']:>8.2f}{levels:>8}")


def main() -> None:
    """Measure both sets and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"))
    parser.add_argument("--number", type=int, default=100, help="images of each set")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="write results/decoding.json")
    given = parser.parse_args()
    if not given.images:
        print("LSN_IMAGES is not set: using the sample photos of installed packages.")
    with tempfile.TemporaryDirectory() as folder:
        every = sets(given.images, given.number, Path(folder))
    found = {}
    for name, files in every.items():
        times, apart = measure(files, given.rounds)
        show(name, files, times, apart)
        found[name] = {"images": len(files), "rows": times, "levels": apart}
    if given.record:
        record("decoding", "CPU time of one thread from bytes to pixels, by image set", sets=found)


if __name__ == "__main__":
    main()
