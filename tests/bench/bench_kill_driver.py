"""Run a suite in forked children and kill them (SIGKILL): a program for test_bench_kills.py.

Arguments: suite, data, work, seed. Prints how many children died at the chosen step.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from bench_samples import run_suite
from kill_points import fork, signal_after

from lsncli.backbones.loading import ensure_torchvision
from lsncli.bench.results import Results

RESULTS = (1, 2)
"""How often a run writes results before it is killed, the second going on from the first."""


def start(suite: Path, work: Path, data: Path, results: int = 0) -> int:
    """Start a child that runs the suite and kills itself after ``results`` results, if any."""

    def run() -> None:
        if results:
            signal_after(Results, "append", results, signal.SIGKILL)
        run_suite(suite, work, data)

    return fork(run)


def main(suite: Path, data: Path, work: Path, seed: int) -> None:
    ensure_torchvision()
    import open_clip  # noqa: F401 (loaded once, not in every child)

    kills = 0
    for results in RESULTS:
        _, status = os.waitpid(start(suite, work, data, results), 0)
        kills += os.WIFSIGNALED(status)
    pid = start(suite, work, data)
    time.sleep(random.Random(seed).uniform(0.05, 1.0))  # wherever that is
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    _, status = os.waitpid(start(suite, work, data), 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(1)
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
