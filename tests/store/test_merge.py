"""A split in part files: read like any other, and a sentence for every file that is not right."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from part_samples import ABOUT, CONTENT, PLAN, files, finish, make, plan_split
from store_samples import chunks_of, fingerprint, same, split

from lsncli.errors import LsnError
from lsncli.store.external_rows import RowFile, fill_row_files, rows_folder
from lsncli.store.external_rows import row_files as row_files_of
from lsncli.store.format import SplitInfo
from lsncli.store.merge import finish_external_split, gather_split, remove_unsound_parts, unfinished_splits
from lsncli.store.part import Part
from lsncli.store.reader import list_splits, read_checksums, read_split
from lsncli.store.staging import SplitMetadata, parts_folder, split_lock
from lsncli.store.verify import verify
from lsncli.store.writer import write_split


def spread(store: Path, about: SplitMetadata = ABOUT) -> SplitInfo:
    with split_lock(store, "train"):
        return finish_external_split(store, "train", PLAN, about)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A store to be, all of whose parts are made."""
    path = tmp_path / "f.h5"
    plan_split(path)
    make(path, 0, 1, 2)
    return path


@pytest.fixture
def store(parts: Path) -> Path:
    """A store with a split in part files."""
    spread(parts)
    return parts


def plain(folder: Path) -> Path:
    """A store with the same split in it."""
    plan_split(folder / "plain.h5")
    make(folder / "plain.h5", 0, 1, 2)
    finish(folder / "plain.h5")
    return folder / "plain.h5"


def row_files(store: Path) -> list[Path]:
    return sorted(rows_folder(store).rglob("rows-*.h5"))


def test_a_split_in_part_files_is_read_like_any_other(store: Path, tmp_path: Path) -> None:
    assert same(read_split(store, "train"), CONTENT)
    assert verify(store) == []
    assert len(row_files(store)) == 3
    assert not parts_folder(store, "train").parent.exists()
    other = plain(tmp_path)
    assert list_splits(store) == list_splits(other)
    assert read_checksums(store) == read_checksums(other)


def test_gathered_it_is_the_store_of_a_plain_extraction_to_the_byte(store: Path, tmp_path: Path) -> None:
    gather_split(store, "train")
    assert store.read_bytes() == plain(tmp_path).read_bytes()
    assert not rows_folder(store).exists()
    with pytest.raises(LsnError, match="already"):
        gather_split(store, "train")


def test_it_stays_where_it_is_when_another_split_is_written(store: Path) -> None:
    write_split(store, split("test", rows=3), fingerprint())
    assert same(read_split(store, "train"), CONTENT)
    assert len(row_files(store)) == 3
    with h5py.File(store) as file:
        assert "features" not in file["splits/train"]
        assert file.attrs["format_version"] == 2
    write_split(store, split("train", rows=3), fingerprint(), replace=True)
    assert not rows_folder(store).exists()  # nobody names these files any more
    with h5py.File(store) as file:
        assert file.attrs["format_version"] == 1


def test_other_rows_take_the_place_of_a_split_and_old_files_go(store: Path) -> None:
    before = row_files(store)[0].parent
    write_split(store, split("test", rows=3), fingerprint())
    other = replace(PLAN, options={})
    folder = plan_split(store, other, replace(ABOUT, replace=True))
    content = split(rows=20, seed=1)
    for index in range(3):
        with Part.open(folder, other, index) as part:
            for batch in chunks_of(content, 3):
                if part.start <= batch.start < part.stop:
                    part.add(batch)
    with split_lock(store, "train"):
        finish_external_split(store, "train", other, replace(ABOUT, replace=True))
    assert not before.exists()
    assert same(read_split(store, "train"), content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(CONTENT.features[9:12].tobytes())] ^= 1
    file.write_bytes(bytes(data))


def swap(file: Path) -> None:
    shutil.copy(file.parent / "rows-000000000000-000000000009.h5", file)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (Path.unlink, r"rows-000000000009-000000000018\.h5, which holds 9 rows of a split, is missing"),
        (cut, r"rows-000000000009-000000000018\.h5 is damaged"),
        (flip, r"rows-000000000009-000000000018\.h5 was changed after it was written"),
        (swap, r"rows-000000000009-000000000018\.h5 was changed after it was written"),
    ],
)
def test_a_part_file_that_is_not_right_is_named(
    store: Path, harm: Callable[[Path], object], message: str
) -> None:
    harm(row_files(store)[1])
    with pytest.raises(LsnError, match=message):
        read_split(store, "train")
    assert len(verify(store)) == 1
    assert list_splits(store)["train"].rows == 20  # what is said of it is in the store


def edit(store: Path, change: Callable[[h5py.Group], object]) -> None:
    with h5py.File(store, "r+") as file:
        change(file["splits/train"])


def texts(group: h5py.Group, name: str, *values: bytes) -> None:
    del group[name]
    group.create_dataset(name, data=np.frombuffer(b"".join(value + b"\0" for value in values), np.uint8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.attrs.__setitem__("folder", np.bytes_(b"../elsewhere")), "is no name of a folder"),
        (lambda g: texts(g["files"], "names", b"a", b"b", b"c"), "names no part files"),
        (lambda g: texts(g["files"], "names", b"rows-000000000000-000000000009.h5"), "names no part files"),
        (lambda g: g["files/rows"].__setitem__(0, 8), "expected 20 rows in its files, found 19"),
        (lambda g: g["files/rows"].__setitem__(0, -9), "names no part files"),
        (
            lambda g: g.attrs.__setitem__("dim", np.int64(5)),
            r"expected features of 5, found 4|must be \(20, 4\), found \(20, 5\)",
        ),
    ],
)
def test_a_store_that_names_what_cannot_be_is_refused(
    store: Path, change: Callable[[h5py.Group], object], message: str
) -> None:
    edit(store, change)
    assert any(re.search(message, problem) for problem in verify(store))
    with pytest.raises(LsnError, match=message):
        read_split(store, "train")


@pytest.mark.parametrize("call", ["link", "replace", "fsync"])
@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_death_while_part_files_are_moved_loses_nothing(
    parts: Path, tmp_path: Path, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = getattr(os, call), number

    def dies(*args: object, **options: object) -> object:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, dies)
        try:
            spread(parts)
        except KeyboardInterrupt:
            assert len(files(parts)) == 3
        else:
            assert left > 0
            return
    if not parts.exists():  # else it died after the last step but one: the split is there, and its parts too
        spread(parts)
    assert same(read_split(parts, "train"), CONTENT)
    gather_split(parts, "train")
    assert parts.read_bytes() == plain(tmp_path).read_bytes()


def test_where_files_cannot_have_two_names_they_are_copied(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    spread(parts)
    assert same(read_split(parts, "train"), CONTENT)


def test_a_link_to_the_store_finds_its_part_files(store: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/link.h5").symlink_to(store)
    assert same(read_split(tmp_path / "sub/link.h5", "train"), CONTENT)


def test_a_part_that_cannot_be_used_is_removed_to_be_made_again(parts: Path) -> None:
    folder, (first, second, third) = parts_folder(parts, "train"), files(parts)
    said: list[str] = []
    assert not remove_unsound_parts(folder, PLAN, said.append)
    assert said == []
    flip(second)
    assert remove_unsound_parts(folder, PLAN, said.append)
    assert len(said) == 1
    assert files(parts) == [first, third]
    assert remove_unsound_parts(folder, PLAN, said.append)  # it is still missing


def test_a_split_may_have_more_part_files_than_a_byte_counts(tmp_path: Path) -> None:
    made = [RowFile(f"rows-{n:012d}-{n + 1:012d}.h5", 1, "0" * 64) for n in range(300)]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        fill_row_files(file.create_group("x"), "train-0123456789abcdef", 4, made)
        assert row_files_of(file["x"]) == made


def test_what_is_unfinished_is_reported_with_what_is_wrong(parts: Path) -> None:
    assert unfinished_splits(parts.with_name("other.h5")) == []
    (one,) = unfinished_splits(parts)
    assert (one.split, one.parts, one.made, one.problems) == ("train", 3, 3, ())
    files(parts)[2].unlink()
    flip(files(parts)[1])
    (one,) = unfinished_splits(parts)
    assert (one.made, len(one.problems)) == (2, 1)
    assert "do not match its checksum" in one.problems[0]
    (parts_folder(parts, "train") / "plan.json").write_text("{}")
    (one,) = unfinished_splits(parts)
    assert (one.parts, one.made) == (0, 0)
    assert "plan.json is damaged" in one.problems[0]
