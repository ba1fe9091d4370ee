"""Measure every ratio of this project and print it beside its goal, in one table.

    python -m benchmarks.all [--only SECTION ...] [--record | --tiny]

Takes less than 15 minutes on two cores: each section has a budget, and a slow machine measures fewer rounds.
Sizes are those of the goals (100 classes, ViT-B/32's text tower). Figures that take longer are quoted from
results/*.json with machine and date. Each section runs in a process of its own; one that fails gives one row
with the reason. Goals depend on the kind of the processor (``goals.GOALS``). ``--tiny`` runs everything on
tiny models, as a smoke test without meaningful figures. ``--record`` writes results/all.json. The exit code
is 1 if a goal was not met and no reason is stated: that this machine cannot meet it, or that other programs
disturbed a wall time.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import get_context
from statistics import median

import torch

from benchmarks import records
from benchmarks.goals import Row, goal_of, note, ratio, summary, table
from benchmarks.machines import machine, name_of
from benchmarks.records import record
from benchmarks.speed import text_tower, training
from benchmarks.speed.models import class_names, text_model
from benchmarks.speed.peak import peak_in_new_process
from benchmarks.speed.timing import cpu_seconds, others_seconds
from lsncli.prompts.kernels import pick_kernel

AGREEMENT, START_GOAL = 2e-5, 0.3
BUSY = 0.1
"""Fraction of the processor that other programs may use before wall time means nothing."""
FEWER_CLASSES = 20
"""Rounding does not depend on the number of classes."""
STEPS_BUDGET = 45
"""Seconds for the steps of one learner; one round of them on a slow machine."""


def learners(tiny: bool) -> list[Row]:
    """Time steps of every learner against the plain loop, each in a process of its own."""
    form = text_tower.TINY if tiny else text_tower.FULL
    torch.set_num_threads(1)
    kind, rows, difference = machine()["kind"], [], 0.0
    kernels = text_tower.kernels()
    chosen = pick_kernel("auto", text_model(form.model).width, torch.device("cpu"), torch.float32)
    for title in (training.COOP, training.NEGATIVE, training.COCOOP, training.TEST):
        times = (training.measure_in_new_process if form.isolated else training.measure)(
            title, form, STEPS_BUDGET
        )
        difference = max(difference, *(row.get("difference", 0) for row in times.values()))
        for kernel, name in (("auto", chosen), *((kernel, kernel) for kernel in kernels)):
            what = f"{title}, lsn {kernel}"
            of = f"CPU time; picks {name}" if kernel == "auto" else "CPU time"
            rows.append(ratio(what, times[f"lsn {name}"], goal_of(what, kind), of))
        if title == training.COOP:
            rows += [_larger_batch(f"lsn {kernel}", times) for kernel in kernels]
    return [*rows, Row("losses and cosines of all steps, difference", difference, "", AGREEMENT, "at most")]


def _larger_batch(name: str, times: dict[str, dict[str, float]]) -> Row:
    """Return how much cheaper an epoch is in large batches: a text pass costs the same for any batch size."""
    steps = training.steps.LARGE_BATCH / training.LEARNERS[training.COOP][1].batch_size
    large = times[f"{name}, batch {training.steps.LARGE_BATCH}"]
    gain = steps * large["ratio"] / times[name]["ratio"]
    return Row(f"CoOp epoch in batches of {training.steps.LARGE_BATCH}, {name}", gain, "x", of="CPU time")


def text_passes(tiny: bool) -> list[Row]:
    """Compare features, gradients and memory with those of a plain tower."""
    form = text_tower.TINY if tiny else text_tower.FULL
    torch.set_num_threads(1)
    model, names = text_model(form.model), class_names(min(FEWER_CLASSES, form.classes))
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
            title, of = f"{what}, {kind} context, difference", f"{len(names)} classes"
            rows.append(Row(title, worst, "", AGREEMENT, "at most", of))
    case, largest = "benchmarks.speed.text_tower:peak_case", 10 if tiny else text_tower.MANY
    plain, ours = (
        peak_in_new_process(case, form.model, form.classes, form.length, False, kernel, 0)["peak_mib"]
        for kernel in ("plain", kernels[-1])
    )
    bounded = peak_in_new_process(
        case, form.model, largest, form.length, True, kernels[-1], text_tower.BOUND
    )["peak_mib"]
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
    """Time ``lsn --help``, and the import of the two libraries that it cannot do without."""

    def seconds(*arguments: str) -> float:
        before = cpu_seconds()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return cpu_seconds() - before

    runs = [
        (seconds("-m", "lsncli", "--help"), seconds("-c", "import typer, rich.console, rich.table"))
        for _ in range(2 if tiny else 6)
    ][1:]
    whole, libraries = (median(column) for column in zip(*runs, strict=True))
    reason = f"importing typer and rich alone takes {libraries:.2f} s" if libraries > START_GOAL / 2 else ""
    return [
        Row("lsn --help", whole, "s", START_GOAL, "at most", "CPU time", reason=reason),
        Row("lsn --help beyond typer and rich", whole - libraries, "s", of="CPU time"),
    ]


def rows_of_script(name: str) -> Callable[[bool], list[Row]]:
    """Return a section with the rows that another script measures."""

    def rows(tiny: bool) -> list[Row]:
        measured: list[Row] = import_module(f"benchmarks.speed.{name}").rows(tiny)
        return measured

    return rows


@dataclass(frozen=True)
class Section:
    """Rows of one subject, and the seconds that they take at most on two slow cores that are free."""

    rows: Callable[[bool], list[Row]]
    seconds: int


SECTIONS = {
    "learners": Section(learners, 240),
    "text": Section(text_passes, 100),
    "runtimes": Section(rows_of_script("runtimes"), 150),
    "decoding": Section(rows_of_script("decoding"), 60),
    "extraction": Section(rows_of_script("extraction"), 200),
    "metrics": Section(metrics, 40),
    "start": Section(start, 10),
    "verdict": Section(rows_of_script("first_verdict"), 60),
    "recorded": Section(lambda tiny: records.rows(), 1),
}


@dataclass(frozen=True)
class Measured:
    """The rows of a section, the seconds that it took, and the fraction of the processor that others used."""

    rows: list[Row]
    seconds: float
    others: float


def expected_seconds() -> dict[str, int]:
    """Return the seconds of each section: those recorded on this machine, or else its budget."""
    recorded: dict[str, int] = (records.own("all") or {"seconds": {}})["seconds"]
    return {name: recorded.get(name, section.seconds) for name, section in SECTIONS.items()}


def run_section(name: str, tiny: bool) -> Measured:
    """Run a section; if it fails, the only row states the reason."""
    section = SECTIONS[name]
    before, others, threads = time.perf_counter(), others_seconds(), torch.get_num_threads()
    try:
        rows = section.rows(tiny)
    except Exception as error:  # the other sections still run
        rows = [Row(name, None, "", problem=f"failed: {type(error).__name__}: {error}")]
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - before
    used = 0.0 if others is None else ((others_seconds() or 0) - others) / seconds / (os.cpu_count() or 1)
    busy = max(0.0, used)
    note(f"{name}: took {seconds:.0f} s; other programs used {busy:.0%} of the processor")
    rows = [replace(row, goal=None) if tiny else _excused(row, busy) for row in rows]
    return Measured(rows, seconds, busy)


def run_in_new_process(name: str) -> Measured:
    """Run a section in a process of its own, so that a crash ends no other section."""
    began = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(run_section, name, False).result()
        except BrokenProcessPool:
            row = Row(name, None, "", problem="failed: its process crashed")
            return Measured([row], time.perf_counter() - began, 0.0)


def _excused(row: Row, busy: float) -> Row:
    """Return the row with a reason if it is of wall time, and other programs disturbed it."""
    if row.reason or busy < BUSY or "wall" not in row.of:
        return row
    return replace(row, reason=f"{row.of}, but other programs used {busy:.0%} of the processor")


def main(arguments: list[str] | None = None) -> None:
    """Run the sections and print the table; exit with 1 if a goal was not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="a section; repeatable")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--record", action="store_true", help="write results/all.json")
    kind.add_argument("--tiny", action="store_true", help="on tiny models, as a smoke test; judges nothing")
    options = parser.parse_args(arguments)
    if options.only and options.record:
        parser.error("--record is of all sections: leave --only out")
    chosen, expected = options.only or list(SECTIONS), expected_seconds()
    if not options.tiny:
        note(f"{len(chosen)} sections, about {sum(expected[name] for name in chosen) / 60:.0f} minutes")
    results: dict[str, Measured] = {}
    for name in chosen:
        if not options.tiny:
            note(f"{name}: about {expected[name]} s")
        results[name] = run_section(name, True) if options.tiny else run_in_new_process(name)
    here, total = machine(), sum(result.seconds for result in results.values())
    print(table({name: result.rows for name, result in results.items()}))
    print(f"{name_of(here)}, torch {here['torch']}, {here['date']}; {total:.0f} s")
    if options.tiny:
        print("Tiny: these figures mean nothing.")
        return
    rows = [row for result in results.values() for row in result.rows]
    print(summary(rows))
    if options.record:
        record(
            "all",
            "Every ratio with its goal",
            seconds={name: round(result.seconds) for name, result in results.items()},
            others={name: round(result.others, 2) for name, result in results.items()},
            sections={name: [row.as_dict() for row in result.rows] for name, result in results.items()},
        )
    if any(row.failed for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
