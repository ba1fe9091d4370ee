"""Steps of every learner against a plain loop over whole prompts, and the hours of whole runs.

    python -m benchmarks.speed.training [--quick | --tiny]

One thread, random weights in the shape of OpenAI's ViT-B/32, names of ImageNet classes, the paper's
settings. Ratios are of CPU time. ``--quick`` takes 20 classes instead of 100; only the full form writes
results/training.json, because a ratio at 20 classes is not the one to quote.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.records import record
from benchmarks.speed import steps
from benchmarks.speed.models import class_names, text_model
from benchmarks.speed.steps import PLAIN, Ground, Steps, images_in
from benchmarks.speed.text_tower import FULL, Form, form_of, kernels
from benchmarks.speed.timing import Rows, interleaved, table
from lsncli.prompts.settings import PromptSettings, preset

SHOTS = 128
"""Training images of a class in the paper's runs on ImageNet-100."""
TEST_IMAGES = 50
"""Validation images of an ImageNet class."""

JOINT_BYTES = 12e7
"""Bytes that the plain loop needs for each class with three sets at once; an upper estimate."""

COOP, NEGATIVE, JOINTLY = "CoOp step", "negative step, one set", "negative step, three sets jointly"
COCOOP, TEST = "CoCoOp training step", "CoCoOp test step, per image"

LEARNERS: dict[str, tuple[Callable[[Ground, PromptSettings], Steps], PromptSettings]] = {
    COOP: (steps.coop, preset("positive")),
    NEGATIVE: (steps.negative, preset("negative", "official")),
    JOINTLY: (steps.negative_jointly, preset("negative")),
    COCOOP: (steps.cocoop, preset("positive", learner="cocoop")),
    TEST: (steps.cocoop_test, preset("positive", learner="cocoop")),
}


@cache
def ground(form: Form) -> Ground:
    """Return model, towers and class names."""
    model = text_model(form.model)
    towers = {f"lsn {kernel}": model.tower(kernel) for kernel in kernels()}
    return Ground(model, towers, class_names(form.classes), torch.device("cpu"))


def measure(title: str, form: Form, budget: float | None = None) -> Rows:
    """Time a learner's steps; ``difference`` = ||ours - plain|| / ||plain|| of all losses (or cosines).

    Every variant takes the same number of steps from the same start, so that losses agree only if updates do.
    ``budget`` (seconds) is that of ``timing.interleaved``.
    """
    torch.set_num_threads(1)
    make, settings = LEARNERS[title]
    losses: dict[str, list[Tensor]] = {}

    def kept(name: str, step: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: losses.setdefault(name, []).append(step())

    variants = make(ground(form), replace(settings, length=min(settings.length, form.length)))
    rounds = min(2, form.rounds) if title == JOINTLY else form.rounds
    kept_losses = {name: kept(name, step) for name, step in variants.items()}
    rows = interleaved(kept_losses, rounds, clock="cpu", warm=False, budget=budget)
    plain = torch.stack(losses[PLAIN])
    for name, row in rows.items():
        row |= {key: row[key] / images_in(name) for key in ("wall_s", "cpu_s")}
        row |= {key: row[key] * images_in(name) for key in ("ratio", "lowest", "highest")}
        if not name.endswith(f"batch {steps.LARGE_BATCH}"):
            row["difference"] = float((torch.stack(losses[name]) - plain).norm() / plain.norm())
    return rows


def measure_in_new_process(title: str, form: Form, budget: float | None = None) -> Rows:
    """Return ``measure`` in a new process, as a run of that learner would be.

    With memory kept from larger steps of another learner, the plain loop would save an eighth of its time,
    all page faults, and ours nothing.
    """
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (title, form, budget))


def estimates(measured: dict[str, Rows], classes: int) -> dict[str, dict[str, float]]:
    """Return hours of one core for the paper's schedule: CPU time of the measured step times steps."""
    images, found = classes * SHOTS, {}
    for what, title, count in (
        ("CoOp, 50 epochs of batches of 8", COOP, 50 * images / 8),
        ("negative, 3 sets in turns, 100 epochs", NEGATIVE, 3 * 100 * images / 8),
        ("negative, 3 sets jointly, 100 epochs", JOINTLY, 100 * images / 8),
        ("CoCoOp, 10 epochs of single images", COCOOP, 10 * images),
        (f"CoCoOp test, {classes * TEST_IMAGES:,} images", TEST, classes * TEST_IMAGES),
    ):
        found[what] = {name: row["cpu_s"] * count / 3600 for name, row in measured.get(title, {}).items()}
    large = {name: row for name, row in measured[COOP].items() if name.endswith(f"batch {steps.LARGE_BATCH}")}
    what = f"CoOp, 50 epochs of batches of {steps.LARGE_BATCH} (another schedule)"
    found[what] = {name: row["cpu_s"] * 50 * images / steps.LARGE_BATCH / 3600 for name, row in large.items()}
    found["CoOp, 50 epochs of batches of 8"] = {
        name: hours for name, hours in found["CoOp, 50 epochs of batches of 8"].items() if name not in large
    }
    return found


def print_estimates(hours: dict[str, dict[str, float]], classes: int) -> None:
    """Print the hours."""
    print(
        f"\nWhole runs, EXTRAPOLATED from these steps: {classes} classes x {SHOTS} images, hours of one core"
    )
    for what, by_variant in hours.items():
        for name, value in by_variant.items():
            print(f"  {what:<54}{name:<28}{value:>10.1f}")


def enough_memory(classes: int) -> bool:
    """Return whether memory suffices for three sets at once in the plain loop; print it if not."""
    meminfo, need = Path("/proc/meminfo"), JOINT_BYTES * classes
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")] or [need]
    if free[0] < need:
        print(
            f"\n{JOINTLY}: left out; the plain loop needs {need / 2**30:.0f} GiB, free {free[0] / 2**30:.0f}."
        )
    return free[0] >= need


def main(arguments: list[str] | None = None) -> None:
    """Time all learners and extrapolate; the full form also writes the record."""
    form = form_of(argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]), arguments)
    torch.set_num_threads(1)
    measured: dict[str, Rows] = {}
    for title in LEARNERS:
        if title == JOINTLY and not enough_memory(form.classes):
            continue
        measured[title] = (measure_in_new_process if form.isolated else measure)(title, form)
        table(f"{title}, {form.classes} classes", measured[title])
        print(
            "  largest difference from the plain loop: "
            + f"{max(r.get('difference', 0) for r in measured[title].values()):.1e}",
            flush=True,
        )
    hours = estimates(measured, form.classes)
    print_estimates(hours, form.classes)
    if form is FULL:
        record(
            "training",
            f"Steps of every learner, {form.model}, one thread, ratios of CPU time",
            steps=measured,
            extrapolated_hours=hours,
        )


if __name__ == "__main__":
    main()
