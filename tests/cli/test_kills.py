"""kill -9 and Ctrl-C on ``lsn extract``: the next run ends in the bytes of one that nothing happened to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DRIVER = Path(__file__).parent / "extract_kill_driver.py"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    """What the driver saw on 60 images, two of them unreadable; it fails if any store differs."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    folder = tmp_path_factory.mktemp("kills")
    random = np.random.default_rng(3)
    for i in range(60):
        place = folder / "images" / f"class {i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 48, 3)).astype(np.uint8)).save(place / f"{i:03}.png")
    for name in ("000.png", "034.png"):
        next((folder / "images").glob(f"*/{name}")).write_bytes(b"")
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(folder / "images"), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kills_at_any_moment_change_no_byte(report) -> None:
    assert report["kills"] == 3
    assert report["while_encoding"] == report["kills"]  # pieces were committed, and the store was not written


def test_ctrl_c_exits_with_130_keeps_what_is_done_and_shows_no_traceback(report) -> None:
    found = report["ctrl_c"]
    assert found["code"] == 130
    assert found["kept"] >= 1
    assert not found["traceback"]
