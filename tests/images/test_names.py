"""Display names of classes."""

import json
from pathlib import Path

import pytest

from lsncli.errors import UsageError
from lsncli.images.names import class_names

FOLDERS = ("n01440764_tench", "n02102040_English_springer", "cassette_player")


def write(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_wordnet_ids_go_and_underscores_become_spaces() -> None:
    assert class_names(FOLDERS, None) == ("tench", "English springer", "cassette player")
    assert class_names(("n01440764 x", "n01440764-y", "n0144_z", "n01440764"), None) == (
        "x",
        "y",
        "n0144 z",
        "n01440764",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n.json", json.dumps({FOLDERS[1]: "spaniel", FOLDERS[0]: "fish", FOLDERS[2]: "player"})),
        ("n.json", json.dumps(["fish", "spaniel", "player"])),
        ("n.txt", f"{FOLDERS[2]}\tplayer\n{FOLDERS[1]}\tspaniel\n\n{FOLDERS[0]}\tfish\n"),
        ("n.txt", "fish\nspaniel\nplayer"),
    ],
)
def test_a_names_file_overrides(tmp_path: Path, name: str, text: str) -> None:
    assert class_names(FOLDERS, write(tmp_path, name, text)) == ("fish", "spaniel", "player")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.json", json.dumps({"a": "x"}), "no name for the class folders 'b'"),
        ("n.json", json.dumps({"a": "x", "b": "y", "c": "z"}), "no class folders 'c'"),
        ("n.json", json.dumps(["x"]), "expected 2 names.*found 1"),
        ("n.json", json.dumps(["x", 1]), "names"),
        ("n.json", "{", "not valid JSON"),
        ("n.txt", "x\ny\nz", "expected 2 names.*found 3"),
        ("n.txt", "a\tx\ny", "some lines"),
        ("n.txt", "a\tx\na\ty", "'a' has two names"),
        ("n.txt", "a\t \nb\ty", "'a' has an empty name"),
        ("n.txt", "x\nx", "same name 'x'"),
    ],
)
def test_a_bad_names_file_says_which_class(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        class_names(("a", "b"), write(tmp_path, name, text))


def test_a_missing_names_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        class_names(("a",), tmp_path / "nowhere.txt")


def test_two_folders_of_one_name_are_named_in_the_error() -> None:
    with pytest.raises(UsageError, match="'n02012849_crane', 'n03126707_crane'") as caught:
        class_names(("n02012849_crane", "n03126707_crane"), None)
    assert "--classes" in caught.value.hint


def test_class_numbers_count_in_a_longer_list_of_names(tmp_path: Path) -> None:
    names = write(tmp_path, "n.txt", "zero\none\ntwo\nthree")
    assert class_names(("0", "2"), names) == ("zero", "two")
    assert class_names(("0", "2", "7", "9"), names) == ("zero", "one", "two", "three")
    for folders in (("0", "4"), ("0", "cat"), ("²",)):
        with pytest.raises(UsageError, match="expected"):
            class_names(folders, names)
