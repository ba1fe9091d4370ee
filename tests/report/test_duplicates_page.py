"""The page of copies: what it shows, hostile names, no script, and the page in a browser."""

import io
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from page_samples import HOSTILE
from PIL import Image

from lsncli.console import printable
from lsncli.evaluation.duplicate_groups import Copy, Group
from lsncli.report.page import duplicates as use
from lsncli.report.page.duplicates import duplicates_page


def picture(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def group(*keys: str, conflict: bool = False, splits: str = "train") -> Group:
    names = splits.split()
    return Group(
        tuple(
            Copy(names[at % len(names)], at, key, "cat" if at else "", 0.98765 if at else 1.0, not at, at > 0)
            for at, key in enumerate(keys)
        ),
        conflict,
    )


def test_each_copy_is_shown_with_its_class_cosine_and_advice() -> None:
    groups = [group("a.jpg", "b.jpg", conflict=True, splits="test train"), group("c.jpg", "d.jpg", "e.jpg")]
    page = duplicates_page(groups, {("test", 0): picture()}, ["Two groups: `lsn x`."], ["A note."])
    assert page.count("<img") == 1
    assert page.count("no picture") == 4
    sections = re.split(r"<section", page)[2:]
    assert [section.count("<li>") for section in sections] == [2, 3]
    assert ["classes differ" in section for section in sections] == [True, False]
    assert ["in several splits" in section for section in sections] == [True, False]
    assert [section.startswith(' class="group many"') for section in sections] == [False, True]
    shown = unescape(re.sub(r"<[^>]+>", " ", sections[0]))
    assert re.findall(r"\S+\.jpg|no class|cat\b|identical features|cosine [\d.]+|keep|leave out", shown) == [
        "no class",
        "a.jpg",
        "identical features",
        "keep",
        "cat",
        "b.jpg",
        "cosine 0.9877",
        "leave out",
    ]
    assert '<p class="lead">Two groups: <code>lsn x</code>.</p>' in page
    assert '<p class="note">A note.</p>' in page


def test_a_page_has_no_script_and_loads_nothing() -> None:
    page = duplicates_page([group("a.jpg", "b.jpg")], {}, [])
    assert "<script" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "script-src" not in policy[1]
    assert "unsafe" not in policy[1]
    assert set(re.findall(r'(?:src|href)="([^"]{0,5})', page)) == {"data:"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text(name: str) -> None:
    def page(text: str) -> str:
        copies = (Copy(text, 0, text, text, 1.0, True, False), Copy("s", 1, "b", "cat", 1.0, True, True))
        return duplicates_page([Group(copies, False)], {}, [text])

    tags = [len(re.findall(r"<[a-z/!]", text)) - 2 * text.count("<code>") for text in (page("a"), page(name))]
    assert tags[0] == tags[1]
    assert unescape(page(name)).count(printable(name)) >= 3


def test_no_more_groups_than_a_browser_can_take(monkeypatch) -> None:
    monkeypatch.setattr(use, "GROUPS", 2)
    page = duplicates_page([group(f"{at}.jpg", "b") for at in range(5)], {}, [])
    assert page.count("<h2>") == 2
    assert "The first 2 groups are shown" in page
    assert duplicates_page([], {}, ["No copies among 3 images."]).count("<h2>") == 0


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_browser_of_any_width(tmp_path: Path, width: int, scheme: str) -> None:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="THE PAGE IS NOT TESTED IN A BROWSER: pip install playwright"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("THE PAGE IS NOT TESTED IN A BROWSER: there is no chromium")
    long = "a/very/long/" + "name" * 30 + ".jpg"
    groups = [
        group(long, "b.jpg", splits="test train", conflict=True),
        group(*(f"{at}.jpg" for at in range(7)), splits="far"),
    ]
    pictures = {("test", 0): picture(), ("train", 1): picture("blue")}
    path = tmp_path / "copies.html"
    path.write_text(
        duplicates_page(groups, pictures, ["A command: `" + "lsn-" * 40 + "`."]), encoding="utf-8"
    )
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        troubles: list[str] = []
        tab.on("console", lambda message: troubles.append(message.text))
        tab.on("request", lambda request: troubles.append(request.url) if "http" in request.url else None)
        tab.goto(path.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        sides = tab.evaluate("[...document.images].map(image => image.getBoundingClientRect().width)")
        loaded = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
        tops = tab.evaluate("[...document.images].map(image => image.getBoundingClientRect().top)")
        browser.close()
    assert loaded == [30, 30]
    assert min(sides) > 120
    assert tops[0] == tops[1]  # side by side
    assert troubles == []
