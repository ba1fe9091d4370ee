"""Memory that is freed stays with the process, where the C library is glibc.

A forward pass allocates and frees tens of megabytes, again and again. glibc hands them back to the system
each time, and the system zeroes every page before it is used again: with the mini model on a CPU that took as
long as the arithmetic (18 ms an image with it, 8.5 ms without).
"""

import ctypes
import platform
from functools import cache

# Parameters of mallopt, from malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST_MMAP_THRESHOLD = 1 << 25  # the library takes no more than this
HEAP = 1 << 26
"""Bytes of one heap of a thread; with this much to spare, an empty one is kept."""
KEPT = 1 << 30
"""Free bytes at the end of the heap above which some go back."""


@cache
def keep_freed_memory() -> bool:
    """Tell the C library, once; whether it could be told. The process's peak stays about what it was."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Either alone would be worse: naming one ends the library's own tuning of both.
    settings = {MMAP_THRESHOLD: LARGEST_MMAP_THRESHOLD, TRIM_THRESHOLD: KEPT, TOP_PAD: HEAP}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
