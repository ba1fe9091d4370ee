"""docs/scale.md is true: numbers are those of `lsn extract --plan`, commands exist, the marked ones run."""

import re
import shlex
from pathlib import Path

import pytest
from cli_runner import exit_code
from photo_samples import photos
from test_docs import commands

from lsncli.console import duration
from lsncli.extraction.estimate import SpeedProbe, forecast

SCALE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"((?:<!-- run -->\n)?)```sh\n(.*?)```", SCALE, re.DOTALL)


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose first column is called ``head``, without its head."""
    table = SCALE.split(f"\n| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def planned(images: int, rate: float = 1000, workers: int = 1):
    probed = SpeedProbe(int(rate), 1.0, 0.0, 0, image_bytes=1e5, key_bytes=40.0)
    return forecast(images, probed, dim=512, workers=workers)


def number(cell: str) -> float:
    """1.4 GB as bytes, 1,526 as it is."""
    value, _, unit = cell.partition(" ")
    return float(value.replace(",", "")) * {"": 1, "GB": 1e9, "TB": 1e12, "GB/s": 1e9}[unit]


def test_the_sizes_are_those_of_the_plan() -> None:
    table = rows("images")
    assert len(table) == 3
    for images, parts, store, disk, read in table:
        found = planned(int(number(images)))
        assert found.parts == number(parts)
        for cell, exact in ((store, found.store_bytes), (disk, found.disk_bytes), (read, found.read_bytes)):
            assert number(cell) == pytest.approx(exact, rel=0.06)


def test_the_hours_are_those_of_the_plan() -> None:
    for rate, *times, cores, storage in rows("images/s of a worker"):
        for workers, time in zip((1, 8, 64, 512), times, strict=True):
            assert time == duration(planned(10**8, number(rate), workers).seconds)
        exact, fast = (-(-number(rate) // of_a_core) for of_a_core in (250, 600))
        assert cores == f"{exact:.0f} / {fast:.0f}"
        assert number(storage) == 64 * number(rate) * 1e5


def lsn_lines() -> list[list[str]]:
    """The arguments of every lsn command, whoever starts it."""
    lines = [line for _, block in BLOCKS for line in block.splitlines()]
    found = [re.search(r"(?:^|srun |-m )(?:lsn|lsncli) (.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def test_every_command_would_be_understood() -> None:
    lines = lsn_lines()
    assert len(lines) >= 12
    known = commands()
    for line in lines:
        name = next(name for name in (" ".join(line[:2]), line[0]) if name in known)
        known[name].make_context(name, line[len(name.split()) :])  # a usage error is raised here


def test_what_is_marked_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lsncli.extraction.estimate.PROBE_SECONDS", 0.0)
    photos(tmp_path / "photos")
    marked = [block for mark, block in BLOCKS if mark]
    assert len(marked) == 1
    for line in marked[0].splitlines():
        code = exit_code(*shlex.split(line, comments=True)[1:])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        assert "100,000,000" in captured.out
