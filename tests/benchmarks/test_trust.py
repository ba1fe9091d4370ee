"""The benchmarks of trust: kills (fewer than for the record), faults and many rows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run(*words: str) -> str:
    """What a benchmark prints; it must end with 0."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@NEEDS_FORK
@pytest.mark.slow
def test_twenty_kills_lose_nothing() -> None:
    assert "20 kills; " in run("benchmarks.kills", "--kills", "20")


@NEEDS_FORK
@pytest.mark.slow
def test_every_fault_is_met() -> None:
    assert "NOT MET" not in run("benchmarks.faults")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_stays_flat_over_a_million_rows() -> None:
    assert "NO" not in run("benchmarks.million").split("flat")[1]
