"""Runs ``lsn extract`` in forked children and ends them early; a program of its own, for test_kills.py.

Everything is imported once and then forked, so that a start costs no seconds. The children are whole runs of
the command: they load the model, list, decode, encode and commit. Prints one line of JSON.
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
from kill_points import signal_after_files

from lsncli.backbones import openclip  # noqa: F401  (imported here, so that no child has to)
from lsncli.cli.app import main
from lsncli.extraction.extract import extract

PIECES = (2, 3, 4)
"""Pieces that a run commits before it is killed, each going on from the last; together more than
half of the images."""
MOMENTS = 2
"""Kills at any moment: while a run starts, lists, encodes or commits; tests.robustness has a hundred."""


def start(images: Path, work: Path, log: Path, end: signal.Signals | None = None, pieces: int = 0) -> int:
    """The pid of a child that runs the command and commits after every batch instead of every ten seconds;
    it sends itself ``end`` once it has committed so many pieces."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        extract.__kwdefaults__["commit_seconds"] = 0.0
        if end:
            signal_after_files("rows-", pieces, end)
        options = ["--model", "mini", "--device", "cpu", "--batch-size", "4", "--workers", "2"]
        try:
            main(["extract", str(images), "--work", str(work), *options])
        except SystemExit as stop:
            sys.stdout.flush()
            os._exit(int(stop.code or 0))
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(99)
    return child


def finished(child: int, log: Path) -> bool:
    """Whether the child came to its end by itself, rather than by SIGKILL."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"exit code {code}: {log.read_text(errors='replace')}")
    return True


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
        killed_it = not finished(start(images, work, log, signal.SIGKILL, pieces), log)
        amid_work += killed_it and is_encoding(work)
    for _ in range(MOMENTS):
        child = start(images, work, log)
        time.sleep(moment.uniform(0.0, seconds))
        os.kill(child, signal.SIGKILL)  # a no-op on one that has ended and waits to be collected
        if finished(child, log):
            check(work, expected)
            shutil.rmtree(work)
    if not finished(start(images, work, log), log):
        sys.exit("the last run was killed by nobody")
    check(work, expected)
    return {"kills": len(PIECES), "while_encoding": amid_work}


def interrupted(images: Path, folder: Path, expected: bytes) -> dict[str, int]:
    """Ctrl-C while it encodes: the exit code, what was kept, and what it said."""
    work, log = folder / "interrupted", folder / "interrupted.log"
    _, status = os.waitpid(start(images, work, log, signal.SIGINT, 2), 0)
    kept = len(list((work / "features.h5.parts" / "train").glob("rows-*.h5")))
    said = log.read_text(errors="replace")
    if not finished(start(images, work, log), log):
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
    if not finished(start(images, folder / "whole", folder / "log"), folder / "log"):
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
