"""Kills (SIGKILL) of whole commands at random moments: nothing is lost, the end is the same to the byte.

    python -m tests.robustness.kills [--kills 200] [--only NAME] [--seed 0] [--record]

Kills ``lsn extract``, ``train-pos``, ``train-neg``, ``bench``, ``store merge``, ``score --move``, ``report``
and ``watch`` on images of noise, with the mini model. After each kill the same command runs again. Counts
what was committed and is gone, and compares what a run leaves in the end with what an undisturbed one leaves.
Commits as often as it can. Ends with 1 if anything was lost or differs; --record writes results/kills.json.
Needs fork (not Windows).
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks.records import record
from tests.robustness.killing import Count, Subject, killed
from tests.robustness.kills_making import bench, extract, extract_by_two, train
from tests.robustness.kills_using import merge, move, report, watch

SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "extract": extract,
    "extract-by-two": extract_by_two,
    "train-pos": partial(train, "positive"),
    "train-neg": partial(train, "negative"),
    "bench": bench,
    "store-merge": merge,
    "score-move": move,
    "report": report,
    "watch": watch,
}
SHARES = {
    "extract": 0.14,
    "extract-by-two": 0.07,
    "train-pos": 0.07,
    "train-neg": 0.07,
    "bench": 0.13,
    "store-merge": 0.13,
    "score-move": 0.13,
    "report": 0.13,
    "watch": 0.13,
}
"""Of the kills."""


def run(total: int, folder: Path, seed: int, only: str | None = None) -> dict[str, Count]:
    """Kill every command, each its share of ``total``; prints a line as each is done."""
    torch.set_num_threads(1)
    columns = ("kills", "with work", "lost", "finished", "identical", "seconds")
    print(f"{'command':<20}", *(f"{column:>10}" for column in columns))
    counts = {}
    for name in SHARES if only is None else [only]:
        place = folder / name
        place.mkdir()
        kills = total if only else max(1, round(total * SHARES[name]))
        counts[name] = one = killed(SUBJECTS[name](place), kills, place, seed)
        figures = (one.kills, one.with_work, one.lost, one.finished, one.identical, round(one.seconds))
        print(f"{name:<20}", *(f"{figure:>10}" for figure in figures))
        print("".join(f"  {sentence}\n" for sentence in one.harm), end="", flush=True)
    return counts


def main() -> None:
    """Kill, print, and record on demand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--only", choices=list(SHARES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"  # where the key of undo files lies
        counts = run(given.kills, Path(folder), given.seed, given.only)
    kills, good = (sum(getattr(one, name) for one in counts.values()) for name in ("kills", "identical"))
    ends = sum(one.finished for one in counts.values())
    print(f"{kills} kills; {good} of {ends} finished runs identical to one that nothing happened to")
    if given.record:
        what = f"{kills} kills (SIGKILL) at random moments, each followed by the same command"
        record("kills", what, seed=given.seed, rows={name: asdict(one) for name, one in counts.items()})
    raise SystemExit(1 if any(one.harm for one in counts.values()) else 0)


if __name__ == "__main__":
    main()
