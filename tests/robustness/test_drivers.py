"""The drivers of this folder as tests: kills, faults, damaged images, untidy folders, engines and many rows.

Each is a program with options of its own, such as a count; see README.md.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.robustness.full_disks import can_mount

ROOT = Path(__file__).parents[2]
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
NEEDS_IMAGES = pytest.mark.skipif("LSN_IMAGES" not in os.environ, reason="LSN_IMAGES names no real images")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def run(*words: str) -> str:
    """What a driver prints; it must end with 0."""
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
def test_two_hundred_kills_lose_nothing() -> None:
    assert " kills; " in run("tests.robustness.kills", "--kills", "200")


@pytest.mark.skipif(not can_mount(), reason="may not mount a file system in memory")
def test_full_disks_tear_nothing() -> None:
    assert "; 0 went wrong" in run("tests.robustness.full_disks")


@NEEDS_FORK
def test_every_pair_of_commands_at_once_ends_well() -> None:
    assert "78 pairs: 0 wrong" in run("tests.robustness.pairs")


@NEEDS_FORK
def test_every_fault_is_met() -> None:
    assert "NOT MET" not in run("tests.robustness.faults")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_stays_flat_over_a_million_rows() -> None:
    assert "NO" not in run("tests.robustness.million").split("flat")[1]


def test_damaged_images_crash_nothing() -> None:
    assert "crashes: 0\n" in run("tests.robustness.fuzz", "--count", "5000", "--seconds", "60")


def test_the_interval_of_the_rate_kept_holds_for_every_kind_of_ties() -> None:
    assert "without ties: " in run("tests.robustness.interval_coverage")


@NEEDS_FORK
@pytest.mark.skipif(find_spec("cosmic_ray") is None, reason="needs cosmic-ray, which makes the faults")
def test_small_faults_in_the_metrics_are_noticed() -> None:
    said = run("tests.robustness.mutants", "--each", "4", "--only", "metrics,threshold")
    assert "'made': 8, 'killed': 8, " in said


@NEEDS_IMAGES
def test_an_untidy_folder_is_scored_whole() -> None:
    found = json.loads(run("tests.robustness.messy_folder"))
    assert (found["images"], found["broken_listed"], found["good_refused"]) == (5000, 50, 0)
    assert found["in_order"]


@NEEDS_IMAGES
def test_every_engine_ends_in_the_bytes_of_one_process() -> None:
    engines = ["local", "torchrun", *(["ray"] if find_spec("ray") else [])]
    run("tests.robustness.engines", *(word for engine in engines for word in ("--only", engine)))
