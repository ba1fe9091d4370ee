"""Bytes of images: nothing is read that changed since it was listed; other processes read a listing."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from test_packed import pack
from test_sources import make_tar, touch

from lsncli.images.item import ImageItem
from lsncli.images.listing import list_images, shareable
from lsncli.images.read import Undecodable, read_bytes


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(0, 1))


def grown(path: Path) -> None:
    times = path.stat()
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(path: Path) -> None:
    path.with_suffix(".new").write_bytes(path.read_bytes())
    os.utime(path.with_suffix(".new"), ns=(5, 5))
    os.replace(path.with_suffix(".new"), path)


CHANGES = [rewritten, grown, replaced]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("source", ["set", "set/*.jpg", "set/a.jpg", "list.txt"])
def test_a_file_that_changed_since_it_was_listed_is_a_failure(
    tmp_path: Path, change: Callable[[Path], None], source: str
) -> None:
    touch(tmp_path, "set/a.jpg", data=b"abc")
    (tmp_path / "list.txt").write_text("set/a.jpg\n")
    (item,) = list_images([tmp_path / source]).items
    assert read_bytes(item) == b"abc"
    change(tmp_path / "set/a.jpg")
    with pytest.raises(Undecodable, match=r"^changed since it was listed$"):
        read_bytes(item)
    (again,) = list_images([tmp_path / source]).items
    assert read_bytes(again)


@pytest.mark.parametrize("change", CHANGES)
def test_a_tar_that_changed_since_it_was_listed_is_a_failure_of_its_images(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    make_tar(tmp_path / "t.tar", {"a.jpg": b"abc", "b.jpg": b"d"})
    items = list_images([tmp_path / "t.tar"]).items
    assert [read_bytes(item) for item in items] == [b"abc", b"d"]
    change(tmp_path / "t.tar")
    for item in items:
        with pytest.raises(Undecodable, match=r"^its tar changed since it was listed$"):
            read_bytes(item)


def test_what_nobody_knew_at_listing_is_not_asked_for_later(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\n")
    (item,) = list_images([tmp_path / "list.txt"]).items
    with pytest.raises(Undecodable, match="no such file"):
        read_bytes(item)
    touch(tmp_path, "a.jpg", data=b"abc")
    assert read_bytes(item) == b"abc"
    assert read_bytes(ImageItem("a.jpg", str(tmp_path / "a.jpg"))) == b"abc"


def test_a_file_that_changes_under_the_reading_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", data=b"abc")
    (item,) = list_images([tmp_path / "a.jpg"]).items
    real = os.read

    def read(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        os.utime(tmp_path / "a.jpg", ns=(1, 1))
        return data

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(Undecodable, match="changed while it was read"):
        read_bytes(item)


def test_nothing_stays_open(tmp_path: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("open files are counted through /proc")
    touch(tmp_path, "a.jpg", "b.jpg/c")
    before = len(os.listdir("/proc/self/fd"))
    for name, size in (("a.jpg", None), ("a.jpg", 9), ("b.jpg", None), ("gone.jpg", None)):
        with suppress(Undecodable):
            read_bytes(ImageItem(name, str(tmp_path / name), None, size))
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_process_reads_a_listing(tmp_path: Path) -> None:
    touch(tmp_path, "set/a.jpg", data=b"abc")
    make_tar(tmp_path / "t.tar", {"b.jpg": b"d"})
    listing = list_images([tmp_path / "set", tmp_path / "t.tar"])
    assert shareable(listing) == ""
    (tmp_path / "listing").write_bytes(pickle.dumps(listing))
    code = (
        "import pickle, sys; from lsncli.images.read import read_bytes\n"
        "listing = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print([read_bytes(item) for item in listing.items], listing.digest)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "listing")], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == f"{[b'abc', b'd']} {listing.digest}"


def test_what_one_process_alone_can_read_says_why(tmp_path: Path) -> None:
    pack(tmp_path / "t.tgz", [("a.jpg", b"x")], "w:gz")
    touch(tmp_path, "set/a.jpg")
    listing = list_images([tmp_path / "set", tmp_path / "t.tgz"])
    assert (
        shareable(listing)
        == f"'{tmp_path / 't.tgz'}' is compressed: this process alone can read what it unpacked of it."
    )
    with pytest.raises(TypeError):
        pickle.dumps(listing.items)
    assert shareable(replace(listing, items=listing.items[:1])) == ""
