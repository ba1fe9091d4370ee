"""Faults of the world around a run: other writers, full and read-only disks, clocks, files that change.

Imported by tests/robustness/faults.py for its table.
"""

import ctypes
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lsncli.store.reader import list_splits
from tests.robustness.faultlab import EXTRACT, Lab, check, fault, pieces, sentence, until_committed
from tests.robustness.kills_making import CPU

HOUR = 3600


@fault("two writers of one split")
def two_writers(lab: Lab, place: Path) -> str:
    work = place / "work"
    first = lab.begin("extract", lab.images, "--work", work, *EXTRACT, log="first.log")
    until_committed(first, work)
    second = lab.lsn("extract", lab.images, "--work", work, *EXTRACT)
    first.kill(signal.SIGCONT)
    check(first.wait().code == 0, "the first writer was harmed")
    check((work / "features.h5").read_bytes() == lab.whole, "the first writer's store differs")
    return sentence(second, 1, "another process")


@fault("two writers of two splits")
def two_splits(lab: Lab, place: Path) -> str:
    work = place / "work"
    both = [
        lab.begin("extract", lab.images, "--split", name, "--work", work, *EXTRACT, log=f"{name}.log")
        for name in ("train", "test")
    ]
    check([one.wait().code for one in both] == [0, 0], "one of them failed")
    check(set(list_splits(work / "features.h5")) == {"train", "test"}, "a split was lost")
    lab.well("store", "verify", "--work", work, "--quiet")
    return "both succeed, one after the other; the store is sound"


@contextmanager
def small_disk(place: Path, kib: int) -> Iterator[tuple[Path, Callable[[], object], Callable[[], object]]]:
    """A folder that has only so much room, what a process must do first, and how to make room.

    A file system in memory where this user may mount one; else a limit on the size of files.
    """
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "lsn-faults", str(disk)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        more = ["mount", "-o", "remount,size=64m", str(disk)]
        try:
            yield disk, list, lambda: subprocess.run(more, check=True)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        return

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 512, kib * 512))

    yield disk, limit, list


@fault("disk full while extracting")
def full_extracting(lab: Lab, place: Path) -> str:
    with small_disk(place, 96) as (disk, first, make_room):
        ended = lab.lsn("extract", lab.images, "--work", disk, *EXTRACT, before=first)
        said, kept = sentence(ended, 1, "could not be written|cannot be created"), len(pieces(disk))
        check(kept > 0, "nothing was kept")
        make_room()
        return f"{said} {kept} pieces kept; with room, {lab.same_end(disk)}"


@fault("disk full while finishing")
def full_finishing(lab: Lab, place: Path) -> str:
    size = len(lab.whole) // 1024
    with small_disk(place, size + size // 2 + 8) as (disk, first, make_room):
        ended = lab.lsn("extract", lab.images, "--work", disk, *EXTRACT, "--batch-size", "40", before=first)
        said = sentence(ended, 1, "could not be written")
        make_room()
        lab.well("extract", lab.images, "--work", disk, *EXTRACT, "--batch-size", "40")
        lab.well("store", "verify", "--work", disk, "--quiet")
        return f"{said} With room, the same command ends well"


@fault("disk full while training")
def full_training(lab: Lab, place: Path) -> str:
    with small_disk(place, 192) as (disk, first, make_room):
        shutil.copy(lab.trained / "features.h5", disk)
        filler = disk / "filler"
        with open(filler, "wb") as file:
            room = os.statvfs(disk)
            file.write(bytes(max(0, min(1 << 20, room.f_bavail * room.f_frsize - 8192))))
        words = ["train-pos", "--epochs", "4", "--work", disk, *CPU]
        said = sentence(lab.lsn(*words, before=first), 1, "could not be written")
        make_room()
        lab.well(*words)
        return f"{said} With room, the same command ends well"


@fault("disk full while writing verdicts")
def full_verdicts(lab: Lab, place: Path) -> str:
    work = lab.workspace(place)
    with small_disk(place, 4) as (disk, first, _):
        words = ["score", lab.images, "--work", work, "--format", "csv", "--output", disk / "rows.csv", *CPU]
        return sentence(lab.lsn(*words, before=first), 1, "could not be written|cannot be written")


def without_powers() -> None:
    """Make this process one that must heed the modes of files, as everybody but root must (Linux)."""
    if os.geteuid() == 0:
        header, none = struct.pack("<Ii", 0x20080522, 0), bytes(24)  # version 3: no capability of any kind
        check(ctypes.CDLL(None).capset(header, none) == 0, "root's powers could not be laid down")


@fault("read-only folder")
def read_only(lab: Lab, place: Path) -> str:
    work = lab.workspace(place)
    work.chmod(0o555)
    before = {path.name: path.read_bytes() for path in work.iterdir() if path.is_file()}
    words = ["extract", lab.images, "--split", "more", "--work", work, *EXTRACT]
    said = sentence(lab.lsn(*words, before=without_powers), 1, "Permission denied")
    for words in (["train-pos", "--epochs", "1"], ["calibrate", "--method", "mcm"]):
        sentence(lab.lsn(*words, "--work", work, *CPU, before=without_powers), 1, "Permission denied")
    lab.well("score", lab.images / "class 0" / "000.png", "--work", work, *CPU, before=without_powers)
    work.chmod(0o755)
    after = {path.name: path.read_bytes() for path in work.iterdir() if path.is_file()}
    check(after == before, "something in it changed")
    return f"{said} `lsn score` still works in it"


@fault("images that may not be read")
def unreadable(lab: Lab, place: Path) -> str:
    images = shutil.copytree(lab.images, place / "images")
    (images / "class 0" / "003.png").chmod(0)
    (images / "class 1").chmod(0)
    work = place / "work"
    words = ["extract", images, "--work", work, "--max-failure-rate", "1", *EXTRACT]
    lab.well(*words, before=without_powers)
    (images / "class 1").chmod(0o755)
    failures = list_splits(work / "features.h5")["train"].failures
    check({one.key for one in failures} == {"class 0/003.png", "class 1/"}, f"failures: {failures}")
    return "; ".join(f"{one.key}: {one.reason}" for one in failures)


@fault("clock set back between kill and resume")
def clock_back(lab: Lab, place: Path) -> str:
    work = place / "work"
    killed = lab.begin("extract", lab.images, "--work", work, *EXTRACT)
    until_committed(killed, work, 5)
    killed.kill()
    killed.wait()
    kept = len(pieces(work))
    for path in work.rglob("*"):
        os.utime(path, (time.time() + 1000 * HOUR,) * 2)  # as seen by a clock that was set back
    said = lab.same_end(work)
    return f"{kept} pieces of the future are used; {said}"


def jumping_clock() -> None:
    """Make the clock jump by up to a day, both ways, at every look."""
    real, jump = time.time, random.Random(1)
    time.time = lambda: real() + jump.uniform(-24, 24) * HOUR


@fault("clock that jumps during the run")
def clock_jumps(lab: Lab, place: Path) -> str:
    work = place / "work"
    lab.well("extract", lab.images, "--work", work, *EXTRACT, before=jumping_clock)
    check((work / "features.h5").read_bytes() == lab.whole, "another features.h5 than an unharmed run's")
    trained = lab.workspace(place / "trained")
    (trained / "positive.safetensors").unlink()
    lab.well("train-pos", "--epochs", "1", "--work", trained, *CPU, before=jumping_clock)
    learned, expected = (folder / "positive.safetensors" for folder in (trained, lab.trained))
    check(learned.read_bytes() == expected.read_bytes(), "other prompts than an unharmed run's")
    return "nothing depends on it: identical store and prompts"


def while_stopped(lab: Lab, place: Path, source: Path, act: Callable[[], object]) -> list[str]:
    """Extract ``source``, ``act`` when it has begun, and give the failures that were recorded."""
    work = place / "work"
    running = lab.begin("extract", source, "--work", work, "--max-failure-rate", "1", *EXTRACT)
    until_committed(running, work)
    act()
    running.kill(signal.SIGCONT)
    ended = running.wait()
    check(ended.code == 0, f"exit code {ended.code}: {ended.said[-300:]}")
    lab.well("store", "verify", "--work", work, "--quiet")
    return [f"{one.key}: {one.reason}" for one in list_splits(work / "features.h5")["train"].failures]


@fault("image changed during the run")
def image_changed(lab: Lab, place: Path) -> str:
    images = shutil.copytree(lab.images, place / "images")
    other, last = (images / "class 0" / "000.png").read_bytes(), images / "class 2" / "039.png"
    found = while_stopped(lab, place, images, lambda: last.write_bytes(other))
    check(len(found) == 1 and "changed" in found[0], f"failures: {found}")
    return found[0]


@fault("image removed during the run")
def image_removed(lab: Lab, place: Path) -> str:
    images = shutil.copytree(lab.images, place / "images")
    found = while_stopped(lab, place, images, (images / "class 2" / "039.png").unlink)
    check(len(found) == 1 and "039.png" in found[0], f"failures: {found}")
    return found[0]


@fault("folder removed during the run")
def folder_removed(lab: Lab, place: Path) -> str:
    images = shutil.copytree(lab.images, place / "images")
    found = while_stopped(lab, place, images, lambda: shutil.rmtree(images / "class 2"))
    check(0 < len(found) <= 40, f"{len(found)} failures")
    return f"{len(found)} failures, such as {found[-1]}"


@fault("tar replaced during the run")
def tar_replaced(lab: Lab, place: Path) -> str:
    tar = place / "images.tar"

    def write(order: int) -> None:
        with tarfile.open(place / "new.tar", "w") as opened:
            for path in sorted(lab.images.rglob("*.png"))[::order]:
                opened.add(path, path.relative_to(lab.images))
        os.replace(place / "new.tar", tar)

    write(1)
    found = while_stopped(lab, place, tar, lambda: write(-1))
    check(bool(found) and all("changed" in one for one in found), f"failures: {found[:3]}")
    return f"{len(found)} failures, such as {found[-1]}"
