"""Processes that a command started, from /proc (Linux): to find a worker and kill it."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

WORKER = {"local": r"multiprocessing.spawn", "torchrun": r"-m lsncli extract", "ray": r"ray::Maker"}
"""By engine: the command line of a process that makes parts."""


def descendants(pid: int) -> dict[int, str]:
    """The command lines of all processes below ``pid``."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
        below.setdefault(parent, []).append(int(path.parent.name))
    found, todo = {}, [pid]
    while todo:
        for child in below.get(todo.pop(), []):
            todo.append(child)
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
    return found


def workers_of(pid: int, engine: str) -> list[int]:
    """The processes below ``pid`` that make parts."""
    return [child for child, line in descendants(pid).items() if re.search(WORKER[engine], line)]


def run_and_kill(
    command: Sequence[str], engine: str, ready: Callable[[], bool], log: Path, seconds: float = 600.0
) -> tuple[int, bool]:
    """Run ``command``, and kill one of its workers (SIGKILL) as soon as it is ``ready``: its exit code, and
    whether there was one to kill. What it says goes to ``log``."""
    deadline = time.monotonic() + seconds
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        killed = False
        try:
            while process.poll() is None and not killed:
                workers = workers_of(process.pid, engine) if ready() else []
                if workers:
                    os.kill(workers[0], signal.SIGKILL)
                    killed = True
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            return process.wait(max(1.0, deadline - time.monotonic())), killed
        finally:
            process.kill()
