"""What a piece of work costs: seconds, and memory at its highest point where the system tells."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
MIB = 2**20


@dataclass
class Cost:
    """Wall-clock seconds so far, and the highest resident memory above the start, in MiB (None: unknown)."""

    seconds: float = 0.0
    peak_mib: float | None = None


@contextmanager
def metered(cost: Cost) -> Iterator[None]:
    """Add what the block costs. Linux lets a process reset its own high-water mark; elsewhere no memory."""
    known = os.access(CLEAR_REFS, os.W_OK)
    if known:
        CLEAR_REFS.write_text("5")
        before = resident("VmRSS")
    start = time.perf_counter()
    try:
        yield
    finally:
        cost.seconds += time.perf_counter() - start
        if known:
            cost.peak_mib = max(cost.peak_mib or 0.0, (resident("VmHWM") - before) / MIB)


def resident(field: str) -> int:
    """Bytes of a line such as ``VmHWM:   123 kB``."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
