"""Unfinished splits: what is committed stays, what is torn is done again, plans never mix."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import fingerprint, pieces_of, same, split

from lsncli.errors import LsnError
from lsncli.store import parts as parts_module
from lsncli.store.format import Piece, Split
from lsncli.store.parts import Parts, Plan, parts_folder, remove_parts
from lsncli.store.reader import list_splits, read_split
from lsncli.store.verify import verify
from lsncli.store.writer import write_split
from lsncli.types import Failure

CONTENT = split(rows=20)
PLAN = Plan(CONTENT.listing, fingerprint().digest, 20, 4, 3, {"class names": "x"})


def finish(parts: Parts, content: Split = CONTENT, **options: bool) -> None:
    parts.finish(
        fingerprint(), classes=content.classes, problems=content.failures, source=content.source, **options
    )


def add_from(parts: Parts, first: int, last: int = 7) -> None:
    for piece in pieces_of(CONTENT, 3)[first:last]:
        parts.add(piece)


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The bytes of a store written in one go."""
    write_split(tmp_path / "whole.h5", CONTENT, fingerprint())
    data = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "whole.h5").unlink()
    return data


@pytest.mark.parametrize("commit_seconds", [0, 1e9])
def test_pieces_become_the_split_written_in_one_go(
    tmp_path: Path, whole: bytes, commit_seconds: float
) -> None:
    path = tmp_path / "f.h5"
    with Parts.open(path, "train", PLAN, commit_seconds=commit_seconds) as parts:
        assert parts.done == 0
        add_from(parts, 0)
        assert parts.done == (20 if commit_seconds == 0 else 0)
        finish(parts)
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]


@pytest.mark.parametrize("batches", range(8))
def test_an_interrupted_run_resumes_where_it_was(tmp_path: Path, whole: bytes, batches: int) -> None:
    path = tmp_path / "f.h5"

    def interrupted() -> None:
        with Parts.open(path, "train", PLAN) as parts:
            add_from(parts, 0, batches)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with Parts.open(path, "train", PLAN, commit_seconds=0) as parts:
        assert parts.done == min(3 * batches, 20)
        add_from(parts, batches)
        finish(parts)
    assert path.read_bytes() == whole


def test_a_piece_is_committed_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "BLOCK", 6)
    with Parts.open(tmp_path / "f.h5", "train", PLAN, commit_seconds=1e9) as parts:
        add_from(parts, 0, 1)
        assert parts.done == 0
        add_from(parts, 1, 2)
        assert parts.done == 6


def pieces_on_disk(path: Path) -> list[Path]:
    return sorted(parts_folder(path, "train").glob("rows-*.h5"))


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    at = data.index(CONTENT.features[9:12].tobytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", [half, flip, Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_torn_corrupt_or_missing_piece_is_done_again(
    tmp_path: Path, whole: bytes, harm: Callable[[Path], object]
) -> None:
    path = tmp_path / "f.h5"
    with Parts.open(path, "train", PLAN, commit_seconds=0) as parts:
        add_from(parts, 0, 6)
    harm(pieces_on_disk(path)[3])
    (parts_folder(path, "train") / "rows-000000000009-000000000012.h5.tmp").write_bytes(b"torn")
    with Parts.open(path, "train", PLAN, commit_seconds=0) as parts:
        assert parts.done == 9
        assert len(pieces_on_disk(path)) == 3
        add_from(parts, 3)
        finish(parts)
    assert path.read_bytes() == whole


def test_a_foreign_or_misplaced_piece_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with Parts.open(path, "train", PLAN, commit_seconds=0) as parts:
        add_from(parts, 0, 2)
    folder = parts_folder(path, "train")
    (folder / "rows-000000000003-000000000006.h5").rename(folder / "rows-000000000003-000000000009.h5")
    (folder / "rows-000000000000-000000000004.h5").write_bytes(b"no border of batches")
    with Parts.open(path, "train", PLAN) as parts:
        assert parts.done == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listing": "c" * 64}, "listing was abababababab..., is cccccccccccc..."),
        ({"batch_size": 4}, "batch size was 3, is 4"),
        ({"fingerprint": "other"}, "fingerprint was"),
        ({"items": 21}, "items was 20, is 21"),
        ({"options": {}}, "options was {'class names': 'x'}, is {}"),
    ],
)
def test_another_plan_is_refused_until_overwritten(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "f.h5"
    with Parts.open(path, "train", PLAN) as parts:
        add_from(parts, 0, 2)
    other = replace(PLAN, **change)
    with pytest.raises(LsnError) as caught, Parts.open(path, "train", other):
        pass
    assert message in caught.value.message
    assert "--overwrite" in caught.value.hint
    with Parts.open(path, "train", PLAN) as parts:
        assert parts.done == 6  # the refusal harmed nothing
    with Parts.open(path, "train", other, overwrite=True) as parts:
        assert parts.done == 0


def test_overwrite_starts_again_but_resumes_itself(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with Parts.open(path, "train", PLAN) as parts:
        add_from(parts, 0, 2)
    with Parts.open(path, "train", PLAN, overwrite=True) as parts:
        assert parts.done == 0
        add_from(parts, 0, 3)
    with Parts.open(path, "train", PLAN, overwrite=True) as parts:
        assert parts.done == 9


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"overwrite": 1'])
def test_an_unreadable_plan_starts_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.h5"
    with Parts.open(path, "train", PLAN) as parts:
        add_from(parts, 0, 2)
    (parts_folder(path, "train") / "plan.json").write_text(text)
    with Parts.open(path, "train", PLAN) as parts:
        assert parts.done == 0


def test_pieces_without_a_plan_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with Parts.open(path, "train", PLAN) as parts:
        add_from(parts, 0, 2)
    (parts_folder(path, "train") / "plan.json").unlink()
    with Parts.open(path, "train", PLAN) as parts:
        assert parts.done == 0


def test_two_processes_cannot_extract_one_split(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with Parts.open(path, "train", PLAN):
        with pytest.raises(LsnError, match="another process"), Parts.open(path, "train", PLAN):
            pass
        with Parts.open(path, "test", PLAN) as other:  # another split is nobody's business
            assert other.done == 0


def test_batches_must_follow_one_another_and_end_at_borders(tmp_path: Path) -> None:
    empty = (np.empty((0, 4), np.float16), np.empty(0, np.int32), ())
    with Parts.open(tmp_path / "f.h5", "train", PLAN) as parts:
        with pytest.raises(LsnError, match="expected the batch from item 0"):
            parts.add(Piece(3, 6, *empty, ()))
        with pytest.raises(LsnError, match="found items 0 to 2"):
            parts.add(Piece(0, 2, *empty, ()))


def test_an_incomplete_split_cannot_be_finished(tmp_path: Path) -> None:
    with Parts.open(tmp_path / "f.h5", "train", PLAN) as parts:
        add_from(parts, 0, 2)
        with pytest.raises(LsnError, match="6 of 20 images are done"):
            finish(parts)
    assert len(pieces_on_disk(tmp_path / "f.h5")) == 1


def test_a_refused_finish_keeps_the_pieces(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(rows=2), fingerprint())
    with Parts.open(path, "train", PLAN) as parts:
        add_from(parts, 0)
        with pytest.raises(LsnError, match="has a split 'train' already"):
            finish(parts)
        assert len(pieces_on_disk(path)) == 1
        finish(parts, replace=True)
    assert same(read_split(path, "train"), CONTENT)


def test_failures_and_batches_without_rows_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    none = (np.empty((0, 4), np.float16), np.empty(0, np.int32), ())
    plan = replace(PLAN, items=5)
    lost = [Failure(f"{index}.jpg", "an empty file") for index in range(5)]
    for start in (0, 3):
        with Parts.open(path, "train", plan, commit_seconds=0) as parts:
            assert parts.done == start
            parts.add(Piece(start, min(start + 3, 5), *none, tuple(lost[start : start + 3])))
    with Parts.open(path, "train", plan) as parts:
        problem = Failure("x/", "unreadable folder")
        parts.finish(fingerprint(), classes=(), problems=[problem])
    info = list_splits(path)["train"]
    assert (info.rows, info.failures) == (0, (problem, *lost))
    assert verify(path) == []


def test_the_plan_can_be_read_by_people(tmp_path: Path) -> None:
    with Parts.open(tmp_path / "f.h5", "train", PLAN):
        plan = json.loads((parts_folder(tmp_path / "f.h5", "train") / "plan.json").read_text())
    assert plan == {
        "listing": CONTENT.listing,
        "fingerprint": fingerprint().digest,
        "items": 20,
        "dim": 4,
        "batch_size": 3,
        "options": {"class names": "x"},
        "overwrite": False,
    }


def test_removing_what_is_not_there_is_fine_and_a_refusal_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_parts(tmp_path / "f.h5", "train")
    with Parts.open(tmp_path / "f.h5", "train", PLAN):
        pass

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(LsnError, match="could not be removed: Permission denied"):
        remove_parts(tmp_path / "f.h5", "train")
