"""Run extractions in forked children and kill them: a program for test_kill.py.

``times``: twenty stores, each extraction killed (SIGKILL) at random moments until one run ends by itself.
``points``: one store for every call that touches the disk, the process dying just before that call.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fake_backbone import FakeBackbone
from kill_points import fork

from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images


def run(images: Path, store: Path) -> None:
    extract(
        list_images([images]),
        source=str(images),
        store=store,
        split="train",
        backbone=FakeBackbone(pause=0.001),
        batch_size=5,
        workers=2,
        max_failure_rate=1.0,
        commit_seconds=0.0,
    )


def killed_at_random(images: Path, folder: Path, rounds: int) -> int:
    kills = 0
    for seed in range(rounds):
        moment = random.Random(seed)
        store = folder / f"{seed}.h5"
        longest = 0.1
        while True:
            child = fork(lambda store=store: run(images, store))
            time.sleep(moment.uniform(0.005, longest))
            longest += 0.02  # however slow the machine, some run gets far enough
            os.kill(child, signal.SIGKILL)  # a no-op on one that has ended and waits to be collected
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status):
                if os.waitstatus_to_exitcode(status) != 0:
                    sys.exit(f"seed {seed}: exit {os.waitstatus_to_exitcode(status)}")
                break
            kills += 1
    return kills


def dying_before(call: int) -> None:
    """Make the process die before its ``call``-th change on the disk."""
    count = 0

    def wrap(real: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count == call:
                os._exit(9)
            return real(*args, **kwargs)

        return counted

    for name in ("fsync", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, wrap(getattr(os, name)))


def killed_at_every_point(images: Path, folder: Path) -> int:
    call = 0
    while True:
        call += 1
        store = folder / f"{call}.h5"

        def work(call: int = call, store: Path = store) -> None:
            dying_before(call)
            run(images, store)

        _, status = os.waitpid(fork(work), 0)
        if os.waitstatus_to_exitcode(status) == 0:
            return call - 1
        _, status = os.waitpid(fork(lambda store=store: run(images, store)), 0)
        if os.waitstatus_to_exitcode(status) != 0:
            sys.exit(f"the run after a death before call {call} failed")


if __name__ == "__main__":
    mode, images, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if mode == "times":
        sys.stdout.write(f"{killed_at_random(images, folder, 20)}\n")
    else:
        sys.stdout.write(f"{killed_at_every_point(images, folder)}\n")
