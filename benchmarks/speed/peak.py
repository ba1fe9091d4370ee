"""Peak memory of a function, measured in a process of its own.

    python -m benchmarks.speed.peak MODULE:FUNCTION [JSON ARGUMENT ...]

FUNCTION prepares everything and returns the function to measure. Prints one line of JSON.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lsncli.methods.prepared import CLEAR_REFS, MIB, resident


def peak_of(work: Callable[[], object]) -> dict[str, float]:
    """Return the peak of resident memory (MiB) during ``work``, above that before it and in all; CPU seconds.

    On Linux the kernel's high-water mark is reset first. Elsewhere the peaks of the process before and after
    are compared, which is too low if the preparation needed more memory than the work. Figures that ``work``
    returns as a dict are added.
    """
    gc.collect()
    resettable = os.access(CLEAR_REFS, os.W_OK)
    if resettable:
        ctypes.CDLL(None).malloc_trim(0)  # memory freed but kept would hide a part of the peak
        CLEAR_REFS.write_text("5")
    before = resident("VmRSS") if resettable else _highest()
    start = time.process_time()
    own = work()
    seconds = time.process_time() - start
    after = resident("VmHWM") if resettable else _highest()
    found = {"peak_mib": (after - before) / MIB, "process_mib": after / MIB, "cpu_s": seconds}
    return found | own if isinstance(own, dict) else found


def _highest() -> int:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def peak_in_new_process(function: str, *arguments: object) -> dict[str, float]:
    """Return ``peak_of`` the work that ``module:function`` returns, in a new process with one thread."""
    command = [sys.executable, "-m", "benchmarks.speed.peak", function, *map(json.dumps, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2], check=False
    )
    if done.returncode:
        raise RuntimeError(f"{function}{arguments}: {done.stderr.strip() or f'ended with {done.returncode}'}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prepare, measure, print."""
    module, _, name = sys.argv[1].partition(":")
    prepare = getattr(importlib.import_module(module), name)
    print(json.dumps(peak_of(prepare(*map(json.loads, sys.argv[2:])))))


if __name__ == "__main__":
    main()
