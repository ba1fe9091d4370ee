"""docs/guide.md is true: its commands run in order on a small folder, and print what it shows."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_runner import exit_code

from lsncli.errors import LsnError

GUIDE = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")
CLASSES = {"cat": "chelsea.png", "espresso": "coffee.png", "motorcycle": "motorcycle_left.png"}
FOREIGN = {
    "brick": "brick.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "moon": "moon.png",
    "stars": "hubble_deep_field.jpg",
}


class Step(NamedTuple):
    """A block of commands, why it is not run (blank: it is), and the output shown below it."""

    commands: str
    skipped: str
    shown: list[str]


def steps() -> Iterator[Step]:
    pattern = r"(?:<!-- not run: (.*?) -->\n)?```sh\n(.*?)```\n(?:\n```text\n(.*?)```)?"
    for skipped, commands, shown in re.findall(pattern, GUIDE, re.DOTALL):
        yield Step(commands, skipped, [line for line in shown.splitlines() if line != "..."])


def crops(name: str, count: int, shift: int) -> Iterator:
    """``count`` crops of a scikit-image photo."""
    skimage = pytest.importorskip("skimage")
    from PIL import Image

    photo = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
    for number in range(count):
        left, top = shift + 7 * number, shift // 2 + 4 * number
        yield photo.crop((left, top, left + 220, top + 220))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """The folders that the guide speaks of, made of crops."""
    for name in ("images", "good-images", "foreign", "incoming"):
        (tmp_path / name).mkdir()
    for word, photo in CLASSES.items():
        (tmp_path / "photos" / word).mkdir(parents=True)
        for number, image in enumerate(crops(photo, 10, 0), 1):
            image.save(tmp_path / "good-images" / f"{word}-{number}.jpg", quality=90)
        for number, image in enumerate(crops(photo, 6, 15), 1):
            image.save(tmp_path / "images" / f"{word}-{number}.jpg", quality=90)
        for number, image in enumerate(crops(photo, 8, 5), 1):
            image.save(tmp_path / "photos" / word / f"{number}.jpg", quality=80)
    for word, photo in FOREIGN.items():
        first, second, third = crops(photo, 3, 0)
        first.save(tmp_path / "images" / f"{word}.jpg", quality=90)
        second.save(tmp_path / "foreign" / f"{word}.jpg", quality=90)
        third.save(tmp_path / "incoming" / f"{word}.jpg", quality=90)
    whole = (tmp_path / "images" / "cat-1.jpg").read_bytes()
    (tmp_path / "images" / "broken.jpg").write_bytes(whole[:2000])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_here(commands: str, capsys) -> str:
    """Everything that lines of ``lsn ...`` print, run in this process, where the model's code is loaded."""
    for line in commands.splitlines():
        if exit_code(*shlex.split(line, comments=True)[1:]):
            pytest.fail(f"{line}\n{capsys.readouterr().err}")
    captured = capsys.readouterr()
    return captured.out + captured.err


def run_in_bash(commands: str, programs: Path) -> str:
    """Everything that a block with pipes, wildcards or conditions prints."""
    done = subprocess.run(
        ["bash", "--norc", "-euo", "pipefail", "-c", commands],
        env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}"
    return done.stdout


def words(text: str) -> str:
    """The text without what depends on the machine: the folder, widths of columns, numbers."""
    # A folder with a space in its name is quoted where a command is shown.
    text = text.replace(str(Path.cwd()), "/shop").replace("'", "")
    return re.sub(r"\d+(?:\.\d+)?", "#", " ".join(text.split()))


@pytest.mark.timeout(1800)  # a minute where nothing else runs
def test_the_guides_commands_run_and_print_what_it_shows(folder, tmp_path_factory, capsys) -> None:
    programs = tmp_path_factory.mktemp("bin")
    (programs / "lsn").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lsncli "$@"\n')
    (programs / "lsn").chmod(0o755)
    for step in steps():
        if step.skipped:
            continue
        plain = all(re.fullmatch(r"lsn [^|*$<>;&]*", line) for line in step.commands.splitlines())
        said = run_here(step.commands, capsys) if plain else run_in_bash(step.commands, programs)
        for line in step.shown:
            assert words(line) in words(said), f"{step.commands}\nshown: {line}\n{said}"
    assert list((folder / "why").glob("*.png"))
    assert (folder / "lsn-report.html").stat().st_size > 50_000
    assert len(list((folder / "images").iterdir())) == 25  # what was moved came back


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    found = list(steps())
    assert len(found) == GUIDE.count("```sh\n")
    assert sum(not step.skipped for step in found) >= 12
    assert sum(bool(step.shown) for step in found) == GUIDE.count("```text\n")


def test_the_guide_names_every_exit_code() -> None:
    table = GUIDE.split("| exit code |")[1].split("\n\n")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert codes == {
        0,
        130,
        141,
        143,
        LsnError.exit_code,
        *(one.exit_code for one in LsnError.__subclasses__()),
    }
