"""Names out of class names and tars: one file or folder each, on any system, and never the same twice."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.detection.sorting import DEVICES, FORBIDDEN, folder_names, numbered, safe_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tabby cat", "tabby cat"),
        ("naïve 日本 🦊", "naïve 日本 🦊"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("/absolute", "_absolute"),
        ("..", "__"),
        (".hidden", "_hidden"),
        ("-rf", "_rf"),
        ("a/b\\c:d*e?", "a_b_c_d_e_"),
        ("two\nlines\x1b[31m", "two_lines_[31m"),
        ("rtl\u202etxt", "rtl_txt"),
        ("lone\udcff", "lone_"),
        ("ends with a dot. ", "ends with a dot_"),
        ("CON", "_CON"),
        ("nul.jpg", "_nul.jpg"),
        ("", "_"),
        ("   ", "_"),
    ],
)
def test_a_name_leads_nowhere_else(text: str, name: str) -> None:
    assert safe_name(text) == name


@given(st.text(max_size=300), st.integers(4, 255))
def test_any_text_becomes_one_name_that_every_system_takes(text: str, limit: int) -> None:
    name = safe_name(text, limit)
    assert 0 < len(name.encode()) <= limit
    assert name.isprintable()
    assert not FORBIDDEN & set(name)
    assert name[0] not in ".- "
    assert name[-1] not in ". "
    assert name.partition(".")[0].casefold() not in DEVICES
    assert os.path.basename(os.path.normpath(name)) == name


@given(st.lists(st.text(alphabet="aAbB/.-2ood ", max_size=6), unique=True))
def test_no_two_classes_share_a_folder_and_none_takes_ood(classes: list[str]) -> None:
    names = folder_names(classes, ("ood",))
    assert list(names) == classes
    assert len({name.casefold() for name in names.values()} | {"ood"}) == len(classes) + 1


def test_folders_that_would_meet_are_numbered() -> None:
    assert folder_names(["cat", "Cat", "ood", "a/b", "a_b"], ("ood",)) == {
        "cat": "cat",
        "Cat": "Cat-2",
        "ood": "ood-2",
        "a/b": "a_b",
        "a_b": "a_b-2",
    }


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("a.jpg", 2, "a-2.jpg"),
        ("a.b.jpg", 10, "a.b-10.jpg"),
        ("plain", 3, "plain-3"),
        (".jpg", 2, ".jpg-2"),
        ("x" * 251 + ".jpg", 2, "x" * 249 + "-2.jpg"),
        ("é" * 125 + ".jpg", 2, "é" * 124 + "-2.jpg"),
    ],
)
def test_a_number_stands_before_the_extension_and_the_name_stays_short_enough(name, number, expected) -> None:
    assert numbered(name, number) == expected
    assert len(os.fsencode(expected)) <= 255
