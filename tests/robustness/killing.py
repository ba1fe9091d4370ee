"""Kill whole commands in forked children (SIGKILL) at seeded moments; check what they leave. For kills.py."""

import itertools
import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsncli.cli.app import main
from tests.fixtures.kill_points import fork

Words = Sequence[str]
NOTHING: Mapping[str, str] = {}
LAUNCHES = itertools.count(1)
PATIENCE = 2.0
"""Seconds that the other processes of a launch go on when one was killed."""


@dataclass(frozen=True)
class Subject:
    """A command to be killed.

    ``words`` of its command line follow from the workspace; ``ranks`` are the environments of the processes
    that run it side by side. ``before`` is copied into every fresh workspace, if it is given; ``hasten`` runs
    in each child first. ``kept`` are the things in a workspace that were committed and may never be lost,
    ``ended`` all that a finished run leaves, as it must be to the byte.
    """

    name: str
    words: Callable[[Path], Words]
    kept: Callable[[Path], frozenset[object]]
    ended: Callable[[Path], Mapping[str, bytes]]
    done: str = ""
    """What the command says, as an error, if an earlier run of it did everything before it was killed."""
    ranks: tuple[Mapping[str, str], ...] = (NOTHING,)
    before: Path | None = None
    hasten: Callable[[], object] = list


@dataclass
class Count:
    """What the kills of one command came to; ``harm`` are sentences, and there should be none."""

    kills: int = 0
    with_work: int = 0
    """Kills that found something committed, and so something to lose."""
    lost: int = 0
    finished: int = 0
    identical: int = 0
    seconds: float = 0.0
    harm: list[str] = field(default_factory=list)


def killed(subject: Subject, kills: int, folder: Path, seed: int) -> Count:
    """Kill runs of ``subject`` in ``folder`` at random moments, always followed by the same command.

    A workspace lives until a run ends by itself in it; then the next one is begun, so that the moments lie
    anywhere between a first start and a last rename. Where several processes work, one or all are killed.
    """
    began, moment, count = time.monotonic(), random.Random(f"{subject.name} {seed}"), Count()
    log = folder / f"{subject.name.replace(' ', '-')}.log"
    whole = _fresh(subject, folder / "whole")
    first = time.monotonic()
    finished(_start(subject, whole, log), log)
    seconds, expected = time.monotonic() - first, subject.ended(whole)
    work, kept = _fresh(subject, folder / "killed"), frozenset[object]()
    while count.kills < kills:
        children = _start(subject, work, log)
        time.sleep(moment.uniform(0.0, seconds))
        victims = children if moment.random() < 0.5 else [moment.choice(children)]
        for child in victims:
            os.kill(child, signal.SIGKILL)  # a no-op on one that has ended and waits to be collected
        ends = _ends(children)
        if any(os.WIFSIGNALED(end) for end in ends):
            count.kills += 1
            kept = _look(subject, work, kept, count)
        elif any(ends) and not (subject.done and subject.done in _tail(log)):
            count.harm.append(f"exit codes {list(map(os.waitstatus_to_exitcode, ends))}: {_tail(log)}")
            work, kept = _fresh(subject, folder / "killed"), frozenset()
        else:
            _compare(subject, work, kept, expected, count)
            work, kept = _fresh(subject, folder / "killed"), frozenset()
    finished(_start(subject, work, log), log)
    _compare(subject, work, kept, expected, count)
    count.seconds = time.monotonic() - began
    return count


def _ends(children: Sequence[int]) -> list[int]:
    """The wait status of each process. Once one was killed, those that are left over are told to end after a
    while, as torchrun does it: they may wait for it."""
    ends: dict[int, int] = {}
    deadline = math.inf
    while len(ends) < len(children):
        for child in set(children) - set(ends):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                ends[child] = status
                if os.WIFSIGNALED(status):
                    deadline = min(deadline, time.monotonic() + PATIENCE)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGTERM)
        time.sleep(0.002)
    return [ends[child] for child in children]


def _fresh(subject: Subject, work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    if subject.before is not None:
        shutil.copytree(subject.before, work)
    return work


def _start(subject: Subject, work: Path, log: Path) -> list[int]:
    """The pids of its processes; what they say goes to ``log``, which is new."""
    log.unlink(missing_ok=True)
    launch = {"TORCHELASTIC_RUN_ID": str(next(LAUNCHES))}
    return [start(subject.words(work), log, {**launch, **rank}, subject.hasten) for rank in subject.ranks]


def start(
    words: Words, log: Path, environment: Mapping[str, str] = NOTHING, hasten: Callable[[], object] = list
) -> int:
    """Run a command line in a child and return its pid; its output is appended to ``log``."""

    def run() -> None:
        os.environ.update(environment)
        hasten()
        main(list(words))

    return fork(run, log)


def finished(children: Sequence[int], log: Path) -> None:
    """Wait for processes that are to end well by themselves; leaves the program if one does not."""
    ends = [os.waitpid(child, 0)[1] for child in children]
    if any(ends):
        sys.exit(f"A run that nobody killed ended with {ends}: {_tail(log)}")


def _look(subject: Subject, work: Path, kept: frozenset[object], count: Count) -> frozenset[object]:
    """What is committed now; whatever was and is not any more has been lost."""
    now = subject.kept(work)
    count.with_work += bool(now)
    count.lost += len(kept - now)
    if kept - now:
        count.harm.append(f"lost {sorted(map(str, kept - now))[:3]}")
    return now


def _compare(
    subject: Subject, work: Path, kept: frozenset[object], expected: Mapping[str, bytes], count: Count
) -> None:
    """A run came to its end: with the same files, byte for byte."""
    count.finished += 1
    found = subject.ended(work)
    if found == expected:
        count.identical += 1
    else:
        names = {*found, *expected}
        count.harm.append(f"differs in {sorted(n for n in names if found.get(n) != expected.get(n))}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-300:].strip() if log.exists() else "it said nothing"
