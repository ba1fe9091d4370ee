"""The pictures of README and the site: the script takes them, and those in docs/images are small enough."""

import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
NAMES = ["report-dark.png", "report-light.png", "score.svg", "select.png"]


def plausible(folder: Path) -> None:
    """Whether each picture has what it should show; no pixel is compared."""
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    brightness = {}
    for name in NAMES[:2]:
        assert 50_000 < (folder / name).stat().st_size < 250_000
        with Image.open(folder / name) as picture:
            assert picture.width == 1200
            assert 1000 < picture.height < 2500
            pixels = picture.convert("RGB")
        assert len(pixels.getcolors(1 << 24)) > 100  # photos and text, not an empty page
        brightness[name] = pixels.resize((1, 1)).convert("L").getpixel((0, 0))
    assert brightness["report-dark.png"] < 100 < 150 < brightness["report-light.png"]
    svg = (folder / "score.svg").read_text(encoding="utf-8")
    shown = re.sub(r"<[^>]+>", "\n", svg).replace("&#160;", " ")
    assert "lsn score images" in shown
    for text in ("images/china.jpg", "images/cat-1.jpg", "Verdict", "OOD", "19 images: "):
        assert text in shown, text
    assert len(set(re.findall(r"fill: (#\w+)", svg))) >= 5  # text, prompt, ID, OOD, warning
    assert svg.count("http") == svg.count("http://www.w3.org/")
    assert "[2K" not in svg  # no code of a progress bar is left
    assert 10_000 < (folder / "select.png").stat().st_size < 60_000
    with Image.open(folder / "select.png") as picture:
        assert picture.width == 975
        assert 700 < picture.height < 1100
        colours = {colour for _, colour in picture.convert("RGB").getcolors(32)}
    for colour in (
        (255, 255, 255),
        (0, 0, 0),
        (0, 114, 178),
        (213, 94, 0),
    ):  # paper, text, near, far and the choice
        assert min(max(abs(a - b) for a, b in zip(colour, one, strict=True)) for one in colours) < 30


def test_the_pictures_of_the_documentation_are_there() -> None:
    plausible(DOCS / "images")


def test_the_script_takes_them(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="NO SCREENSHOT IS TAKEN: pip install scikit-image")
    pytest.importorskip("playwright.sync_api", reason="NO SCREENSHOT IS TAKEN: pip install playwright")
    script = runpy.run_path(str(DOCS / "screenshots.py"))
    if script["chromium"]() is None:
        pytest.skip("NO SCREENSHOT IS TAKEN: there is no chromium")
    script["main"](tmp_path / "pictures")
    plausible(tmp_path / "pictures")
