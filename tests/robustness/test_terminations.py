"""SIGTERM of a bench whose processes learn: it ends soon, says what is kept, and leaves no process behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_samples import write_images, write_suite

pytestmark = pytest.mark.slow


def children(parent: int) -> set[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return {int(word) for word in found.split()}


def is_learning(work: Path) -> bool:
    """Whether a training has kept an epoch; folders come and go meanwhile."""
    return any(name.endswith(".unfinished.safetensors") for _, _, names in os.walk(work) for name in names)


def is_running(process: int) -> bool:
    """Whether a process exists and has not ended; nobody may be there to collect one that has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_bench_with_jobs_ends_with_all_its_processes(tmp_path: Path, tiny_model: str) -> None:
    data, suite = write_images(tmp_path / "data"), write_suite(tmp_path, tiny_model, epochs=100_000)
    command = ["bench", "--suite", suite, "--table", "mine", "--rows", "CoOp + LSN (ours)", "--rows", "CoOp"]
    command += ["--jobs", "2", "--data", data, "--work", tmp_path / "work", "--device", "cpu"]
    with open(tmp_path / "err", "wb") as err:
        bench = subprocess.Popen(
            [sys.executable, "-m", "lsncli", *map(str, command)], stdout=subprocess.DEVNULL, stderr=err
        )
    try:
        while not is_learning(tmp_path / "work"):  # pytest's timeout ends it
            assert bench.poll() is None, (tmp_path / "err").read_text()
            time.sleep(0.1)
        learning = children(bench.pid)
        assert learning
        bench.terminate()
        assert bench.wait(60) == 143
        assert (
            "Terminated. Features, prompts and rows that are done are kept" in (tmp_path / "err").read_text()
        )
        while any(is_running(process) for process in learning):
            time.sleep(0.1)
    finally:
        bench.kill()  # where it did not end as it should; its processes end when it is gone
        bench.wait()
