"""Parts of an unfinished split: what is committed stays, what is torn is done again, plans never mix."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from part_samples import (
    ABOUT,
    BATCHES,
    CONTENT,
    PLAN,
    SECOND,
    add_from,
    files,
    finish,
    make,
    open_part,
    plan_split,
)
from store_samples import fingerprint, same, split

from lsncli.errors import LsnError, UsageError
from lsncli.store import part as part_module
from lsncli.store.format import Chunk
from lsncli.store.merge import has_all_parts, read_parts
from lsncli.store.part import Part
from lsncli.store.reader import list_splits, read_split
from lsncli.store.staging import (
    PART_ROWS,
    part_rows_for,
    parts_folder,
    read_metadata,
    read_plan,
    remove_parts,
    split_lock,
)
from lsncli.store.verify import verify
from lsncli.store.writer import write_split
from lsncli.types import Failure, Seconds

EMPTY = (np.empty((0, 4), np.float16), np.empty(0, np.int32), ())


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The bytes of a store written in one go."""
    write_split(tmp_path / "whole.h5", CONTENT, fingerprint())
    data = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "whole.h5").unlink()
    return data


@pytest.mark.parametrize("commit_seconds", [0, 1e9])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_in_any_order_become_the_split_written_in_one_go(
    tmp_path: Path, whole: bytes, commit_seconds: float, order: tuple[int, ...]
) -> None:
    path = tmp_path / "f.h5"
    plan_split(path)
    make(path, *order, commit_seconds=commit_seconds)
    assert [file.name for file in files(path)] == [
        "rows-000000000000-000000000009.h5",
        "rows-000000000009-000000000018.h5",
        "rows-000000000018-000000000020.h5",
    ]
    finish(path)
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]


def interrupted(path: Path, index: int, batches: int) -> None:
    """Add some batches to a part and stop."""
    try:
        with open_part(path, index, 1e9) as part:
            add_from(part, batches)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


@pytest.mark.parametrize("batches", range(8))
def test_an_interrupted_run_resumes_where_it_was(tmp_path: Path, whole: bytes, batches: int) -> None:
    path = tmp_path / "f.h5"
    plan_split(path)
    for index in range(PLAN.parts):
        interrupted(path, index, batches)
    for index in range(PLAN.parts):
        with open_part(path, index) as part:
            assert part.next_item == min(max(3 * batches, part.start), part.stop)
            add_from(part, 7)
            assert part.complete
    finish(path)
    assert path.read_bytes() == whole


def test_a_chunk_is_committed_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_module, "BLOCK", 6)
    with open_part(tmp_path / "f.h5", 0, commit_seconds=1e9) as part:
        add_from(part, 1)
        assert part.next_item == 0
        part.add(BATCHES[1], SECOND)
        assert part.next_item == 6


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    """Change a bit of the rows, or change it back."""
    data = bytearray(file.read_bytes())
    at = data.index(CONTENT.features[3:6].tobytes()[1:])
    data[at - 1] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", [half, flip, Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_torn_corrupt_or_missing_chunk_is_done_again(
    tmp_path: Path, whole: bytes, harm: Callable[[Path], object]
) -> None:
    path = tmp_path / "f.h5"
    make_after_planning(path, 1, 2)
    with open_part(path, 0) as part:
        add_from(part, 2)
    harm(files(path)[1])
    (parts_folder(path, "train") / "rows-000000000003-000000000006.h5.tmp").write_bytes(b"torn")
    with open_part(path, 0) as part:
        assert part.next_item == 3
        assert len(files(path)) == 3
        add_from(part, 7)
    finish(path)
    assert path.read_bytes() == whole


def make_after_planning(path: Path, *indices: int) -> None:
    plan_split(path)
    make(path, *indices)


@pytest.mark.parametrize("harm", [half, flip, Path.unlink])
def test_a_part_that_is_missing_or_torn_is_named_and_nothing_is_written(
    tmp_path: Path, whole: bytes, harm: Callable[[Path], object]
) -> None:
    path = tmp_path / "f.h5"
    make_after_planning(path, 0, 1, 2)
    harm(files(path)[0])
    with pytest.raises(LsnError, match=r"rows-000000000000|parts in .* are not made yet: 0") as caught:
        finish(path)
    assert "`lsn extract`" in caught.value.hint or harm is half
    assert not path.exists()
    make(path, 0)  # the same command again
    finish(path)
    assert path.read_bytes() == whole


def test_a_part_of_another_plan_is_named_and_made_again(tmp_path: Path, whole: bytes) -> None:
    path, other = tmp_path / "f.h5", tmp_path / "other.h5"
    make_after_planning(path, 0, 1, 2)
    foreign = replace(PLAN, listing="cd" * 32)
    folder = plan_split(other, foreign)
    with Part.open(folder, foreign, 1) as part:
        for batch in BATCHES[3:6]:
            part.add(batch)
    shutil.copy(files(other)[0], files(path)[1])
    with pytest.raises(LsnError, match=r"rows-000000000009.* is of another extraction"):
        finish(path)
    make(path, 1)
    finish(path)
    assert path.read_bytes() == whole


def test_a_misplaced_chunk_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with open_part(path, 0) as part:
        add_from(part, 2)
    folder = parts_folder(path, "train")
    (folder / "rows-000000000003-000000000006.h5").rename(folder / "rows-000000000003-000000000009.h5")
    (folder / "rows-000000000000-000000000004.h5").write_bytes(b"no border of batches")
    (folder / "rows-000000000003-000000000012.h5").write_bytes(b"over the border of a part")
    with open_part(path, 0) as part:
        assert part.next_item == 3
        assert len(files(path)) == 1


@pytest.mark.parametrize("removed", range(3))
def test_a_death_while_chunks_are_joined_loses_nothing(
    tmp_path: Path, whole: bytes, removed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.h5"
    make_after_planning(path, 1, 2)
    unlink, left = Path.unlink, removed

    def dies(self: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if self.name.startswith("rows-") and self.suffix == ".h5":
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
        unlink(self, missing_ok)

    with monkeypatch.context() as patch, open_part(path, 0) as part:
        add_from(part, 2)
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            add_from(part, 7)
    assert has_all_parts(parts_folder(path, "train"), PLAN)
    with open_part(path, 0) as part:
        assert part.complete
        assert len(files(path)) == 3
    finish(path)
    assert path.read_bytes() == whole


def test_chunks_say_what_they_cost_and_a_joined_one_what_all_did(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    make_after_planning(path, 0)
    make(path, 1, 2, commit_seconds=0)
    folder = parts_folder(path, "train")
    first, second, third = (part.seconds for part in read_parts(folder, PLAN))
    assert first == Seconds(read=3.0, encode=6.0)
    assert replace(second, write=0.0) == first
    assert second.write > 0
    assert third == SECOND


def test_seconds_of_writing_are_those_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr(part_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    write = part_module.write_chunk

    def slow(*what: object) -> object:
        now[0] += 2.0
        return write(*what)

    monkeypatch.setattr(part_module, "write_chunk", slow)
    with open_part(tmp_path / "f.h5", 0, commit_seconds=1e9) as part:
        assert (part.wrote, part.unrecorded) == (0.0, 0.0)
        for count in (1, 2, 3):
            add_from(part, count)
            part.commit()
    assert (part.wrote, part.unrecorded) == (6.0, 0.0)  # the joined chunk tells of all three
    assert part.chunks[0].seconds.write == 6.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listing": "c" * 64}, "listing was abababababab..., is cccccccccccc..."),
        ({"batch_size": 9}, "batch size was 3, is 9"),
        ({"part_rows": 6}, "part rows was 9, is 6"),
        ({"fingerprint": "other"}, "fingerprint was"),
        ({"items": 21}, "items was 20, is 21"),
        ({"options": {}}, "options was {'class names': 'x'}, is {}"),
    ],
)
def test_another_plan_is_refused_until_overwritten(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "f.h5"
    with open_part(path, 0) as part:
        add_from(part, 2)
    other = replace(PLAN, **change)
    with pytest.raises(LsnError) as caught:
        plan_split(path, other)
    assert message in caught.value.message
    assert "--overwrite" in caught.value.hint
    with open_part(path, 0) as part:
        assert part.next_item == 6  # the refusal harmed nothing
    plan_split(path, other, replace(ABOUT, replace=True))
    assert files(path) == []


def test_overwrite_starts_again_but_resumes_itself(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    again = replace(ABOUT, replace=True)
    make_after_planning(path, 0)
    for expected in (0, 6):
        with Part.open(plan_split(path, PLAN, again), PLAN, 0) as part:
            assert part.next_item == expected
            add_from(part, 2)


def test_a_plan_that_was_replaced_meanwhile_is_worked_on_no_more(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    other = replace(PLAN, options={})
    with open_part(path, 0) as part:
        add_from(part, 1)
        plan_split(path, other, replace(ABOUT, replace=True))
        with pytest.raises(LsnError, match="started anew by another process"):
            part.add(BATCHES[1], SECOND)
        plan_split(path, PLAN, replace(ABOUT, replace=True))  # or leaving the block would say it again
    remove_parts(path, "train")
    assert files(path) == []
    remove_parts(path, "train")
    with (
        pytest.raises(LsnError, match="finished or started anew"),
        Part.open(parts_folder(path, "train"), PLAN, 0),
    ):
        pass


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"overwrite": 1', "[" * 100_000, '{"overwrite": false, "launch": ""}']
)
def test_an_unreadable_plan_starts_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.h5"
    with open_part(path, 0) as part:
        add_from(part, 2)
    (parts_folder(path, "train") / "plan.json").write_text(text)
    if text.startswith('{"overwrite": false'):
        with pytest.raises(LsnError, match="had other arguments"):
            plan_split(path)
        return
    with open_part(path, 0) as part:
        assert part.next_item == 0


@pytest.mark.parametrize(
    "change",
    [{"items": -1}, {"dim": 0}, {"batch_size": 0}, {"part_rows": 0}, {"part_rows": 10}, {"part_rows": 2}],
)
def test_a_plan_with_numbers_that_fit_no_extraction_is_damaged(tmp_path: Path, change: dict) -> None:
    folder = plan_split(tmp_path / "f.h5")
    content = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(content | change))
    with pytest.raises(LsnError, match=r"plan\.json is damaged"):
        read_plan(folder)


def test_items_of_a_part_are_a_multiple_of_the_batch() -> None:
    assert part_rows_for(256) == PART_ROWS == part_rows_for(256, PART_ROWS)
    assert part_rows_for(3) == PART_ROWS // 3 * 3
    assert part_rows_for(100_000) == 100_000
    assert part_rows_for(3, 9) == 9
    for batch_size, wanted, instead in ((3, 10, 9), (4, 2, 4)):
        with pytest.raises(UsageError, match=f"multiple of the batch size .{batch_size}.") as caught:
            part_rows_for(batch_size, wanted)
        assert caught.value.hint == f"Give --part-rows {instead}, for example."
    with pytest.raises(UsageError, match="--batch-size: expected 1 or more, found 0"):
        part_rows_for(0)


@pytest.mark.parametrize(
    ("items", "processes", "batch_size", "parts"),
    [
        (50_000, 8, 128, 23),  # three for each, at least FEW_ROWS
        (1_281_167, 8, 128, 32),
        (10_000_000, 8, 128, 160),  # no part has more than PART_ROWS
        (1_000, 8, 16, 8),
        (40, 8, 16, 3),  # a part is at least a batch
        (0, 8, 16, 0),
    ],
)
def test_every_process_has_parts(items: int, processes: int, batch_size: int, parts: int) -> None:
    rows = part_rows_for(batch_size, items=items, processes=processes)
    assert rows % batch_size == 0
    assert batch_size <= rows <= PART_ROWS
    assert -(-items // rows) == parts
    assert part_rows_for(batch_size, batch_size, items=items, processes=processes) == batch_size
    assert part_rows_for(batch_size, items=items) == part_rows_for(batch_size)


def test_the_first_missing_parts_are_named(tmp_path: Path) -> None:
    for rows, count, named in ((3, 7, "0, 1, 2, 3, 4, ..."), (6, 4, "0, 1, 2, 3")):
        plan = replace(PLAN, part_rows=rows)
        folder = plan_split(tmp_path / f"{rows}.h5", plan)
        with pytest.raises(LsnError, match=f"{count} of {count} parts") as caught:
            read_parts(folder, plan)
        assert caught.value.message.endswith(f" are not made yet: {named}.")


def test_chunks_know_their_plan_by_a_digest_that_stays() -> None:
    """Parts of an extraction that an older lsn began are taken up by it."""
    assert PLAN.digest == "138f34fc3eb0a1f3"


def test_chunks_without_a_plan_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with open_part(path, 0) as part:
        add_from(part, 2)
    (parts_folder(path, "train") / "plan.json").unlink()
    with open_part(path, 0) as part:
        assert part.next_item == 0


def test_two_processes_cannot_make_one_part_but_two_parts(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with open_part(path, 0), open_part(path, 1) as other:
        assert other.next_item == 9
        with pytest.raises(LsnError, match="another process"), open_part(path, 0):
            pass


def test_two_processes_cannot_plan_one_split_but_two_splits(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with split_lock(path, "train"):
        with pytest.raises(LsnError, match="another process"), split_lock(path, "train"):
            pass
        with split_lock(path, "test"):
            pass


def test_batches_must_follow_one_another_and_end_at_borders(tmp_path: Path) -> None:
    with open_part(tmp_path / "f.h5", 0) as part:
        with pytest.raises(LsnError, match="expected the batch from item 0"):
            part.add(Chunk(3, 6, *EMPTY, ()))
        with pytest.raises(LsnError, match="found items 0 to 2"):
            part.add(Chunk(0, 2, *EMPTY, ()))
        with pytest.raises(LsnError, match="found items 0 to 12"):
            part.add(Chunk(0, 12, *EMPTY, ()))


def test_a_refused_finish_keeps_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(rows=2), fingerprint())
    make_after_planning(path, 0, 1, 2)
    with pytest.raises(LsnError, match="has a split 'train' already"):
        finish(path)
    assert len(files(path)) == 3
    finish(path, about=replace(ABOUT, replace=True))
    assert same(read_split(path, "train"), CONTENT)


def test_failures_and_batches_without_rows_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    plan = replace(PLAN, items=5)
    lost = [Failure(f"{index}.jpg", "an empty file") for index in range(5)]
    folder = plan_split(path, plan)
    for start in (0, 3):
        with Part.open(folder, plan, 0) as part:
            assert part.next_item == start
            part.add(Chunk(start, min(start + 3, 5), *EMPTY, tuple(lost[start : start + 3])))
    problem = Failure("x/", "unreadable folder")
    finish(path, plan, replace(ABOUT, problems=(problem,)))
    info = list_splits(path)["train"]
    assert (info.rows, info.failures) == (0, (problem, *lost))
    assert verify(path) == []


def test_a_listing_of_problems_alone_has_no_parts(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    plan_split(path, replace(PLAN, items=0))
    assert finish(path, replace(PLAN, items=0)).rows == 0


def test_joining_holds_the_rows_to_their_checksum(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with open_part(path, 0) as part:
        add_from(part, 2)
        flip(files(path)[1])
        with pytest.raises(LsnError, match="do not match its checksum"):
            add_from(part, 7)
        flip(files(path)[1])


def test_removing_what_is_not_there_is_fine_and_a_refusal_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_parts(tmp_path / "f.h5", "train")
    plan_split(tmp_path / "f.h5")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(LsnError, match="could not be removed: Permission denied"):
        remove_parts(tmp_path / "f.h5", "train")


def test_what_a_split_in_the_making_says_is_checked(tmp_path: Path) -> None:
    folder = plan_split(tmp_path / "f.h5")
    path = folder / "split.json"
    assert read_metadata(folder) == ABOUT
    sound = path.read_text()
    for old, new in (("photos", "photas"), ("an empty file", "an empty fire"), ('"dim": 4', '"dim": 5')):
        assert old in sound
        path.write_text(sound.replace(old, new))
        with pytest.raises(LsnError, match=r"split\.json is damaged"):
            read_metadata(folder)
    without = {name: value for name, value in json.loads(sound).items() if name != "checksum"}
    path.write_text(json.dumps(without))  # as an older lsn wrote it
    assert read_metadata(folder) == ABOUT
