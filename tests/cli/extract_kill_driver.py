"""Run ``lsn extract`` in forked children and end them early: a program for test_kills.py.

Each child is a whole run of the command: it loads the model, lists, decodes, encodes and commits. Prints one
line of JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from kill_points import ended_by_itself, fork, signal_after_files

from lsncli.backbones import openclip  # noqa: F401  (imported here, so that no child has to)
from lsncli.cli.app import main
from lsncli.extraction.extract import extract

PIECES = (2, 3, 4)
"""Pieces that a run commits before it is killed, each going on from the last; together more than
half of the images."""
MOMENTS = 2
"""Kills at any moment: while a run starts, lists, encodes or commits; tests.robustness has a hundred."""


def start(images: Path, work: Path, log: Path, end: signal.Signals | None = None, pieces: int = 0) -> int:
    """Start the command in a child that commits after every batch, not every ten seconds; return its pid.

    The child sends itself ``end`` once it has committed ``pieces`` pieces.
    """

    def run() -> None:
        extract.__kwdefaults__["commit_seconds"] = 0.0
        if end:
            signal_after_files("rows-", pieces, end)
        options = ["--model", "mini", "--device", "cpu", "--batch-size", "4", "--workers", "2"]
        main(["extract", str(images), "--work", str(work), *options])

    return fork(run, log)


def is_encoding(work: Path) -> bool:
    """Whether some pieces are committed and the split is not."""
    pieces = list((work / "features.h5.parts" / "train").glob("rows-*.h5"))
    return bool(pieces) and not (work / "features.h5").exists()


def killed(images: Path, folder: Path, seconds: float, expected: bytes) -> dict[str, int]:
    """Kill amid the work, then at seeded moments of a run that takes ``seconds``; whatever ends must end
    right."""
    moment, log = random.Random(7), folder / "log"
    work = folder / "killed"
    amid_work = 0
    for pieces in PIECES:
        killed_it = not ended_by_itself(start(images, work, log, signal.SIGKILL, pieces), log)
        amid_work += killed_it and is_encoding(work)
    for _ in range(MOMENTS):
        child = start(images, work, log)
        time.sleep(moment.uniform(0.0, seconds))
        os.kill(child, signal.SIGKILL)  # a no-op on one that has ended and waits to be collected
        if ended_by_itself(child, log):
            check(work, expected)
            shutil.rmtree(work)
    if not ended_by_itself(start(images, work, log), log):
        sys.exit("the last run was killed by nobody")
    check(work, expected)
    return {"kills": len(PIECES), "while_encoding": amid_work}


def interrupted(images: Path, folder: Path, expected: bytes) -> dict[str, int]:
    """Ctrl-C while it encodes: the exit code, what was kept, and what it said."""
    work, log = folder / "interrupted", folder / "interrupted.log"
    _, status = os.waitpid(start(images, work, log, signal.SIGINT, 2), 0)
    kept = len(list((work / "features.h5.parts" / "train").glob("rows-*.h5")))
    said = log.read_text(errors="replace")
    if not ended_by_itself(start(images, work, log), log):
        sys.exit("the run after Ctrl-C was killed by nobody")
    check(work, expected)
    return {"code": os.waitstatus_to_exitcode(status), "kept": kept, "traceback": int("Traceback" in said)}


def check(work: Path, expected: bytes) -> None:
    if (work / "features.h5").read_bytes() != expected:
        sys.exit("another features.h5 than that of a run that nothing happened to")
    if left := [path.name for path in work.iterdir() if path.name not in ("features.h5", "results")]:
        sys.exit(f"left behind: {left}")


def drive(images: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    began = time.monotonic()
    if not ended_by_itself(start(images, folder / "whole", folder / "log"), folder / "log"):
        sys.exit("the whole run was killed by nobody")
    seconds = time.monotonic() - began
    expected = (folder / "whole" / "features.h5").read_bytes()
    report = {
        "ctrl_c": interrupted(images, folder, expected),
        **killed(images, folder, seconds, expected),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    drive(Path(sys.argv[1]), Path(sys.argv[2]))
