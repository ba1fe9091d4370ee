"""Run ``lsn watch --once`` in forked children and kill them: a program for test_watch_command.py.

An image arrives before every run. Prints one line of JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from kill_points import ended_by_itself, fork, signal_after

from lsncli.backbones import openclip  # noqa: F401
from lsncli.cli.app import main
from lsncli.detection.detect import detect  # noqa: F401  (imported here, so that no child has to)
from lsncli.detection.watch_log import WatchLog


def start(images: Path, work: Path, output: Path, *, dies: bool = False) -> int:
    """Start a child that scores what has no row yet and then stops; return its pid.

    With ``dies`` the child kills itself once it has written the rows of a batch.
    """

    def run() -> None:
        if dies:
            signal_after(WatchLog, "append", 1, signal.SIGKILL, lambda log, rows: bool(rows))
        options = ["--once", "--interval", "0.1", "--batch-size", "2", "--workers", "2", "--device", "cpu"]
        main(["watch", str(images), "--work", str(work), "--output", str(output), "--quiet", *options])

    return fork(run)


def drive(images: Path, arriving: Path, work: Path, output: Path) -> None:
    torch.set_num_threads(1)
    moment, kills, sizes = random.Random(3), 0, [0]
    began = time.monotonic()
    ended_by_itself(start(images, work, output.with_name("whole.jsonl")))
    seconds = time.monotonic() - began
    for number, path in enumerate(sorted(arriving.iterdir())):
        os.rename(path, images / path.name)
        if number % 2:  # at any moment: while it starts, looks, waits, reads or writes
            child = start(images, work, output)
            time.sleep(moment.uniform(0.0, 0.6) * seconds)
            os.kill(child, signal.SIGKILL)  # a no-op on one that has ended and waits to be collected
            ended_by_itself(child)
        else:  # between two batches; there is a new image at least, so that a row will come
            kills += not ended_by_itself(start(images, work, output, dies=True))
            sizes.append(output.stat().st_size)
    ended_by_itself(start(images, work, output))
    sys.stdout.write(json.dumps({"kills": kills, "progress": len(set(sizes))}) + "\n")


if __name__ == "__main__":
    drive(*map(Path, sys.argv[1:]))
