"""Measure every ratio of this project and print it beside its goal, in one table.

    python -m benchmarks.all [--only SECTION ...] [--record | --tiny]

Takes less than 15 minutes on two cores. Sizes are those of the goals (100 classes, ViT-B/32's text tower);
rounds are fewer than in the scripts that record results. Figures that take longer are quoted from
results/*.json with their date. A section that fails gives one row with the reason. ``--tiny`` runs everything
on tiny models in seconds, as a smoke test without meaningful figures. ``--record`` writes results/all.json.
The exit code is 1 if a goal was not met.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from statistics import median

import torch

from benchmarks import records
from benchmarks.goals import Row, note, ratio, summary, table
from benchmarks.machines import machine, name_of
from benchmarks.records import record
from benchmarks.speed import text_tower, training
from benchmarks.speed.models import class_names, text_model
from benchmarks.speed.peak import fresh
from benchmarks.speed.timing import cpu_seconds

STOCK, ONEDNN = "lsn torch", "lsn onednn"
STEP_GOALS = {
    training.COOP: {STOCK: 15, ONEDNN: 25},
    training.NEGATIVE: {STOCK: 3.5, ONEDNN: 6},
    training.COCOOP: {STOCK: 15, ONEDNN: 25},
    training.TEST: {STOCK: 15, ONEDNN: 25},
}
AGREEMENT = 2e-5


def learners(tiny: bool) -> list[Row]:
    """Time steps of every learner against the plain loop, each in a process of its own."""
    form = text_tower.TINY if tiny else replace(text_tower.FULL, rounds=2)
    rows, difference = [], 0.0
    for title, goals in STEP_GOALS.items():
        times = (training.alone if form.isolated else training.measure)(title, form)
        difference = max(difference, *(row.get("difference", 0) for row in times.values()))
        rows += [
            ratio(f"{title}, {name}", times[name], goal) for name, goal in goals.items() if name in times
        ]
        if title == training.COOP:
            rows += [_larger_batch(name, times) for name in goals if name in times]
    return [*rows, Row("losses and cosines of all steps, difference", difference, "", AGREEMENT, "at most")]


def _larger_batch(name: str, times: dict[str, dict[str, float]]) -> Row:
    """Return how much cheaper an epoch is in large batches: a text pass costs the same for any batch size."""
    steps = training.steps.LARGE_BATCH / training.LEARNERS[training.COOP][1].batch_size
    large = times[f"{name}, batch {training.steps.LARGE_BATCH}"]
    gain = steps * large["ratio"] / times[name]["ratio"]
    return Row(f"CoOp epoch in batches of {training.steps.LARGE_BATCH}, {name}", gain, "x", of="CPU time")


def text_passes(tiny: bool) -> list[Row]:
    """Compare features, gradients and memory with those of the plain tower."""
    form = text_tower.TINY if tiny else text_tower.FULL
    torch.set_num_threads(1)
    model, names = text_model(form.model), class_names(form.classes)
    kernels = text_tower.kernels()
    rows = []
    for specific in (False, True):
        passes = {
            variant: text_tower.text_pass(model, names, form.length, specific, variant)
            for variant in ("plain", *kernels)
        }
        differences = text_tower.agreement(passes)
        kind = "class-specific" if specific else "shared"
        for what in ("features", "gradient"):
            worst = max(differences[kernel][what] for kernel in kernels)
            rows.append(Row(f"{what}, {kind} context, difference", worst, "", AGREEMENT, "at most"))
    case, largest = "benchmarks.speed.text_tower:peak_case", 10 if tiny else text_tower.MANY
    plain, ours = (
        fresh(case, form.model, form.classes, form.length, False, kernel, 0)["peak_mib"]
        for kernel in ("plain", kernels[-1])
    )
    bounded = fresh(case, form.model, largest, form.length, True, kernels[-1], text_tower.BOUND)["peak_mib"]
    return [
        *rows,
        Row(
            f"memory of a CoOp step, {form.classes} classes", plain / ours, "x", 10, of="peak above the model"
        ),
        Row(
            f"memory of a negative step, {largest:,} classes",
            bounded / 1024,
            "GiB",
            1.5,
            "at most",
            "peak above the model",
        ),
    ]


def metrics(tiny: bool) -> list[Row]:
    """Time FPR95, AUROC and AUPR against scikit-learn."""
    from benchmarks.speed.metrics import measure

    rows = []
    for name, (difference, times) in measure(1 if tiny else 5, 1000 if tiny else 1_000_000).items():
        rows.append(ratio(f"metrics of a million {name} scores", times["lsn"], 10))
        rows.append(Row(f"their values, {name}, difference", difference, "", 1e-12, "at most"))
    return rows


def start(tiny: bool) -> list[Row]:
    """Time ``lsn --help``."""

    def help_seconds() -> float:
        before = cpu_seconds()
        subprocess.run([sys.executable, "-m", "lsncli", "--help"], check=True, capture_output=True)
        return cpu_seconds() - before

    seconds = [help_seconds() for _ in range(2 if tiny else 6)][1:]
    return [Row("lsn --help", median(seconds), "s", 0.3, "at most", "CPU time")]


def rows_of_script(name: str) -> Callable[[bool], list[Row]]:
    """Return a section with the rows that another script measures."""

    def rows(tiny: bool) -> list[Row]:
        measured: list[Row] = import_module(f"benchmarks.speed.{name}").rows(tiny)
        return measured

    return rows


SECTIONS: dict[str, Callable[[bool], list[Row]]] = {
    "learners": learners,
    "text": text_passes,
    "towers": rows_of_script("towers"),
    "decoding": rows_of_script("decoding"),
    "extraction": rows_of_script("extraction"),
    "metrics": metrics,
    "start": start,
    "recorded": lambda tiny: records.rows(),
}


def run_section(name: str, tiny: bool) -> list[Row]:
    """Run a section and return its rows; one row with the reason if it fails."""
    before, threads = time.perf_counter(), torch.get_num_threads()
    try:
        rows = SECTIONS[name](tiny)
    except Exception as error:  # the other sections still run
        rows = [Row(name, None, "", problem=f"failed: {type(error).__name__}: {error}")]
    finally:
        torch.set_num_threads(threads)
    note(f"{name}: {time.perf_counter() - before:.0f} s")
    return [replace(row, goal=None) for row in rows] if tiny else rows


def main(arguments: list[str] | None = None) -> None:
    """Run the sections and print the table; exit with 1 if a goal was not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="a section; repeatable")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--record", action="store_true", help="write results/all.json")
    kind.add_argument("--tiny", action="store_true", help="on tiny models, as a smoke test; judges nothing")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    results = {name: run_section(name, options.tiny) for name in options.only or SECTIONS}
    seconds = time.perf_counter() - began
    here = machine()
    print(table(results))
    print(f"{name_of(here)}, torch {here['torch']}, {here['date']}; {seconds:.0f} s")
    if options.tiny:
        print("Tiny: these figures mean nothing.")
        return
    rows = [row for section in results.values() for row in section]
    print(summary(rows))
    if options.record:
        sections = {name: [row.as_dict() for row in section] for name, section in results.items()}
        record("all", "Every ratio with its goal", seconds=round(seconds), sections=sections)
    if any(row.met is False for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
