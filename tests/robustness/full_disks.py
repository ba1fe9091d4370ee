"""Every command that writes, on disks that fill up at each of its blocks, and on disks without inodes.

    python -m tests.robustness.full_disks [--only PATTERN] [--record]

Each runs on a file system in memory with room for what is there and a few blocks (or inodes) more: doubling
numbers until it ends well, then the border itself. A run that fails must say so in one sentence and end with
1; what was there before is the same to the byte, nothing torn has a final name, no temporary file is left,
and with room the same command ends well, in the files of a run that nothing happened to. Prints a row a
command and ends with 1 if one failed otherwise. --record writes results/full-disks.json. Needs root (Linux).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.records import record
from lsncli.store.verify import verify
from tests.robustness.faultlab import EXTRACT, Lab, Wrong, check, sentence
from tests.robustness.kills_making import CPU, SUITE, noise

BLOCK = os.sysconf("SC_PAGE_SIZE")
ROOMY = 64 << 20
MOST = 4096
"""Blocks or inodes; a command that needs more has a fault of its own."""
FULL = "No space left|(could not|cannot) be (written|created|filed)|Nothing was measured"
MISSING = "Fill in with"
"""What a table says of rows that were not measured; the command ends with 0 if others were."""
VARYING = re.compile(r"results/|figures/|.*timings\.jsonl|.*/cache/")
"""Files in a workspace that hold seconds and dates, or that a run can do without."""
MINUTE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC")


@dataclass(frozen=True)
class Writer:
    """A command line, given the disk. ``source`` is copied there first; ``old`` are files to be replaced."""

    words: Callable[[Path], list[object]]
    source: Path
    old: tuple[str, ...] = ()


@dataclass
class Tried:
    """How often a command ran out of room, and what was wrong then."""

    full: int = 0
    blocks: int = 0
    """The fewest with which it ends well."""
    inodes: int = 0
    harm: list[str] = field(default_factory=list)


def can_mount() -> bool:
    """Whether this user may mount a file system in memory."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with disk(Path(folder) / "disk"):
                return True
        except (OSError, subprocess.SubprocessError):
            return False


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """Mount a file system in memory at ``place``."""
    place.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "lsn-full", place], check=True, capture_output=True
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def limit(place: Path, *, blocks: int | None = None, inodes: int | None = None) -> None:
    """Leave room for so many more blocks or inodes, or for any number."""
    now = os.statvfs(place)
    used = now.f_blocks - now.f_bfree
    size = (used + blocks) * BLOCK if blocks is not None else ROOMY
    files = now.f_files - now.f_ffree + inodes if inodes is not None else 100_000
    options = f"remount,size={max(size, BLOCK)},nr_inodes={files}"
    subprocess.run(["mount", "-o", options, place], check=True, capture_output=True)


def content(folder: Path) -> dict[str, bytes]:
    """Files below a folder by path; of links, where they lead."""
    return {
        str(path.relative_to(folder)): bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def steady(files: dict[str, bytes]) -> dict[str, bytes]:
    """Those whose bytes do not depend on the clock."""
    return {name: MINUTE.sub(b"", data) for name, data in files.items() if not VARYING.match(name)}


def lay_out(writer: Writer, place: Path) -> None:
    """Empty the disk, and put there what the command starts from."""
    for path in place.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(writer.source, place, dirs_exist_ok=True, symlinks=True)
    for name in writer.old:
        (place / name).write_bytes(b"the file of before\n")


def attempt(lab: Lab, writer: Writer, place: Path, whole: dict[str, bytes], **room: int) -> bool:
    """Run with so little room; False if it was enough. Raises Wrong if it failed in another way."""
    lay_out(writer, place)
    before = content(place)
    limit(place, **room)
    try:
        ended = lab.lsn(*writer.words(place))
    finally:
        limit(place)
    after = content(place)
    if ended.code == 0 and MISSING not in ended.said:
        check_files(after, whole, f"with {room} it ends with 0 and")
        return False
    if ended.code:
        sentence(ended, 1, FULL)
    sorted_whole = [data for path, data in whole.items() if path.startswith("sorted/")]
    filed = [data for path, data in after.items() if path.startswith("sorted/")]
    for path, data in before.items():
        if path.startswith("images/"):
            check(data in (after.get(path), *filed), f"with {room}, {path} is lost")
        elif not VARYING.match(path):
            check(after.get(path) in (data, whole.get(path)), f"with {room}, {path} was changed")
    for path in after.keys() - before.keys():
        check(not path.rpartition("/")[2].startswith("."), f"with {room}, {path} is left behind")
        if path.startswith("sorted/") and path.endswith(".png"):  # of two of one name, the first gets it
            check(after[path] in sorted_whole, f"with {room}, {path} is torn")
        elif path in whole and not VARYING.match(path):
            check(is_sound(place / path, after[path], whole[path]), f"with {room}, {path} is torn")
    again = lab.lsn(*writer.words(place))
    check(again.code == 0, f"with room after {room}: exit code {again.code}: {again.said.strip()[-200:]}")
    check_files(content(place), whole, f"with room after {room}")
    return True


def is_sound(path: Path, data: bytes, whole: bytes) -> bool:
    """Whether a file is that of an undisturbed run, or one on the way to it."""
    if path.suffix == ".jsonl":  # a row a line
        return whole.startswith(data)
    if path.suffix == ".h5":  # a split at a time
        verify(path)
        return True
    return data == whole


def check_files(found: dict[str, bytes], whole: dict[str, bytes], when: str) -> None:
    """Compare a workspace with that of an undisturbed run; where images are filed, only those, by content."""
    if any(path.startswith("images/") for path in whole):
        kinds = [
            {(path.split("/")[0], data) for path, data in images_of(one).items()} for one in (found, whole)
        ]
        check(kinds[0] == kinds[1], f"{when} other images")
        return
    found, whole = steady(found), steady(whole)
    other = sorted(path for path in {*found, *whole} if found.get(path) != whole.get(path))
    check(not other, f"{when} other files: {other[:3]}")


def images_of(files: dict[str, bytes]) -> dict[str, bytes]:
    """The images among files."""
    return {path: data for path, data in files.items() if path.endswith(".png")}


def try_out(lab: Lab, writer: Writer, place: Path) -> Tried:
    """Try a command with every kind of little room."""
    tried = Tried()
    lay_out(writer, place)
    limit(place)
    lab.well(*writer.words(place))
    whole = content(place)
    for kind in ("blocks", "inodes"):
        try:
            enough = fewest(partial(attempt, lab, writer, place, whole), kind, tried)
            setattr(tried, kind, enough)
        except Wrong as wrong:
            tried.harm.append(str(wrong).replace(f"{place}/", ""))
    return tried


def fewest(fails: Callable[..., bool], kind: str, tried: Tried) -> int:
    """The least room with which a command ends well: doubled from none, then halved in between."""

    def is_full(count: int) -> bool:
        full = fails(**{kind: count})
        tried.full += full
        return full

    low, high = -1, 0
    while is_full(high):
        low, high = high, 2 * high + 1
        check(high < MOST, f"{high} {kind} are not enough")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_full(middle) else (low, middle)
    return high


def writers(lab: Lab) -> dict[str, Writer]:
    """Every command that writes, with what it starts from."""
    folder = lab.folder
    few = noise(folder / "few", 2, 8, 7)
    parts = folder / "parts"
    lab.well("extract", lab.images, "--work", parts, "--no-merge", "--part-rows", "40", *EXTRACT)
    filed = shutil.copytree(lab.trained, folder / "filed")
    shutil.copytree(few, filed / "images")
    (filed / "images" / "broken.png").write_bytes(b"")
    empty, data = folder / "empty", folder / "data"
    empty.mkdir()
    rows = np.random.default_rng(0).standard_normal((50, 512)).astype(np.float32)
    np.savez(folder / "rows.npz", features=rows, labels=np.arange(50) % 3)
    for seed, (name, count) in enumerate([("in-train", 4), ("in-test", 3), ("near", 3)]):
        noise(data / name, 3, count, seed)
    suite = folder / "noise.toml"
    suite.write_text(SUITE, encoding="utf-8")
    sort = ["--yes", "--max-failure-rate", "1", *CPU]
    table = ["--suite", suite, "--table", "mine", "--data", data]

    def trained(*words: object, old: str = "") -> Writer:
        """In a copy of the trained workspace; ``old`` is the output, which is there already."""

        def line(place: Path) -> list[object]:
            output = ["--output", place / old] if old else []
            return [*words, "--work", place, *output, *CPU]

        return Writer(line, lab.trained, (old,) if old else ())

    def exported(name: str) -> Writer:
        return Writer(
            lambda place: ["store", "export", place / name, "--work", place, "--quiet"], lab.trained, (name,)
        )

    def sorting(option: str) -> Writer:
        return Writer(
            lambda place: ["score", place / "images", "--work", place, option, place / "sorted", *sort], filed
        )

    return {
        "extract": trained("extract", few, "--split", "more", *EXTRACT[:-3]),
        "extract, parts": Writer(
            lambda place: ["extract", few, "--work", place, "--part-rows", "4", *EXTRACT], empty
        ),
        "store merge": Writer(lambda place: ["store", "merge", "--work", place, "--quiet"], parts),
        "store merge --copy": Writer(
            lambda place: ["store", "merge", "--copy", "--work", place, "--quiet"], parts
        ),
        "store import": Writer(
            lambda place: [
                *("store", "import", folder / "rows.npz", "--split", "new", "--model", "other"),
                *("--work", place, "--quiet"),
            ],
            empty,
        ),
        **{f"store export {end}": exported(f"out{end}") for end in (".npz", ".npy", ".csv", ".parquet")},
        "train-pos": trained("train-pos", "--epochs", "2"),
        "train-neg": trained("train-neg", "--epochs", "2"),
        "train-head": trained("train-head"),
        "calibrate": trained("calibrate", "--method", "mcm"),
        "eval": trained(
            *(
                "eval",
                "--id",
                "train",
                "--ood",
                "far",
                "--method",
                "mcm",
                "--method",
                "lsn",
                "--format",
                "csv",
            ),
            old="rows.csv",
        ),
        **{
            f"score, {form}": trained("score", few, "--format", form, old=f"rows.{form}")
            for form in ("csv", "json", "jsonl", "md", "tex", "parquet")
        },
        "score --copy": sorting("--copy"),
        "score --move": sorting("--move"),
        "score --link": sorting("--link"),
        "watch": Writer(
            lambda place: [
                *("watch", few, "--once", "--interval", "0.1", "--batch-size", "1", "--work", place),
                *("--output", place / "seen.jsonl", "--quiet", "--device", "cpu"),
            ],
            lab.trained,
        ),
        "report": trained("report", few, old="page.html"),
        "explain": trained(
            "explain",
            few / "class 0" / "000.png",
            "--to",
            folder / "explained",
            "--format",
            "json",
            old="parts.json",
        ),
        "bench": Writer(lambda place: ["bench", *table, "--work", place, *CPU], empty),
    }


def run(folder: Path, only: str = "") -> dict[str, Tried]:
    """Try every writer whose name matches ``only`` (a pattern); prints a row as each is done."""
    torch.set_num_threads(1)
    lab, found = Lab(folder).prepare(), {}
    print(f"{'command':<24}{'times full':>11}{'blocks':>8}{'inodes':>8}", flush=True)
    with disk(folder / "disk") as place:
        for name, writer in writers(lab).items():
            if re.search(only, name):
                found[name] = one = try_out(lab, writer, place)
                print(
                    f"{name:<24}{one.full:>11}{one.blocks:>8}{one.inodes:>8}  {'; '.join(one.harm)}",
                    flush=True,
                )
    return found


def main() -> None:
    """Try all, print, and record on demand."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="commands whose name matches this pattern"
    )
    parser.add_argument("--record", action="store_true", help="write results/full-disks.json")
    given = parser.parse_args()
    if not can_mount():
        sys.exit("This user may not mount a file system in memory: run it as root, on Linux.")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"  # where the key of undo files lies
        found = run(Path(folder), given.only)
    full, harmed = sum(one.full for one in found.values()), sum(bool(one.harm) for one in found.values())
    print(f"{len(found)} commands ran out of room {full} times; {harmed} went wrong")
    if given.record:
        what = f"{len(found)} commands that ran out of blocks or inodes {full} times"
        record("full-disks", what, rows={name: asdict(one) for name, one in found.items()})
    raise SystemExit(1 if harmed else 0)


if __name__ == "__main__":
    main()
