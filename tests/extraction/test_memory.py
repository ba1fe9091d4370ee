"""Freed memory is kept: the system zeroes no page twice."""

import platform
import subprocess
import sys

import pytest

PROBE = """
import resource, sys, threading
import numpy as np
from lsncli.extraction.encoder import keep_freed_memory

def faults():
    for _ in range(3):
        work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        work()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

def work():  # like a forward pass: some large blocks, all of them freed
    blocks = [np.ones(1 << 22, np.uint8) for _ in range(6)]
    del blocks

if sys.argv[1] == "kept":
    assert keep_freed_memory()
thread = threading.Thread(target=faults)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_thread_that_allocates_the_same_again_gets_the_same_pages() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROBE, how], check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert faults("kept") < 1000  # one run over all blocks touches 6,144 pages
    assert faults("freed") > 10_000
