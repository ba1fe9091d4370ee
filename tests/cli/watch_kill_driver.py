"""Runs ``lsn watch --once`` in forked children and kills them; a program of its own, for
test_watch_command.py.

The model is imported once and then forked, so that a start costs no seconds; an image arrives before every
run. Prints one line of JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from kill_points import signal_after

from lsncli.backbones import openclip  # noqa: F401
from lsncli.cli.app import main
from lsncli.detection.detect import detect  # noqa: F401  (imported here, so that no child has to)
from lsncli.detection.watch_log import WatchLog


def start(images: Path, work: Path, output: Path, *, dies: bool = False) -> int:
    """The pid of a child that scores what has no row yet, and then stops; or that dies once it has written
    the rows of a batch."""
    child = os.fork()
    if child == 0:
        if dies:
            signal_after(WatchLog, "append", 1, signal.SIGKILL, lambda log, rows: bool(rows))
        options = ["--once", "--interval", "0.1", "--batch-size", "2", "--workers", "2", "--device", "cpu"]
        try:
            main(["watch", str(images), "--work", str(work), "--output", str(output), "--quiet", *options])
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(99)
    return child


def ended_by_itself(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"exit code {code}")
    return True


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
