"""What PyPI is told: classifiers, addresses, and a long description whose links work there."""

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = PROJECT["urls"]["Homepage"]


def build(hook: str, folder: Path) -> Path:
    """What a hook of the build backend makes in ``folder``."""
    script = f"import sys, hatchling.build; print(hatchling.build.{hook}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = build("prepare_metadata_for_build_wheel", tmp_path_factory.mktemp("metadata"))
    return (folder / "METADATA").read_bytes()


@pytest.fixture(scope="module")
def metadata(written: bytes) -> Message:
    return email.message_from_bytes(written)


def links(markdown: str) -> list[str]:
    """Every address that a link or an image of a Markdown text names."""
    tokens = [child for token in MarkdownIt().parse(markdown) for child in token.children or ()]
    named = [token.attrGet("href") or token.attrGet("src") for token in tokens]
    return [str(address) for address in named if address]


PICTURE = re.compile(r'(?:src|srcset)="([^"]+)"')


def test_every_picture_of_the_readme_is_there_and_pypi_is_told_where(metadata: Message) -> None:
    named = PICTURE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(named) >= 3
    assert all((ROOT / name).is_file() for name in named)
    told = PICTURE.findall(str(metadata.get_payload(decode=True), "utf-8"))
    assert told == [f"https://raw.githubusercontent.com/lsncli/lsncli/main/{name}" for name in named]


def test_every_link_of_the_readme_leads_to_a_file_here() -> None:
    for link in links((ROOT / "README.md").read_text(encoding="utf-8")):
        assert link.startswith(("https://", "#")) or (ROOT / link.partition("#")[0]).exists(), link


def test_every_link_of_the_long_description_is_absolute_and_leads_there_too(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    before = links((ROOT / "README.md").read_text(encoding="utf-8"))
    after = links(str(metadata.get_payload(decode=True), "utf-8"))
    relative = [link for link in before if not link.startswith(("https:", "#"))]
    assert len(relative) > 10
    expected = [f"{BASE}/blob/main/{link}" if link in relative else link for link in before]
    assert after == expected


def test_addresses_and_classifiers_are_there(metadata: Message) -> None:
    urls = dict(entry.split(", ", 1) for entry in metadata.get_all("Project-URL", []))
    assert urls == PROJECT["urls"]
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= urls.keys()
    assert all(url.startswith(f"{BASE}/") or url == BASE for url in urls.values())
    for name in ("Documentation", "Changelog"):
        assert (ROOT / urls[name].removeprefix(f"{BASE}/blob/main/")).is_file()
    classifiers = metadata.get_all("Classifier", [])
    assert classifiers == PROJECT["classifiers"]  # hatchling refuses those that PyPI does not know
    oldest = metadata["Requires-Python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in classifiers
    assert metadata["License-Expression"] == "MIT"


@pytest.mark.slow
def test_the_wheel_and_the_sdist_say_the_same(tmp_path: Path, written: bytes) -> None:
    with zipfile.ZipFile(build("build_wheel", tmp_path)) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        assert wheel.read(name) == written
        assert any(name.endswith("mini_weights/MODEL_CARD.md") for name in wheel.namelist())
    with tarfile.open(build("build_sdist", tmp_path)) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
        assert {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "docs/guide.md"} <= names
        info = sdist.extractfile(f"{sdist.getnames()[0].partition('/')[0]}/PKG-INFO")
        assert info is not None
        assert info.read() == written
