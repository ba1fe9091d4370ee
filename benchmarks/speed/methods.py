"""Time, memory and AUROC of every method that needs only a store, on synthetic features.

    python -m benchmarks.speed.methods [--quick | --tiny] [--method NAME ...]

Each method is fitted and scores in a process of its own, with one thread and its default settings, at the
size of ImageNet. Features are clusters around class directions, OOD clusters around others, float16 as in a
store. AUROC only shows that a method works; it does not tell which is better on images. Only the full form
writes results/methods.json; with --method the rows of other methods stay there.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.machines import machine, name_of
from benchmarks.records import own, record
from benchmarks.speed.peak import MIB, peak_in_new_process
from lsncli.metrics import evaluate_scores
from lsncli.scores import SCORES, load_score, score_in_chunks
from lsncli.types import Float64Array, FloatArray, Head, Rows, unit

SETS = 3
"""Sets of negative prompts."""

LEFT_OUT = frozenset({"pixels", "candidates", "words"})
"""Needs of scores that a store cannot meet."""

LIMIT = 24 * 1024
"""Most MiB of a method in the full form."""


@dataclass(frozen=True)
class Form:
    """How many classes, dimensions, training rows a class, and ID and OOD test rows."""

    classes: int
    dim: int
    shots: int
    inside: int
    outside: int

    def __str__(self) -> str:
        return (
            f"{self.classes:,} classes, {self.dim} dimensions, {self.classes * self.shots:,} training rows, "
            f"{self.inside:,} ID and {self.outside:,} OOD test rows"
        )


FORMS = {
    "full": Form(1000, 512, 128, 50_000, 10_000),
    "quick": Form(50, 128, 64, 2_000, 1_000),
    "tiny": Form(5, 16, 64, 100, 100),
}


@dataclass(frozen=True)
class Bench:
    """The input of a method: a text head with negative prompts, training rows, test rows."""

    head: Head
    train: Rows
    inside: FloatArray
    outside: FloatArray


def synthetic(form: Form) -> Bench:
    """Return features with CLIP's geometry, the same every time: images in one cone and texts in another.

    Images of a class lie around the direction of the class, OOD images around ``classes / 10`` (at least 3)
    other directions; the spread decays over the dimensions. Negative prompts point away from their class.
    """
    rng = np.random.default_rng(0)
    directions = unit(rng.normal(size=(form.classes, form.dim)))
    others = unit(rng.normal(size=(max(3, form.classes // 10), form.dim)))
    image_cone, text_cone = unit(rng.normal(size=(2, form.dim)))
    width = rng.permutation(np.geomspace(1, 0.1, form.dim))
    width *= 0.6 / np.linalg.norm(width)

    def images(centres: FloatArray, labels: np.ndarray) -> FloatArray:
        features = np.empty((len(labels), form.dim), dtype=np.float16)
        for start in range(0, len(labels), 8192):
            own = labels[start : start + 8192]
            noise = width * rng.normal(size=(len(own), form.dim))
            features[start : start + 8192] = 10 * (image_cone + 0.5 * centres[own] + noise)
        return features

    def texts(lean: float) -> Float64Array:
        noise = 0.3 * unit(rng.normal(size=directions.shape))
        return unit(text_cone + lean * directions + noise)

    head = Head(
        tuple(f"class {c}" for c in range(form.classes)),
        texts(0.6),
        negative=np.array([texts(-0.6) for _ in range(SETS)]),
    )
    labels = np.repeat(np.arange(form.classes, dtype=np.int32), form.shots)
    train = Rows(images(directions, labels), labels)
    inside = images(directions, rng.integers(0, form.classes, form.inside))
    return Bench(head, train, inside, images(others, rng.integers(0, len(others), form.outside)))


def case(name: str, form: str) -> Callable[[], dict[str, float]]:
    """Prepare the score ``name`` for ``speed.peak``; the work is to fit and to score."""
    bench, score = synthetic(FORMS[form]), load_score(name)

    def work() -> dict[str, float]:
        start = time.perf_counter()
        learned = score.fit(bench.head, bench.train if {"train", "labels"} & score.NEEDS else None)
        fitted = time.perf_counter()
        scorer = score.scorer(bench.head, learned)
        inside, outside = (score_in_chunks(scorer, rows) for rows in (bench.inside, bench.outside))
        scored = time.perf_counter()
        return {
            "fit_s": fitted - start,
            "score_s": scored - fitted,
            "learned_mib": sum(array.nbytes for array in learned.values()) / MIB,
            "auroc": evaluate_scores(inside, outside).auroc,
        }

    return work


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; the full form also writes the record. Exit with 1 if a method failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a small store, a few minutes at most")
    size.add_argument("--tiny", action="store_true", help="a tiny store, to see that the script runs")
    parser.add_argument("--method", action="append", choices=list(SCORES), help="only this one; repeatable")
    given = parser.parse_args(arguments)
    form = "quick" if given.quick else "tiny" if given.tiny else "full"
    asked = given.method or list(SCORES)
    print(f"Synthetic features: {FORMS[form]}.")
    if form != "full":
        print(f"Reduced ({form}): times and memory are not those of ImageNet's size; nothing is written.")
    left_out = {name: sorted(LEFT_OUT & load_score(name).NEEDS) for name in asked}
    for name, needs in left_out.items():
        if needs:
            print(f"Left out: {name}, which needs {' and '.join(needs)}.")
    rows: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    print(f"  {'method':<14}{'fit s':>9}{'score s':>9}{'peak MiB':>10}{'process MiB':>13}{'AUROC':>8}")
    for name in (name for name in asked if not left_out[name]):
        try:
            row = rows[name] = peak_in_new_process("benchmarks.speed.methods:case", name, form)
        except RuntimeError as error:
            failed[name] = str(error).splitlines()[-1]
            print(f"  {name:<14} failed: {failed[name]}", flush=True)
            continue
        times, memory = (row["fit_s"], row["score_s"]), (row["peak_mib"], row["process_mib"])
        print(
            f"  {name:<14}{times[0]:>9.2f}{times[1]:>9.2f}{memory[0]:>10.0f}{memory[1]:>13.0f}"
            f"{100 * row['auroc']:>8.2f}",
            flush=True,
        )
    if form == "full":
        rows = _kept(asked) | rows
        what = f"Fit and score with every method that needs only a store; synthetic features: {FORMS[form]}"
        needs = {name: sorted(LEFT_OUT & load_score(name).NEEDS) for name in SCORES}
        skipped = {name: need for name, need in needs.items() if need}
        record("methods", what, rows=rows, left_out=skipped, failed=failed, summary=_summary(rows))
    print("\n".join(_summary(rows).values()))
    if failed:
        sys.exit(1)


def _kept(asked: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the rows of other methods from this machine's last run; a run of some methods keeps them."""
    rows = (own("methods") or {"rows": {}})["rows"]
    return {name: row for name, row in rows.items() if name not in asked}


def _summary(rows: dict[str, dict[str, float]]) -> dict[str, str]:
    """Return sentences about the slowest method, the largest one, and the machine."""
    if not rows:
        return {}
    slowest = max(rows, key=lambda name: rows[name]["fit_s"] + rows[name]["score_s"])
    largest = max(rows, key=lambda name: rows[name]["process_mib"])
    seconds, memory = rows[slowest]["fit_s"] + rows[slowest]["score_s"], rows[largest]["process_mib"]
    return {
        "slowest": f"Slowest: {slowest}, {seconds:.0f} s.",
        "largest": f"Largest: {largest}, {memory:.0f} MiB, {'within' if memory < LIMIT else 'ABOVE'} 24 GiB.",
        "where": f"One thread of {name_of(machine())}.",
    }


if __name__ == "__main__":
    main()
