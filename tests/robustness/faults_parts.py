"""Faults in the parts of a split: cut short, foreign, missing, and a worker that dies.

Imported by tests/robustness/faults.py for its table.
"""

import os
import shutil
from pathlib import Path

from tests.robustness.faultlab import EXTRACT, Lab, check, fault, pieces, sentence, until_committed

PARTS = [*EXTRACT, "--part-rows", "40"]  # three of them
EXPECTED = 3


def unmerged(lab: Lab, place: Path, images: Path) -> Path:
    """A workspace in which every part is made and the split is not finished."""
    work = place / "work"
    lab.well("extract", images, "--work", work, "--no-merge", *PARTS)
    check(len(pieces(work)) == EXPECTED, f"{len(pieces(work))} parts")
    return work


def refused_then_made_again(lab: Lab, work: Path, wanted: str) -> str:
    """Merging refuses and names the part; the same extraction makes it again."""
    said = sentence(lab.lsn("store", "merge", "--work", work), 1, wanted)
    check(not (work / "features.h5").exists(), "a store was made of it")
    return f"{said} Then {lab.same_end(work, '--part-rows', '40')}"


@fault("part cut short")
def part_cut(lab: Lab, place: Path) -> str:
    work = unmerged(lab, place, lab.images)
    os.truncate(pieces(work)[1], 2000)
    return refused_then_made_again(lab, work, pieces(work)[1].name)


@fault("part with a flipped bit")
def part_flipped(lab: Lab, place: Path) -> str:
    work = unmerged(lab, place, lab.images)
    path = pieces(work)[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return refused_then_made_again(lab, work, path.name)


@fault("part missing")
def part_missing(lab: Lab, place: Path) -> str:
    work = unmerged(lab, place, lab.images)
    pieces(work)[1].unlink()
    return refused_then_made_again(lab, work, "not made yet: 1")


@fault("part of another extraction")
def part_foreign(lab: Lab, place: Path) -> str:
    work = unmerged(lab, place, lab.images)
    other = shutil.copytree(lab.images, place / "other")
    image = next(other.rglob("*.png"))
    image.write_bytes(image.read_bytes() + b" ")  # of another size: another listing
    theirs = unmerged(lab, place / "theirs", other)
    shutil.copy(pieces(theirs)[1], pieces(work)[1])
    return refused_then_made_again(lab, work, "of another extraction")


@fault("part in the place of another")
def part_misplaced(lab: Lab, place: Path) -> str:
    work = unmerged(lab, place, lab.images)
    shutil.copy(pieces(work)[2], pieces(work)[1])
    return refused_then_made_again(lab, work, pieces(work)[1].name)


@fault("part file of a merged split missing or cut")
def rows_harmed(lab: Lab, place: Path) -> str:
    work = unmerged(lab, place, lab.images)
    lab.well("store", "merge", "--work", work, "--quiet")
    path = sorted((work / "features.h5.rows").rglob("rows-*.h5"))[1]
    sound, said = path.read_bytes(), ""
    for data in (sound[:-900], None):
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        sentence(lab.lsn("store", "verify", "--work", work), 1, "not sound")
        said = sentence(lab.lsn("store", "export", place / "rows.npz", "--work", work), 1, path.name)
        check(not (place / "rows.npz").exists(), "rows were exported")
    path.write_bytes(sound)
    lab.well("store", "merge", "--copy", "--work", work, "--quiet")
    check((work / "features.h5").read_bytes() == lab.whole, "another features.h5 than an unharmed run's")
    return f"{said} Once it is back, --copy ends identical"


@fault("one of two workers killed")
def worker_killed(lab: Lab, place: Path) -> str:
    work = place / "work"
    words = ["extract", lab.images, "--work", work, "--engine", "torchrun", *EXTRACT, "--part-rows", "8"]

    def rank(number: int, launch: str) -> None:
        os.environ.update(
            RANK=str(number), WORLD_SIZE="2", LOCAL_RANK=str(number), TORCHELASTIC_RUN_ID=launch
        )

    first = [lab.begin(*words, log=f"{n}.log", before=lambda n=n: rank(n, "one")) for n in range(2)]
    until_committed(first[1], work, 4)
    first[1].kill()
    ends = [running.wait().code for running in first]
    check(ends == [0, -9], f"exit codes {ends}")
    made = len(pieces(work))
    again = [lab.begin(*words, log=f"{n}.log", before=lambda n=n: rank(n, "two")) for n in range(2)]
    ends = [running.wait().code for running in again]
    check(ends == [0, 0], f"exit codes {ends}: {again[0].log.read_text()[-200:]}")
    check((work / "features.h5").read_bytes() == lab.whole, "another features.h5 than an unharmed run's")
    return f"the other makes its own share ({made} parts and pieces); both again end identical"
