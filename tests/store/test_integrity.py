"""Content that is not what was written is refused where it is read, and rows are read for that only once."""

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from flipped_bits import everything, some_bits, unnoticed
from part_samples import ABOUT, PLAN, make, plan_split
from store_samples import fingerprint, same, split

from lsncli.errors import LsnError
from lsncli.store import NO_VERIFY, container, integrity
from lsncli.store.external_rows import rows_folder
from lsncli.store.merge import finish_external_split
from lsncli.store.reader import (
    find_split,
    list_splits,
    read_checksums,
    read_fingerprint,
    read_split,
    read_text,
)
from lsncli.store.staging import split_lock
from lsncli.store.verify import verify
from lsncli.store.writer import write_split, write_text


@pytest.fixture
def spread(tmp_path: Path) -> Path:
    """A store of one split in part files."""
    path = tmp_path / "spread.h5"
    plan_split(path)
    make(path, 0, 1, 2)
    with split_lock(path, "train"):
        finish_external_split(path, "train", PLAN, ABOUT)
    return path


def change(store: Path, old: bytes, new: bytes) -> None:
    before, found, after = store.read_bytes().rpartition(old)
    assert found
    store.write_bytes(before + new + after)


def flip_a_row(store: Path, name: str = "train") -> None:
    features = read_split(store, name).features.tobytes()
    change(store, features, features[:5] + bytes([features[5] ^ 1]) + features[6:])


@pytest.fixture(params=["in memory", "mapped"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "mapped":
        monkeypatch.setattr(container, "MAPPED", 0)


@pytest.mark.usefixtures("where")
def test_changed_rows_are_refused_in_the_words_of_verify(tmp_path: Path) -> None:
    store = tmp_path / "f.h5"
    write_split(store, split(), fingerprint())
    flip_a_row(store)
    (problem,) = verify(store)
    assert problem == f"Split 'train': {integrity.CHANGED_ROWS}."
    with pytest.raises(LsnError, match=integrity.CHANGED_ROWS) as caught:
        read_split(store, "train")
    assert "split 'train'" in caught.value.message
    assert "--no-verify" in caught.value.hint
    assert list_splits(store)["train"].rows == 6  # what is said of it is sound


def test_the_other_splits_of_a_damaged_store_are_read(store: Path) -> None:
    flip_a_row(store)
    assert same(read_split(store, "other"), split("other"))
    write_split(store, split(), fingerprint(), replace=True)
    assert verify(store) == []
    assert same(read_split(store, "train"), split())


@pytest.mark.parametrize(
    ("old", "new", "readers"),
    [
        (b"somewhere", b"somewhera", [read_fingerprint, list_splits, read_text, read_checksums]),
        (b"photos2", b"photos3", [list_splits, lambda path: find_split(path, "other")]),
        (b"x\0y\0", b"x\0z\0", [read_text]),
        (b"other\0", b"othes\0", [read_fingerprint, list_splits, lambda path: read_split(path, "train")]),
        (b"text\0", b"tfxt\0", [read_text, list_splits]),
    ],
)
def test_changed_names_and_descriptions_are_refused(tmp_path: Path, old: bytes, new: bytes, readers) -> None:
    store = tmp_path / "f.h5"
    write_split(store, split(), fingerprint())
    write_split(store, replace(split("other"), source="photos2"), fingerprint())
    write_text(store, ("x", "y"), np.ones((2, 4), np.float32))
    for read in readers:
        read(store)
    change(store, old, new)
    for read in readers:
        with pytest.raises(LsnError, match="chang"):
            read(store)


@pytest.mark.usefixtures("where")
def test_no_flipped_bit_of_a_store_changes_what_is_read(store: Path) -> None:
    read = partial(everything, splits=("train", "other"))
    assert unnoticed(store, store, some_bits(store, 60, 1), read) == []


def test_no_flipped_bit_of_a_part_file_changes_what_is_read(spread: Path) -> None:
    read = partial(everything, splits=("train",))
    for number, file in enumerate([spread, *sorted(rows_folder(spread).rglob("*.h5"))[:2]]):
        assert unnoticed(spread, file, some_bits(file, 20, number), read) == []


def test_who_must_reads_what_is_there(store: Path, spread: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_a_row(store)
    monkeypatch.setenv(NO_VERIFY, "1")
    assert not same(read_split(store, "train"), split())
    part = sorted(rows_folder(spread).rglob("*.h5"))[0]
    features = split(rows=20).features[:2].tobytes()
    change(part, features, bytes([features[0] ^ 1]) + features[1:])
    assert read_split(spread, "train").features.shape == (20, 4)
    monkeypatch.setenv(NO_VERIFY, "0")
    for damaged in (store, spread):
        with pytest.raises(LsnError, match=r"was changed|were changed"):
            read_split(damaged, "train")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits whose rows were read to check them."""
    names: list[str] = []
    before = integrity.rows_checksum

    def count(group, content):
        names.append(content.name)
        return before(group, content)

    monkeypatch.setattr(integrity, "rows_checksum", count)
    monkeypatch.setattr(integrity, "_known", set())
    monkeypatch.setattr(integrity, "SETTLED", -(10**18))  # whatever the clocks say
    return names


def test_rows_are_checked_once_for_each_state_of_the_file(store: Path, hashed: list[str]) -> None:
    for _ in range(3):
        read_split(store, "train")
        read_split(store, "other")
    assert hashed == ["train", "other"]
    os.utime(store, ns=(1, 1))
    read_split(store, "train")
    assert hashed == ["train", "other", "train"]
    shutil.copy2(store, store.with_name("copy.h5"))
    os.replace(store.with_name("copy.h5"), store)
    read_split(store, "train")
    assert hashed == ["train", "other", "train", "train"]


def test_part_files_are_checked_once_for_each_state_of_each(spread: Path, hashed: list[str]) -> None:
    for _ in range(2):
        assert same(read_split(spread, "train"), split(rows=20))
    assert hashed == ["train"]
    os.utime(sorted(rows_folder(spread).rglob("*.h5"))[1], ns=(1, 1))
    read_split(spread, "train")
    assert hashed == ["train", "train"]


def test_a_file_that_changed_just_now_is_checked_again(store: Path, hashed: list[str], monkeypatch) -> None:
    monkeypatch.setattr(integrity, "SETTLED", 10**18)
    for _ in range(2):
        read_split(store, "train")
    assert hashed == ["train", "train"]


def test_large_splits_are_remembered_beside_the_store(store: Path, hashed: list[str], monkeypatch) -> None:
    marks = store.with_name(store.name + ".checked")
    read_split(store, "train")
    assert not marks.exists()
    monkeypatch.setattr(integrity, "MAPPED", 0)
    monkeypatch.setattr(integrity, "_known", set())
    read_split(store, "train")
    read_split(store, "other")
    monkeypatch.setattr(integrity, "_known", set())  # as another process
    read_split(store, "train")
    read_split(store, "other")
    assert hashed == ["train", "train", "other"]
    assert len(marks.read_text().split()) == 2
    flip_a_row(store)
    os.utime(store, ns=(1, 1))
    with pytest.raises(LsnError, match=integrity.CHANGED_ROWS):
        read_split(store, "train")


def test_marks_are_few_and_damaged_ones_are_no_harm(store: Path, hashed: list[str], monkeypatch) -> None:
    monkeypatch.setattr(integrity, "MAPPED", 0)
    marks = store.with_name(store.name + ".checked")
    marks.write_bytes(b"\xff\0 nonsense\n" + b"x\n" * 500)
    read_split(store, "train")
    assert hashed == ["train"]
    assert len(marks.read_text().split()) == integrity.REMEMBERED
    marks.unlink()
    marks.mkdir()  # cannot be read or written
    monkeypatch.setattr(integrity, "_known", set())
    read_split(store, "train")
    assert hashed == ["train", "train"]


@pytest.mark.parametrize("device", ["/dev/zero", "a fifo"])
def test_marks_that_never_end_are_not_read(store: Path, hashed: list[str], device: str) -> None:
    if not hasattr(os, "mkfifo") or not Path("/dev/zero").exists():
        pytest.skip("needs /dev/zero and FIFOs")
    marks = store.with_name(store.name + ".checked")
    if device == "/dev/zero":
        marks.symlink_to(device)
    else:
        os.mkfifo(marks)
    assert same(read_split(store, "train"), split())
    assert hashed == ["train"]


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("seconds", [2**33, 0], ids=["the future", "1970"])
def test_a_change_is_found_whatever_the_clock_says(tmp_path: Path, seconds: int) -> None:
    """A clock that jumped gives a file times of the future or of long ago, and the same ones again."""
    store = tmp_path / "f.h5"
    write_split(store, split(), fingerprint())
    os.utime(store, (seconds, seconds))
    for _ in range(2):
        assert same(read_split(store, "train"), split())
    flip_a_row(store)
    os.utime(store, (seconds, seconds))
    with pytest.raises(LsnError, match="the checksum does not match"):
        read_split(store, "train")
