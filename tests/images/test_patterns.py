"""Patterns list what a shell would expand them to, and what lies in folders that fit."""

import fnmatch
import glob
import os
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_sources import keys, labels, touch

from lsncli.errors import UsageError
from lsncli.images.folder import parse_pattern
from lsncli.images.listing import list_images


def test_a_pattern_lists_as_its_folder_would_with_the_rest_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "cat/2.png", "dog/deep/3.jpg", "dog/notes.txt", "cat/.hidden.jpg")
    every, jpegs = list_images([tmp_path / "**/*"]), list_images([tmp_path / "**/*.jpg"])
    assert every.digest == list_images([tmp_path]).digest
    assert keys(jpegs) == ["cat/1.jpg", "dog/deep/3.jpg"]
    assert (jpegs.folders, labels(jpegs)) == (("cat", "dog"), [0, 1])
    assert (every.ignored, jpegs.ignored) == (2, 1)
    assert keys(list_images([tmp_path / "*/*.jpg"])) == ["cat/1.jpg"]
    assert keys(list_images([tmp_path / "*/[12].*"])) == ["cat/1.jpg", "cat/2.png"]
    assert keys(list_images([tmp_path / "cat/?.j*"])) == ["1.jpg"]


def test_a_folder_that_fits_is_taken_whole_and_once(tmp_path: Path) -> None:
    touch(tmp_path, "2024-05/a/1.jpg", "2024-06/2.jpg", "2023-01/3.jpg")
    assert keys(list_images([tmp_path / "2024-*"])) == ["2024-05/a/1.jpg", "2024-06/2.jpg"]
    assert len(list_images([tmp_path / "**"]).items) == 3


def test_a_name_with_special_characters_that_is_there_is_that_name(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].jpg", "a1.jpg", "b*/c.jpg")
    assert keys(list_images([tmp_path / "a[1].jpg"])) == ["a[1].jpg"]
    assert keys(list_images([tmp_path / "b*"])) == ["c.jpg"]


def test_patterns_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "2.jpg")
    monkeypatch.chdir(tmp_path)
    listing = list_images([Path("**/*.jpg")])
    assert keys(listing) == ["2.jpg", "a/1.jpg"]
    assert all(os.path.isfile(item.path) for item in listing.items)


def test_lists_and_tars_that_fit_are_sources_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "set/1.jpg")
    for name in ("b.tar.gz", "a.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz") as tar:
            tar.add(tmp_path / "set/1.jpg", "1.jpg")
    assert keys(list_images([tmp_path / "*.tar.gz"])) == ["a.tar.gz/1.jpg", "b.tar.gz/1.jpg"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("none/*.jpg", "no folder"), ("*.png", "No image matches"), ("*.tar", "No image matches"),
     ("*/../a.jpg", "after a"), ("[z-a].jpg", "comes after")],
)  # fmt: skip
def test_a_pattern_that_fits_nothing_or_is_broken_is_a_usage_error(
    tmp_path: Path, pattern: str, message: str
) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(UsageError, match=message):
        list_images([tmp_path / pattern])


def test_folders_that_cannot_fit_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/b/c/1.jpg", "x/y/2.jpg", "a/3.jpg")
    opened = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(Path(path).name) or real(path))
    assert keys(list_images([tmp_path / "a*/*.jpg"])) == ["a/3.jpg"]
    assert opened == [tmp_path.name, "a"]


NAMES = st.text("ab.[]!-", min_size=1, max_size=3).filter(lambda name: not name.startswith("."))


@given(
    st.lists(st.text("ab*?[]!", min_size=1, max_size=4), min_size=1, max_size=3), st.lists(NAMES, min_size=1)
)
def test_a_pattern_fits_what_pythons_own_translation_fits(parts: list[str], names: list[str]) -> None:
    pattern = parse_pattern(Path(*parts))
    if pattern is None or pattern.base.parts or len(pattern.parts) != len(names) or "**" in pattern.parts:
        return
    expected = all(fnmatch.fnmatchcase(n, p) for n, p in zip(names, pattern.parts, strict=True))
    assert pattern.matches("/".join(names)) == expected


def test_two_stars_fit_what_glob_fits(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "a/1.jpg", "a/b/1.jpg", "a/b/c/1.jpg", "b/1.jpg", "b/a/2.jpg")
    for text in ("**/1.jpg", "a/**/1.jpg", "**/b/*.jpg", "**/a/**/*.jpg", "**/**/2.jpg", "*/**/1.jpg"):
        expected = set(glob.glob(text, root_dir=tmp_path, recursive=True))
        found = {os.path.relpath(item.path, tmp_path) for item in list_images([tmp_path / text]).items}
        assert found == expected, text


@given(st.text("ab*?[]!-", min_size=1, max_size=12), st.text("ab[]!-", min_size=1, max_size=12))
def test_a_name_of_many_stars_fits_what_pythons_own_translation_fits(part: str, name: str) -> None:
    try:
        pattern = parse_pattern(Path(part))
        if pattern is None or part in ("*", "**") or name.startswith("."):
            return
        found = pattern.matches(name)
    except UsageError:  # of a range that goes backwards, which Python drops in silence
        return
    assert found == fnmatch.fnmatchcase(name, part)


@given(
    st.lists(st.sampled_from(["**", "a", "b", "*", "a*"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=5),
)
def test_stars_for_folders_fit_what_one_expression_fits(parts: list[str], names: list[str]) -> None:
    pattern = parse_pattern(Path(*parts))
    if pattern is None or pattern.base.parts:
        return
    text = ""
    for part in pattern.parts[:-1]:
        text += "(?:[^/]+/)*" if part == "**" else part.replace("*", "[^/]*") + "/"
    last = pattern.parts[-1]
    text += ".*" if last == "**" else last.replace("*", "[^/]*") + "(?:/.*)?"
    key = "/".join(names)
    assert pattern.matches(key) == (re.fullmatch(text, key) is not None)


@pytest.mark.parametrize("text", ["*a" * 60 + "*.jpg", "**/*a*a*a*a*a*a*a*a.jpg", "*[ab]" * 60 + "*.jpg"])
def test_many_stars_take_no_time(text: str) -> None:
    """A matched star is not tried again: each of them doubled the time, and this test did not end."""
    name = "a" * 250
    pattern = parse_pattern(Path(text))
    assert pattern is not None
    assert not pattern.matches(name)
    assert not pattern.matches(f"{name}/{name}")
    assert pattern.matches(name + ".jpg")


def test_more_stars_than_anybody_means_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has 65 stars\. Use 64 at most") as caught:
        list_images([tmp_path / ("*a" * 65)])
    assert len(caught.value.message) < 400
