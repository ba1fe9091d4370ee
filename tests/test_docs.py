"""The README is true: its tour runs, its commands exist, every command and score is in it."""

import re
import shlex
from pathlib import Path

import pytest

from lsncli.cli.app import app, main
from lsncli.scores import SCORES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def tour() -> list[list[str]]:
    """The arguments of every command in the README's tour blocks."""
    blocks = re.findall(r"<!-- tour.*?-->\n```sh\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("lsn ") for line in lines)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def command_names() -> set[str]:
    from typer.main import get_command

    names = set()
    for name, command in get_command(app).commands.items():
        names |= {f"{name} {inner}" for inner in command.commands} if hasattr(command, "commands") else {name}
    return names


def sample_crops(folder: Path, names: list[str], count: int, shift: int) -> None:
    """``count`` crops of each scikit-image photo, one folder per photo."""
    skimage = pytest.importorskip("skimage")
    from PIL import Image

    for name in names:
        photo = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
        target = folder / Path(name).stem
        target.mkdir(parents=True)
        for number in range(count):
            left, top = shift + 4 * number, 3 * number
            photo.crop((left, top, left + 180, top + 180)).save(target / f"{number}.png")


def test_the_tour_runs(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    photos = ["chelsea.png", "coffee.png", "astronaut.png"]
    sample_crops(tmp_path / "photos", photos, 8, 0)
    sample_crops(tmp_path / "photos-test", photos, 3, 20)
    sample_crops(tmp_path / "foreign", ["brick.png", "grass.png"], 3, 0)
    sample_crops(tmp_path / "images", ["rocket.jpg", "chelsea.png"], 2, 10)
    for argv in tour():
        with pytest.raises(SystemExit) as stop:
            main(argv)
        captured = capsys.readouterr()
        assert stop.value.code == 0, f"lsn {' '.join(argv)}: {captured.err}"
        assert captured.out.strip() or argv[0] == "store"
    assert (tmp_path / "lsn-work" / "detector.safetensors").is_file()


def test_every_command_is_in_the_readme() -> None:
    table = README.split("## Commands")[1].split("## How scores")[0]
    assert {name for name in command_names() if f"lsn {name}" not in table} == set()


def test_every_score_is_in_the_readme() -> None:
    assert [name for name in SCORES if f"| `{name}` |" not in README] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_and_commands_in_documents_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"
    groups = {name.split()[0] for name in command_names()}
    for command in re.findall(r"`lsn ([a-z][a-z-]*)", text):
        assert command in groups, f"{path.name} names `lsn {command}`"
