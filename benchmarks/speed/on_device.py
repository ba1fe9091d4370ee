"""Time and memory of a run on a device that works while Python goes on."""

import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from benchmarks.speed.peak import MIB

Figures = dict[str, dict[str, float]]
"""Figures by variant."""


def wait(device: torch.device) -> None:
    """Wait for everything that the device has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Return the median wall time of a run, with an empty queue before and after; two runs do not count."""
    found = []
    for turn in range(-2, rounds):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        if turn >= 0:
            found.append(time.perf_counter() - start)
    return statistics.median(found)


def peak_mib(run: Callable[[], object], device: torch.device) -> float:
    """Return what a run allocates on the device beyond what was there; NaN where there is no device."""
    if device.type != "cuda":
        return float("nan")
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


@contextmanager
def at_most(limit: float) -> Iterator[None]:
    """Raise TimeoutError in the block after ``limit`` seconds; without a limit where there are no alarms."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {limit:.0f} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
