"""Lists on standard input."""

import io
import os
import sys
from pathlib import Path

import pytest
from test_sources import keys, labels, touch

from lsncli.errors import UsageError
from lsncli.images.listing import list_images


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Work in the temporary folder, with these bytes on standard input."""
    monkeypatch.chdir(tmp_path)

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def test_a_list_on_standard_input_keeps_its_order_when_asked(pipe, tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/c.jpg")
    pipe(b"# comment\n\nb.jpg\r\na/c.jpg\tcat\n./b.jpg\n/nowhere.jpg\n")
    listing = list_images([Path("-")], keep_order=True)
    assert [item.path for item in listing.items] == ["b.jpg", "a/c.jpg", "./b.jpg", "/nowhere.jpg"]
    assert keys(listing) == ["b.jpg", "a/c.jpg", "b.jpg~2", "/nowhere.jpg"]
    assert (listing.folders, labels(listing)) == (("cat",), [-1, 0, -1, -1])
    assert [item.size for item in listing.items] == [1, 1, 1, None]


def test_paths_ended_by_nul_may_hold_anything(pipe) -> None:
    names = [b"#a.jpg", b"with\nnewline.jpg", b"with\ttab.jpg", b"caf\xe9.jpg", b" blank .jpg"]
    pipe(b"\0".join(names) + b"\0")
    listing = list_images([Path("-")], keep_order=True)
    assert [os.fsencode(item.path) for item in listing.items] == names
    pipe(b"one.jpg\0two.jpg")  # the last NUL left out
    assert keys(list_images([Path("-")])) == ["one.jpg", "two.jpg"]


def test_standard_input_is_one_source_among_others(pipe, tmp_path: Path) -> None:
    touch(tmp_path, "set/1.jpg")
    pipe(b"2.jpg\n")
    assert keys(list_images([Path("set"), Path("-")], keep_order=True)) == ["set/1.jpg", "stdin/2.jpg"]


def test_an_empty_or_absent_standard_input(pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(b"")
    assert list_images([Path("-")]).items == ()
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="no standard input"):
        list_images([Path("-")])


def test_a_file_that_is_called_minus_can_still_be_named(pipe, tmp_path: Path) -> None:
    touch(tmp_path, "-")
    assert keys(list_images([Path("./-").absolute()])) == ["-"]
