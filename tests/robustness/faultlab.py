"""Where faults are tried out: fixtures, commands in forked children, and what may be said of them.

A command is a child that was forked after everything was imported, so that a start costs no seconds; for
tests/robustness/faults.py.
"""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.killing import start
from tests.robustness.kills_making import CPU, EXTRACT, hasten, made_up_features, noise

LIMIT_SECONDS = 60.0
LIMIT_MIB = 2048

Trial = Callable[["Lab", Path], str]
"""Does harm in a folder of its own, and tells what came of it; raises Wrong if that is not right."""

FAULTS: dict[str, Trial] = {}


class Wrong(Exception):
    """A fault that was not met as it should be."""


def fault(name: str) -> Callable[[Trial], Trial]:
    """Adds a trial to the table."""

    def keep(trial: Trial) -> Trial:
        FAULTS[name] = trial
        return trial

    return keep


def check(right: bool, sentence: str) -> None:
    """Raise Wrong with ``sentence`` unless ``right``."""
    if not right:
        raise Wrong(sentence)


@dataclass(frozen=True)
class Ended:
    """A command that came to an end."""

    code: int
    said: str
    seconds: float
    mib: float
    """Resident memory at its highest point, what was imported before the fork included."""


@dataclass
class Running:
    """A command that goes on."""

    pid: int
    log: Path
    began: float = field(default_factory=time.monotonic)
    ended: bool = False

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def goes_on(self) -> bool:
        """Whether it has not ended; one that has is still to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self) -> Ended:
        """Its end; Wrong if that does not come."""
        while True:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.ended = True
                code, seconds = os.waitstatus_to_exitcode(status), time.monotonic() - self.began
                said = self.log.read_text(errors="replace") if self.log.exists() else ""
                return Ended(code, said, seconds, used.ru_maxrss / 1024)
            if time.monotonic() - self.began > LIMIT_SECONDS:
                raise Wrong(f"it did not end within {LIMIT_SECONDS:.0f} seconds")
            time.sleep(0.002)


@dataclass
class Lab:
    """Images, a finished store of them and a trained workspace, all of which stay as they are."""

    folder: Path
    images: Path = Path()
    whole: bytes = b""
    trained: Path = Path()
    started: list[Running] = field(default_factory=list)

    def prepare(self) -> "Lab":
        """120 images of noise, their store, and a workspace with prompts, a head and a detector."""
        self.images = noise(self.folder / "images", 3, 40, 1)
        work = self.folder / "whole"
        self.well("extract", self.images, "--work", work, *EXTRACT)
        self.whole = (work / "features.h5").read_bytes()
        self.trained = made_up_features(self.folder / "trained")
        far = self.images / "class 0"
        self.well("extract", far, "--split", "far", "--work", self.trained, *EXTRACT)
        for words in (["train-pos", "--epochs", "1"], ["train-neg", "--epochs", "1"], ["train-head"]):
            self.well(*words, "--work", self.trained, *CPU)
        return self

    def begin(self, *words: object, log: str = "log", before: Callable[[], object] = list) -> Running:
        """Start a command that commits as often as it can; ``before`` runs in its process first."""
        path = self.folder / log
        path.unlink(missing_ok=True)

        def first() -> None:
            hasten()
            before()

        self.started.append(Running(start([str(word) for word in words], path, hasten=first), path))
        return self.started[-1]

    def tidy(self) -> None:
        """End whatever a trial has left running."""
        for running in self.started:
            if not running.ended:
                running.kill()
                os.waitpid(running.pid, 0)
        self.started.clear()

    def lsn(self, *words: object, before: Callable[[], object] = list) -> Ended:
        """Run a command to its end."""
        return self.begin(*words, before=before).wait()

    def well(self, *words: object, before: Callable[[], object] = list) -> Ended:
        """Run a command that is to end with 0."""
        ended = self.lsn(*words, before=before)
        check(ended.code == 0, f"exit code {ended.code}: {ended.said.strip()[-200:]}")
        return ended

    def workspace(self, place: Path) -> Path:
        """A copy of the trained workspace."""
        shutil.copytree(self.trained, place / "work")
        return place / "work"

    def same_end(self, work: Path, *more: object) -> str:
        """The same extraction again in ``work`` must end in the store of a run that nothing happened to."""
        self.well("extract", self.images, "--work", work, *EXTRACT, *more)
        check((work / "features.h5").read_bytes() == self.whole, "another features.h5 than an unharmed run's")
        return "the same command then ends identical"


def sentence(ended: Ended, code: int, wanted: str) -> str:
    """The error of a command that ended with ``code``, one sentence that holds ``wanted`` (a pattern)."""
    for bad in ("Traceback", "Unexpected ", "This is a bug"):
        check(bad not in ended.said, f"it said: {ended.said.strip()[-300:]}")
    found = re.findall(r"^Error: (.*)$", ended.said, re.MULTILINE)
    check(ended.code == code, f"exit code {ended.code}, not {code}: {ended.said.strip()[-200:]}")
    check(len(found) == 1, f"{len(found)} sentences: {ended.said.strip()[-200:]}")
    check(bool(re.search(wanted, found[0])), f"not about {wanted!r}: {found[0]}")
    check(ended.mib < LIMIT_MIB, f"it took {ended.mib:.0f} MiB")
    shown: str = found[0]
    return shown


def pieces(work: Path) -> list[Path]:
    """The committed pieces of unfinished splits."""
    return sorted((work / "features.h5.parts").rglob("rows-*.h5"))


def until_committed(running: Running, work: Path, count: int = 2) -> None:
    """Wait until ``count`` pieces are committed, then stop the process in its tracks."""
    while len(pieces(work)) < count:
        check(time.monotonic() - running.began < LIMIT_SECONDS, "nothing was committed")
        check(running.goes_on(), "it ended before anything was committed")
        time.sleep(0.0005)
    running.kill(signal.SIGSTOP)
    check(not (work / "features.h5").exists(), "it was finished before it could be stopped")
