"""Images into folders: planned first, nothing overwritten, every change written down before it is made."""

import errno
import io
import json
import os
import shutil
import signal
import tarfile
import time
from pathlib import Path
from typing import IO

import pytest
from filing_samples import filed, items, photos, planned, tree

from lsncli.detection.file_moves import digest_in, move_file
from lsncli.detection.sorting import Filing, Outcome, carry_out
from lsncli.detection.undo import read_undo_file
from lsncli.detection.undo import undo as take_back
from lsncli.detection.undo_log import begin, make_key
from lsncli.errors import LsnError
from lsncli.files import OpenFolder
from lsncli.types import Failure

MADE = {
    "cat/0.jpg": "bytes of a/0.jpg",
    "cat/0-2.jpg": "bytes of b/0.jpg",
    "ood/two\nlines.jpg": "bytes of b/two\nlines.jpg",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def done(filing: Filing) -> Outcome:
    return filed(filing)[0]


def test_a_plan_touches_nothing_and_says_where_all_will_go(source, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    filing = Filing("move", Path("out"), ("cat",))
    places = [filing.place(item, "cat", item.key.startswith("a")) for item in items(source)]
    assert places == ["out/ood/0.jpg", "out/cat/0.jpg", "out/cat/two\nlines.jpg"]
    assert filing.counts == {"ood": 1, "cat": 2}
    assert tree(tmp_path) == before
    assert not Path("out").exists()


def test_moved_files_are_where_the_plan_said_and_nowhere_else(source, tmp_path) -> None:
    outcome = done(planned("move", tmp_path / "out", items(source)))
    assert (outcome.done, outcome.failures) == (3, [])
    assert tree(tmp_path / "out") == MADE
    assert tree(source) == {}


def test_copies_leave_the_originals_and_keep_their_time(source, tmp_path) -> None:
    os.utime(source / "a" / "0.jpg", (1e9, 1e9))
    before = tree(source)
    done(planned("copy", tmp_path / "out", items(source)))
    assert tree(tmp_path / "out") == MADE
    assert tree(source) == before
    assert (tmp_path / "out" / "cat" / "0.jpg").stat().st_mtime == 1e9


def test_links_lead_to_the_originals_wherever_one_stands(source, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done(planned("link", Path("out"), items(Path("photos"))))
    monkeypatch.chdir("/")
    assert tree(tmp_path / "out")["cat/0-2.jpg"] == f"-> {source}/b/0.jpg"
    assert (tmp_path / "out" / "cat" / "0-2.jpg").read_text() == "bytes of b/0.jpg"


@pytest.mark.parametrize("action", ["move", "copy", "link"])
def test_what_is_there_is_never_overwritten(source, tmp_path, action) -> None:
    there = tmp_path / "out" / "cat" / "0.jpg"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    (there.parent / "0-2.jpg").symlink_to("nothing")
    done(planned(action, tmp_path / "out", items(source)))
    found = tree(tmp_path / "out")
    assert (found["cat/0.jpg"], found["cat/0-2.jpg"]) == ("mine", "-> nothing")
    assert {"cat/0-3.jpg", "cat/0-4.jpg"} <= found.keys()


@pytest.mark.parametrize("action", ["move", "copy", "link"])
def test_nor_is_what_appears_after_the_plan(source, tmp_path, action) -> None:
    filing = planned(action, tmp_path / "out", items(source))
    there = tmp_path / "out" / "cat" / "0.jpg"
    there.parent.mkdir(parents=True)
    there.write_text("just arrived")
    outcome = done(filing)
    assert outcome.done == 3
    found = tree(tmp_path / "out")
    assert found["cat/0.jpg"] == "just arrived"
    assert len(found) == 4


def test_every_change_is_on_disk_before_it_is_made(source, tmp_path, monkeypatch) -> None:
    filing = planned("move", tmp_path / "out", items(source))
    real, seen = os.replace, []

    def replace(old: str, new: str, **folders: int) -> None:
        last = json.loads(log.path.read_text().splitlines()[-1])
        assert (os.path.basename(last["source"]), os.path.basename(last["target"])) == (old, new)
        seen.append(new)
        real(old, new, **folders)

    with begin(filing.folder) as log:
        monkeypatch.setattr(os, "replace", replace)
        carry_out(filing, log)
    assert len(seen) == 3
    first = json.loads(log.path.read_text().splitlines()[0])
    assert (first["lsn_undo"], first["folder"]) == (2, str(tmp_path / "out"))
    assert first["created"] == [str(tmp_path / "out")]


def test_one_file_that_cannot_be_moved_does_not_stop_the_rest(source, tmp_path) -> None:
    found = items(source)
    filing = planned("move", tmp_path / "out", found)
    (source / "a" / "0.jpg").unlink()
    outcome = done(filing)
    assert outcome.done == 2
    assert outcome.failures == [Failure(found[0].path, "No such file or directory")]
    assert "cat/0.jpg" not in tree(tmp_path / "out")  # not even an empty one


def test_a_file_in_the_place_of_a_folder_is_a_reason(source, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cat").write_text("a file")
    outcome = done(planned("copy", tmp_path / "out", items(source)))
    assert outcome.done == 1
    assert [failure.reason for failure in outcome.failures] == [f"{tmp_path}/out/cat is not a folder"] * 2


def test_what_lies_where_it_would_go_stays(source, tmp_path) -> None:
    done(planned("move", tmp_path / "out", items(source)))
    again = Filing("move", tmp_path / "out", ("cat",))
    found = items(tmp_path / "out")
    assert [again.place(item, "cat", item.key.startswith("ood")) for item in found] == [None] * 3
    assert (again.there, again.planned) == (3, [])


def test_a_symbolic_link_is_not_moved_but_copied_by_what_it_leads_to(source, tmp_path) -> None:
    (source / "b" / "link.jpg").symlink_to("0.jpg")
    item = next(one for one in items(source) if one.key == "b/link.jpg")
    moving = Filing("move", tmp_path / "out", ("cat",))
    assert moving.place(item, "cat", False) is None
    assert moving.links == 1
    copying = Filing("copy", tmp_path / "out", ("cat",))
    copying.place(item, "cat", False)
    done(copying)
    assert tree(tmp_path / "out") == {"cat/link.jpg": "bytes of b/0.jpg"}


def test_a_file_that_is_named_twice_is_moved_once(source, tmp_path) -> None:
    (source / "linked").symlink_to(source / "a")
    twice = (*items(source / "a"), *items(source / "a"), *items(source / "linked" / "0.jpg"))
    filing = Filing("move", tmp_path / "out", ("cat",))
    assert len({filing.place(item, "cat", False) for item in twice}) == 1
    assert done(filing).done == 1


@pytest.mark.parametrize("action", ["move", "copy", "link"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_members_of_a_tar_are_copied_out_under_safe_names(tmp_path, action, mode) -> None:
    path = tmp_path / ("some.tar" if mode == "w" else "some.tar.gz")
    with tarfile.open(path, mode) as tar:
        for name in ("x/-rf\x1b.jpg", "y/a.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    size = path.stat().st_size
    assert done(planned(action, tmp_path / "out", items(path))).done == 2
    assert tree(tmp_path / "out") == {"cat/_rf_.jpg": "x/-rf\x1b.jpg", "ood/a.jpg": "y/a.jpg"}
    assert path.stat().st_size == size


@pytest.fixture
def other_disk(monkeypatch) -> None:
    """Every folder lies on a disk of its own."""

    def refuse(self: OpenFolder, name: str, other: OpenFolder, new: str) -> None:
        if self.path != other.path:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(self, name, other, new)

    real = OpenFolder.move
    monkeypatch.setattr(OpenFolder, "move", refuse)


def moved(old: Path, new: Path) -> None:
    with OpenFolder.at(old.parent) as source, OpenFolder.at(new.parent) as target:
        _, identity = digest_in(source, old.name)
        move_file(source, old.name, target, new.name, identity, ".moving.tmp")


def test_a_move_to_another_disk_copies_and_then_removes(source, tmp_path, other_disk) -> None:
    os.utime(source / "a" / "0.jpg", (1e9, 1e9))
    moved(source / "a" / "0.jpg", tmp_path / "new.jpg")
    assert (tmp_path / "new.jpg").read_text() == "bytes of a/0.jpg"
    assert (tmp_path / "new.jpg").stat().st_mtime == 1e9
    assert not (source / "a" / "0.jpg").exists()
    with pytest.raises(FileExistsError):
        moved(source / "b" / "0.jpg", tmp_path / "new.jpg")
    assert (source / "b" / "0.jpg").exists()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["new.jpg"]


def test_a_copy_that_fails_half_way_leaves_neither_half_nor_loss(
    source, tmp_path, other_disk, monkeypatch
) -> None:
    def full(old: IO[bytes], new: IO[bytes], size: int) -> None:
        new.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        moved(source / "a" / "0.jpg", tmp_path / "new.jpg")
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    assert (source / "a" / "0.jpg").read_text() == "bytes of a/0.jpg"


def test_an_undo_file_on_a_full_disk_stops_every_change_until_there_is_room(
    source, tmp_path, monkeypatch
) -> None:
    filing = planned("copy", tmp_path / "out", items(source))
    real, calls = os.write, []

    def full(handle: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 3:  # the first line is of the folder; then somebody makes room
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[: len(data) // 2] if len(calls) == 2 else data)

    with begin(filing.folder) as log, monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        outcome = carry_out(filing, log)
    assert outcome.failures == [Failure(str(source / "a" / "0.jpg"), "No space left on device")]
    assert tree(tmp_path / "out").keys() == {"cat/0-2.jpg", "ood/two\nlines.jpg"}
    assert {one.error for one in take_back(read_undo_file(log.path))} == {None}  # no torn line within
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_name_is_too_long_is_refused(tmp_path) -> None:
    message = rf"cannot be sorted into .*: {os.strerror(errno.ENAMETOOLONG)}\."
    with pytest.raises(LsnError, match=message), begin(tmp_path / ("x" * 300)):
        pass


def test_an_undo_file_that_cannot_be_begun_does_not_stay(tmp_path, monkeypatch) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    make_key()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LsnError, match="No space left on device"), begin(tmp_path / "out"):
        pass
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("action", "step"), [("move", "fsync"), ("copy", "fsync"), ("link", "symlink")])
def test_ctrl_c_is_heard_between_two_images(
    source, tmp_path, other_disk, monkeypatch, action: str, step: str
) -> None:
    def interrupted(*args: object, **folders: object) -> object:
        result = real(*args, **folders)
        signal.raise_signal(signal.SIGINT)
        return result

    before = tree(tmp_path)
    filing, real = planned(action, tmp_path / "out", items(source)), getattr(os, step)
    with begin(filing.folder) as log, monkeypatch.context() as patched:
        patched.setattr(os, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            carry_out(filing, log)
    assert tree(tmp_path / "out").keys() == {"cat/0.jpg"}
    assert {one.error for one in take_back(read_undo_file(log.path))} == {None}
    assert tree(tmp_path) == before


def test_two_undo_files_of_one_second_are_two_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "now")
    with begin(tmp_path) as one, begin(tmp_path) as other:
        assert [one.path.name, other.path.name] == ["lsn-undo-now.jsonl", "lsn-undo-now-2.jsonl"]


def test_a_folder_that_cannot_be_made_is_named(source) -> None:
    place = source / "a" / "0.jpg"
    message = rf"cannot be sorted into .*below: {place} is not a folder"
    with pytest.raises(LsnError, match=message), begin(place / "below"):
        pass
