"""Two commands at once on one workspace; tests/robustness has every pair of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAIRS = ("extract+overwrite", "overwrite+score", "merge+export", "verify+calibrate")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_two_commands_at_once_end_well_or_with_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.robustness.pairs", *PAIRS],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert "4 pairs: 0 wrong" in done.stdout, done.stdout + done.stderr
