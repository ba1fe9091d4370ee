"""The documents are true: the tour of README runs; every command and every score has its line."""

import json
import re
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
from cli_runner import exit_code
from typer.main import get_command

from lsncli.artefacts.heads import COMMANDS
from lsncli.cli.app import app
from lsncli.images.budget import USUAL_IMAGE_SECONDS
from lsncli.images.decode import MAX_PIXELS
from lsncli.images.decode_process import MEMORY
from lsncli.images.item import MAX_BYTES
from lsncli.images.metadata import MAX_CHUNKS, MAX_JUNK, MAX_SEGMENTS
from lsncli.images.structure import MANY_EXIF, MANY_METADATA, MAX_HEADER, MAX_WEBP, QUICK_PARTS
from lsncli.images.tiff import MAX_ENTRIES
from lsncli.images.tiff_pixels import MAX_STRIPS
from lsncli.methods.heads import HEADS
from lsncli.scores import SCORES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
METHODS = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def tour() -> list[list[str]]:
    """The arguments of every command in the README's tour blocks."""
    blocks = re.findall(r"<!-- tour.*?-->\n```sh\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("lsn ") for line in lines)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def commands() -> dict[str, Any]:
    """Every command by its name, such as ``store info``."""
    found = {}
    for name, command in get_command(app).commands.items():
        inside = getattr(command, "commands", None)
        found |= {name: command} if inside is None else {f"{name} {one}": inside[one] for one in inside}
    return found


def command_names() -> set[str]:
    return set(commands())


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
        code = exit_code(*argv)
        captured = capsys.readouterr()
        assert code == 0, f"lsn {' '.join(argv)}: {captured.err}"
        assert captured.out.strip() or argv[0] == "report"
    assert (tmp_path / "lsn-report.html").is_file()
    assert (tmp_path / "lsn-work" / "detector.safetensors").is_file()


def test_the_readme_has_at_most_900_words() -> None:
    """Outside code blocks; tables count, addresses and HTML do not."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<[^>]+>|(?<=\])\([^)]*\)", " ", text)
    assert len(re.findall(r"\S*\w\S*", text)) <= 900


def test_every_command_is_in_the_table_of_commands() -> None:
    table = (ROOT / "docs/commands.md").read_text(encoding="utf-8").split("| command |")[1].split("\n\n")[0]
    assert {name for name in command_names() if f"lsn {name}" not in table} == set()


def test_the_document_and_lsn_methods_say_the_same_of_every_score(capsys) -> None:
    assert exit_code("methods", "--format", "json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in listed] == list(SCORES)
    papers = dict(re.findall(r"^\| `(\w+)` \| .* \| ([^|]*) \|$", METHODS, re.MULTILINE))
    assert {row["name"]: row["cited"] for row in listed} == papers
    reduced = re.search(r"^Reduced, because .*?: (.*?)\. `lsn", METHODS, re.MULTILINE | re.DOTALL).group(1)
    assert re.findall(r"`(\w+)`", reduced) == [row["name"] for row in listed if row["form"] == "reduced"]
    for row in listed:
        assert all(row[key] for key in ("paper", "source", "summary", "head")), row["name"]


@pytest.mark.parametrize("name", ["README.md", "docs/compared.md"])
def test_the_comparison_counts_our_scores(name: str) -> None:
    (tens,) = re.findall(r"\| (\d+)\+ scores", (ROOT / name).read_text(encoding="utf-8"))
    assert 0 <= len(SCORES) - int(tens) < 10


def test_every_head_is_documented_with_the_command_that_makes_it() -> None:
    table = METHODS.split("| head |")[1].split("\n\n")[0]
    lines = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert list(lines) == list(HEADS)
    for kind, command in COMMANDS.items():
        assert f"(`{command}`)" in lines[kind]


def test_every_option_that_documents_name_exists() -> None:
    known = {
        option
        for command in commands().values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    known |= {option for parameter in get_command(app).params for option in parameter.opts} | {"--help"}
    for path in DOCUMENTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            for code in re.findall(r"`([^`]*)`", line):
                if code.startswith(("lsn ", "--")):
                    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code))
                    assert named <= known, f"{path.name}: {code}"


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and the site name them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_and_commands_in_documents_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#:]*)(?:#([^)]*))?\)", text):
        file = path.parent / target if target else path
        assert file.exists(), f"{path.name} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{path.name} links to {target}#{anchor}"
    groups = {name.split()[0] for name in command_names()}
    for command in re.findall(r"`lsn ([a-z][a-z-]*)", text):
        assert command in groups, f"{path.name} names `lsn {command}`"


def test_limits_of_images_in_documents_are_those_of_the_code() -> None:
    text = (ROOT / "docs/sources.md").read_text(encoding="utf-8")
    assert MAX_BYTES == 512 << 20
    assert round(MAX_PIXELS / 1e6) == 89
    assert "| file | 512 MiB," in text
    assert "| pixels | 89 million;" in text
    assert f"a WebP {MAX_WEBP / 1e6:.0f} million |" in text
    assert f"| time | {USUAL_IMAGE_SECONDS:.0f} seconds to decode it." in text
    assert f"| JPEG | {MAX_SEGMENTS:,} segments and {MAX_JUNK >> 10} KiB of junk" in text
    assert f"| PNG, WebP | {MAX_CHUNKS - 1:,} chunks |" in text
    assert f"| GIF | {MAX_CHUNKS:,} blocks" in text
    assert f"| TIFF | {MAX_STRIPS:,} strips or tiles, {MAX_ENTRIES:,} tags |" in text
    assert f"| PPM | {MAX_HEADER >> 10} KiB of header |" in text
    assert f"limited to {MEMORY / 2**30:g} GiB" in text
    assert f"more than {MANY_METADATA:,} parts (a GIF: {QUICK_PARTS:,} blocks)" in text
    assert f"EXIF in more than {MANY_EXIF}" in text


def test_the_service_of_the_documentation_runs(tmp_path, monkeypatch) -> None:
    text = (ROOT / "docs/service.md").read_text(encoding="utf-8")
    loop, handler = re.findall(r"<!-- run -->\n```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    sample_crops(tmp_path / "photos", ["chelsea.png", "coffee.png", "astronaut.png"], 8, 0)
    for argv in (["extract", "photos", "--model", "mini"], ["calibrate", "--method", "mcm"]):
        assert exit_code(*argv, "-q") == 0
    names: dict[str, Any] = {}
    exec(loop + handler, names)
    scoring = threading.Thread(target=names["serve"])
    scoring.start()
    try:
        image = (tmp_path / "photos/coffee/1.png").read_bytes()
        answer = names["handle"](image, tmp_path / "one.png")
        assert answer["class"] == "coffee"
        assert isinstance(answer["score"], float)
        assert set(names["handle"](image[:2000], tmp_path / "two.png")) == {"error"}
    finally:
        names["waiting"].put(None)
        scoring.join(60)
    assert not scoring.is_alive()
