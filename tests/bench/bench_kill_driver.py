"""Runs a suite in forked children and kills them (SIGKILL); a program of its own, for test_bench_kills.py.

Arguments: suite, data, work, seed. Prints how many children were killed before the last one ended by itself.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from bench_samples import run_suite

from lsncli.backbones._torchvision import ensure_torchvision

KILLS = 3


def child(suite: Path, work: Path, data: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        run_suite(suite, work, data)
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)
    os._exit(0)


def main(suite: Path, data: Path, work: Path, seed: int) -> None:
    ensure_torchvision()
    import open_clip  # noqa: F401 (loaded once, not in every child)

    moment, kills, longest = random.Random(seed), 0, 1.0
    while True:
        pid = child(suite, work, data)
        if kills < KILLS:
            time.sleep(moment.uniform(0.05, longest))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            break
        kills, longest = kills + 1, longest + 0.5
    if os.waitstatus_to_exitcode(status):
        sys.exit(1)
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
