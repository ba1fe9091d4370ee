"""kill -9: whatever happens, the next run ends in the bytes of a run that nothing happened to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_backbone import FakeBackbone, make_images

from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.store.verify import verify

HERE = Path(__file__).parent


def whole_store(tmp_path: Path, images: Path) -> bytes:
    extract(
        list_images([images]),
        source=str(images),
        store=tmp_path / "whole.h5",
        split="train",
        backbone=FakeBackbone(),
        batch_size=5,
        workers=2,
        max_failure_rate=1.0,
    )
    assert verify(tmp_path / "whole.h5") == []
    return (tmp_path / "whole.h5").read_bytes()


def drive(mode: str, images: Path, folder: Path) -> int:
    """Run kill_driver.py; returns how many processes it killed."""
    folder.mkdir()
    path = os.pathsep.join([str(HERE), *sys.path])
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_driver.py"), mode, str(images), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow  # tests/cli/test_kills.py kills whole commands in every run of the suite
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twenty_stores_killed_at_random_moments_are_byte_identical(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 30, broken=(7, 8, 23))
    whole = whole_store(tmp_path, images)
    kills = drive("times", images, tmp_path / "stores")
    assert kills >= 20
    stores = [path for path in (tmp_path / "stores").iterdir() if path.suffix != ".lock"]
    assert [store.suffix for store in stores] == [".h5"] * 20  # no pieces and no temp files are left
    assert {store.read_bytes() for store in stores} == {whole}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_death_before_any_change_on_the_disk_is_survived(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 8, broken=(3,))
    whole = whole_store(tmp_path, images)
    points = drive("points", images, tmp_path / "stores")
    assert points > 20
    # A death before the lock file is removed leaves it behind, empty and unlocked, for the next writer.
    stores = [path for path in (tmp_path / "stores").iterdir() if path.suffix != ".lock"]
    assert len(stores) == points + 1
    assert {store.read_bytes() for store in stores} == {whole}
