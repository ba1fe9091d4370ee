"""``lsn extract --plan``: for people, for programs, and without a trace."""

import json
from pathlib import Path

import pytest
from photo_samples import photos

from lsncli.cli.extract import size
from lsncli.console import duration

MILLION = ("--plan", "--for", "1000000", "--format", "json")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsncli.extraction.estimate.PROBE_SECONDS", 0.0)


def test_a_plan_for_programs(lsn, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", broken=2)
    done = lsn("extract", str(folder), "--model", "mini", "--batch-size", "4", *MILLION)
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert [(row["images"], row["parts"], row["workers"]) for row in rows] == [
        (30, 1, 1),
        (30, 8, 8),
        (1_000_000, 16, 1),
        (1_000_000, 32, 8),
        (1_000_000, 256, 64),
        (1_000_000, 512, 512),
    ]
    alone = rows[2]
    assert alone["hours"] == pytest.approx(1e6 / alone["images_per_second"] / 3600)
    for row in rows[3:]:  # parts that are as many for every worker
        assert row["hours"] == pytest.approx(alone["hours"] / row["workers"], rel=0.01)
    assert alone["disk_bytes"] == 2 * alone["store_bytes"] > 1_000_000 * 2 * 256
    assert 0 < rows[0]["read_bytes"] < 30 * 5000
    assert "Estimated from the probe" in done.err
    assert "images/s by one worker" in done.err
    assert not (tmp_path / "lsn-work").exists()


def test_a_plan_for_people(lsn, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    done = lsn("extract", str(folder), "--model", "mini", "--batch-size", "4", "--plan", "--for", "100000000")
    assert done.code == 0, done.err
    assert "1526" in done.out
    assert "GB" in done.out


def test_for_needs_plan_and_images_are_needed(lsn, tmp_path: Path) -> None:
    done = lsn("extract", str(photos(tmp_path / "photos")), "--model", "mini", "--for", "5")
    assert done.code == 2
    assert "--plan" in done.err
    (tmp_path / "empty").mkdir()
    done = lsn("extract", str(tmp_path / "empty"), "--model", "mini", "--plan")
    assert done.code == 1
    assert "no images" in done.err


def test_times_and_sizes_as_people_say_them() -> None:
    assert [duration(s) for s in (3, 90, 7200, 86400 * 50)] == ["3 s", "90 s", "2.0 h", "50.0 days"]
    assert [size(n) for n in (None, 0, 999, 1000, 123_456, 10**9, 2 * 10**16)] == [
        *("", "0 bytes", "999 bytes", "1.0 kB", "123 kB", "1.0 GB", "20,000 TB"),
    ]
