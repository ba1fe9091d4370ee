"""kill -9 and Ctrl-C on the training commands: the next run ends as one that nothing happened to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).parent / "training_kill_driver.py"
KINDS = ("positive", "negative")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    """What the driver saw; it fails if any run ends in other artefacts."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path_factory.mktemp("training-kills"))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kills_at_any_moment_change_no_byte(report) -> None:
    # Both kills amid the learning; the second is of a run that went on after the first.
    amid_learning = {"kills": 2, "while_learning": 2, "resumed": 1}
    assert {kind: report[kind]["killed"] for kind in KINDS} == dict.fromkeys(KINDS, amid_learning)


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_exits_with_130_and_says_how_to_go_on(report, kind: str) -> None:
    found = report[kind]["ctrl_c"]
    assert found["code"] == 130
    assert "Interrupted. The same command resumes after the last epoch." in found["said"]
    assert "Traceback" not in found["said"]
    assert found["kept"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_after_ctrl_c_goes_on(report, kind: str) -> None:
    assert "Resuming after epoch " in report[kind]["ctrl_c"]["next"]
    assert f"{kind}.unfinished.safetensors" in report[kind]["ctrl_c"]["next"]
