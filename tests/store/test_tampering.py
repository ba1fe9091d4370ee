"""Plans, descriptions and locks that somebody changed: one sentence or a new start; no link is followed."""

import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from part_samples import ABOUT, PLAN, files, finish, make, plan_split

from lsncli.errors import LsnError
from lsncli.locks import locked
from lsncli.store.merge import has_all_parts, read_parts, unfinished_splits
from lsncli.store.staging import (
    parts_folder,
    prepare_staging,
    read_metadata,
    read_plan,
    remove_parts,
    split_lock,
)

T = TypeVar("T")
NEEDS_FIFO = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
FIELDS = [
    "listing",
    "fingerprint",
    "items",
    "dim",
    "batch_size",
    "part_rows",
    "options",
    "overwrite",
    "launch",
]
VALUES = [None, True, -1, 0, 10**30, 1.5, "x" * 100_000, "\x1b[31m", [[]], {"a": {}}, "../../etc"]


def room(store: Path, told: list[str]) -> Path:
    """What a run does that begins or goes on."""
    with split_lock(store, "train"):
        return prepare_staging(store, "train", PLAN, overwrite=False, remark=told.append)


def outcome(act: Callable[[], T]) -> tuple[T | None, str]:
    """What came of it, or why it was refused."""
    try:
        return act(), ""
    except LsnError as error:
        return None, error.message


@pytest.mark.parametrize("name", FIELDS)
def test_an_edited_field_is_refused_or_read_as_another_plan(tmp_path: Path, name: str) -> None:
    store = tmp_path / "f.h5"
    folder = plan_split(store)
    whole = json.loads((folder / "plan.json").read_text())
    for value in VALUES:
        (folder / "plan.json").write_text(json.dumps(whole | {name: value}))
        stored, refused = outcome(lambda: read_plan(folder))
        assert refused in ("", f"{folder / 'plan.json'} is damaged.")
        if stored is not None and name not in ("overwrite", "launch"):
            assert stored.plan.digest != PLAN.digest
        _, refused = outcome(lambda: room(store, []))  # another plan is not lost without --overwrite
        assert len(refused) < 600
        folder.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("items", [2**40, 2**62])
def test_a_plan_of_endless_parts_is_answered_at_once(tmp_path: Path, items: int) -> None:
    store = tmp_path / "f.h5"
    folder = plan_split(store)
    make(store, 1)
    whole = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(whole | {"items": items}))
    stored = read_plan(folder)
    assert stored is not None
    tracemalloc.start()
    assert not has_all_parts(folder, stored.plan)
    with pytest.raises(LsnError, match=r"\d+ of \d+ parts in .* are not made yet: 0, 2, 3, 4, 5, \.\.\."):
        read_parts(folder, stored.plan)
    assert [one.made for one in unfinished_splits(store)] == [1]
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ["", "[", "[" * 100_000, '{"a":' * 50_000, "[]", "null", '{"items": 1}', "\xff"]
)
@pytest.mark.parametrize("name", ["plan.json", "split.json"])
def test_a_truncated_or_deep_file_is_one_sentence(tmp_path: Path, name: str, text: str) -> None:
    store = tmp_path / "f.h5"
    folder = plan_split(store)
    (folder / name).write_text(text, encoding="latin-1")
    with pytest.raises(LsnError, match=f"{name} is damaged") as caught:
        read_plan(folder) if name == "plan.json" else read_metadata(folder)
    assert "lsn extract" in caught.value.hint
    if name == "plan.json":
        told: list[str] = []
        room(store, told)
        assert told == [f"Warning: {folder / name} is damaged: the extraction starts anew."]


def test_a_plan_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    folder = plan_split(tmp_path / "f.h5")
    with open(folder / "plan.json", "r+b") as file:
        file.truncate(1 << 40)  # a hole: it takes no disk
    with pytest.raises(LsnError, match=r"plan\.json is damaged"):
        read_plan(folder)


@NEEDS_FIFO
@pytest.mark.parametrize("name", ["plan.json", "split.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    store = tmp_path / "f.h5"
    folder = plan_split(store)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(LsnError, match=f"{name} is damaged"):
        read_plan(folder) if name == "plan.json" else read_metadata(folder)
    plan_split(store)  # the same extraction goes on, or begins
    make(store, 0, 1, 2)
    assert finish(store).rows == 20


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_in_a_folder_of_parts_lead_nowhere(tmp_path: Path) -> None:
    store, outside = tmp_path / "f.h5", tmp_path / "outside"
    outside.mkdir()
    kept = {"plan.json": b"{}", files_name(0): b"mine", "split.json": b"[]"}
    for name, content in kept.items():
        (outside / name).write_bytes(content)
    folder = parts_folder(store, "train")
    folder.parent.mkdir()
    folder.symlink_to(outside)
    for act in (lambda: read_plan(folder), lambda: room(store, []), lambda: remove_parts(store, "train")):
        with pytest.raises(
            LsnError, match=r"train is a symbolic link, which is not followed: expected"
        ) as caught:
            act()
        assert caught.value.hint == "Remove the link."
    assert "symbolic link" in unfinished_splits(store)[0].problems[0]
    folder.unlink()
    plan_split(store)
    for name in kept:  # links to single files are replaced or ignored
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside / name)
    plan_split(store)
    make(store, 0, 1, 2)
    assert not any(path.is_symlink() for path in [folder / "plan.json", folder / "split.json", *files(store)])
    assert finish(store).rows == 20
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == kept


def files_name(index: int) -> str:
    start, stop = PLAN.borders(index)
    return f"rows-{start:012}-{stop:012}.h5"


@pytest.mark.parametrize("content", [b"", b"12345 another-host\n", b"\0" * 5000])
def test_a_lock_file_that_a_dead_process_left_locks_nobody_out(tmp_path: Path, content: bytes) -> None:
    """The operating system knows who holds a lock; what a file says, of whatever host, counts for nothing."""
    lock = tmp_path / "f.h5.lock"
    lock.write_bytes(content)
    os.utime(lock, (2**32, 2**32))  # a clock that was wrong
    refused = pytest.raises(LsnError, match="being written by another process")
    with locked(tmp_path / "f.h5"), refused, locked(tmp_path / "f.h5"):
        pass
    assert not lock.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_in_the_place_of_a_lock_file_makes_no_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "f.h5.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LsnError, match=r"f\.h5\.lock cannot be created: "), locked(tmp_path / "f.h5"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_split_says_of_itself_cannot_be_edited(tmp_path: Path) -> None:
    folder = plan_split(tmp_path / "f.h5")
    whole = json.loads((folder / "split.json").read_text())
    assert read_metadata(folder) == ABOUT
    for name, value in (("replace", True), ("source", "x"), ("classes", ["a"]), ("checksum", "0" * 64)):
        (folder / "split.json").write_text(json.dumps(whole | {name: value}))
        with pytest.raises(LsnError, match=r"split\.json is damaged"):
            read_metadata(folder)
