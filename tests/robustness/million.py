"""A million rows through parts, verification, merging and evaluation: does memory stay flat?

    python -m tests.robustness.million [--rows 1000000] [--dim 512] [--record]

Rows are made up (no images, no model). Every step is a process of its own, run with a quarter of the rows and
with all of them; its memory is what it holds for itself (RssAnon, looked at every few milliseconds), since
pages of files that the system can take back at any time are nobody's. A row of features is 2 x dim bytes; a
step is flat if a row more costs less than a quarter of that. Keys and scores do grow. Linux only.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.records import record
from lsncli.interchange.exchange import imported_fingerprint
from lsncli.store.format import Chunk, Split
from lsncli.store.part import Part
from lsncli.store.staging import (
    PART_ROWS,
    ExtractionPlan,
    SplitMetadata,
    prepare_staging,
    split_lock,
    write_staging,
)
from lsncli.store.writer import write_split, write_text

CLASSES = tuple(f"class {number}" for number in range(100))
BATCH = 1024
MIB = 2**20
LSN = [sys.executable, "-m", "lsncli"]
EVAL = ["eval", "--id", "test", "--ood", "million", "--method", "mcm", "--method", "energy", "--no-cache"]


def features(start: int, count: int, dim: int) -> np.ndarray:
    """Made-up features of rows ``start`` and on; the same whoever asks."""
    return np.random.default_rng([start, dim]).standard_normal((count, dim), np.float32).astype(np.float16)


def make_parts(work: Path, rows: int, dim: int) -> None:
    """The split "million" as an extraction leaves it before it is finished."""
    store, model = work / "features.h5", imported_fingerprint("made up", dim, 100.0)
    part_rows = PART_ROWS - PART_ROWS % BATCH
    plan = ExtractionPlan("ab" * 32, model.digest, rows, dim, BATCH, part_rows, {})
    with split_lock(store, "million"):
        folder = prepare_staging(store, "million", plan, overwrite=False)
        write_staging(folder, plan, SplitMetadata(model, (), (), "made up"))
    for index in range(plan.parts):
        with Part.open(folder, plan, index) as part:
            for start in range(part.next_item, part.stop, BATCH):
                stop = min(start + BATCH, part.stop)
                labels = np.full(stop - start, -1, np.int32)
                keys = tuple(f"images/{row:09}.jpg" for row in range(start, stop))
                part.add(Chunk(start, stop, features(start, stop - start, dim), labels, keys, ()))


def prepare(work: Path, dim: int) -> None:
    """A store with small splits "train" and "test" and the text features of their classes."""
    store, model = work / "features.h5", imported_fingerprint("made up", dim, 100.0)
    text = np.random.default_rng(1).standard_normal((len(CLASSES), dim)).astype(np.float32)
    for name, rows in (("train", 2000), ("test", 10_000)):
        labels = (np.arange(rows) % len(CLASSES)).astype(np.int32)
        found = (text[labels] + features(len(name), rows, dim)).astype(np.float16)
        keys = tuple(f"{name}/{row:06}.jpg" for row in range(rows))
        write_split(store, Split(name, found, labels, keys, CLASSES), model)
    write_text(store, CLASSES, text)


def watched(command: list[str]) -> tuple[float, float]:
    """Seconds and the most MiB of its own memory that a command took. Raises RuntimeError if it fails."""
    began, most = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            own = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
            most = max(most, int(own[0].split()[1]) / 1024 if own else 0.0)
            time.sleep(0.005)
        said.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {said.read()[-400:]}")
    return time.perf_counter() - began, most


def steps(work: Path, rows: int, dim: int) -> dict[str, Callable[[], list[str]]]:
    """The steps in order, and the command of each."""
    there = ["--work", str(work)]
    make = f"from tests.robustness.million import *; make_parts(Path({str(work)!r}), {rows}, {dim})"
    return {
        "make the parts": lambda: [sys.executable, "-c", make],
        "verify the parts": lambda: [*LSN, "store", "verify", *there],
        "merge": lambda: [*LSN, "store", "merge", "--split", "million", *there],
        "verify, merged": lambda: [*LSN, "store", "verify", *there],
        "merge into one file": lambda: [*LSN, "store", "merge", "--split", "million", "--copy", *there],
        "verify, one file": lambda: [*LSN, "store", "verify", *there],
        "evaluate 2 methods": lambda: [*LSN, *EVAL, *there],
    }


def run(rows: int, dim: int, folder: Path) -> dict[str, dict[str, float]]:
    """Every step with a quarter of the rows and with all of them; prints the table."""
    found: dict[str, dict[str, float]] = {}
    for count in (rows // 4, rows):
        work = folder / str(count)
        work.mkdir()
        prepare(work, dim)
        for name, command in steps(work, count, dim).items():
            seconds, most = watched(command())
            found.setdefault(name, {})[str(count)] = most
            found[name]["seconds"] = seconds
    print(f"{'step':<22}{rows // 4:>12,}{rows:>12,} rows, MiB   bytes a row more   seconds   flat")
    for name, row in found.items():
        small, large = row[str(rows // 4)], row[str(rows)]
        row["bytes_a_row"] = (large - small) * MIB / (rows - rows // 4)
        row["flat"] = row["bytes_a_row"] < dim / 2
        flat, more = "yes" if row["flat"] else "NO", row["bytes_a_row"]
        print(f"{name:<22}{small:>12.0f}{large:>12.0f}{more:>28.0f}{row['seconds']:>10.1f}   {flat}")
    return found


def main() -> None:
    """Run, print, and record on demand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(given.rows, given.dim, Path(folder))
    if given.record:
        record("million", f"memory at {given.rows // 4:,} and {given.rows:,} rows of {given.dim}", rows=rows)
    raise SystemExit(0 if all(row["flat"] for row in rows.values()) else 1)


if __name__ == "__main__":
    main()
