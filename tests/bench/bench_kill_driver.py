"""Runs a suite in forked children and kills them (SIGKILL); a program of its own, for test_bench_kills.py.

Arguments: suite, data, work, seed. Prints how many of the children that were to die amid the work did so.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from bench_samples import run_suite
from kill_points import signal_after

from lsncli.backbones.loading import ensure_torchvision
from lsncli.bench.results import Results

RESULTS = (1, 2)
"""How often a run writes results before it is killed, the second going on from the first."""


def child(suite: Path, work: Path, data: Path, results: int = 0) -> int:
    """The pid of a child that runs the suite, until it has written results so many times if that is not 0."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if results:
            signal_after(Results, "append", results, signal.SIGKILL)
        run_suite(suite, work, data)
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)
    os._exit(0)


def main(suite: Path, data: Path, work: Path, seed: int) -> None:
    ensure_torchvision()
    import open_clip  # noqa: F401 (loaded once, not in every child)

    kills = 0
    for results in RESULTS:
        _, status = os.waitpid(child(suite, work, data, results), 0)
        kills += os.WIFSIGNALED(status)
    pid = child(suite, work, data)
    time.sleep(random.Random(seed).uniform(0.05, 1.0))  # wherever that is
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    _, status = os.waitpid(child(suite, work, data), 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(1)
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
