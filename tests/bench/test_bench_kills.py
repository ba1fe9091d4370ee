"""kill -9: the next run goes on, and ends with the numbers of a run that nothing happened to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench_samples import results, run_suite, write_images, write_suite

HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_three_times_ends_with_the_same_numbers(tmp_path: Path, tiny_model: str) -> None:
    data, suite = write_images(tmp_path / "data"), write_suite(tmp_path, tiny_model)
    command = [sys.executable, str(HERE / "bench_kill_driver.py"), str(suite), str(data)]
    path = os.pathsep.join([str(HERE), *sys.path])
    done = subprocess.run(
        [*command, str(tmp_path / "killed"), "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 2  # amid the work; the third comes at any moment
    run_suite(suite, tmp_path / "whole", data)
    killed, whole = results(tmp_path / "killed"), results(tmp_path / "whole")
    assert killed.keys() == whole.keys()
    for key, record in whole.items():
        assert killed[key] == record
