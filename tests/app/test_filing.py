"""Images into folders: planned first, nothing overwritten, every change written down before it is made."""

import errno
import io
import json
import os
import shutil
import signal
import tarfile
from pathlib import Path

import pytest
from filing_samples import filed, items, photos, planned, tree

from lsncli.app import filing as use
from lsncli.app.filing import Filing, carry_out
from lsncli.app.moving import digest_in, move_file
from lsncli.app.undo import read_undo_file
from lsncli.app.undo import undo as take_back
from lsncli.errors import LsnError
from lsncli.types import Failure

MADE = {
    "cat/0.jpg": "bytes of a/0.jpg",
    "cat/0-2.jpg": "bytes of b/0.jpg",
    "ood/two\nlines.jpg": "bytes of b/two\nlines.jpg",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def done(filing: Filing) -> use.Outcome:
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
    undo = start_undo_file(filing)
    real, seen = os.replace, []

    def replace(old: str, new: str) -> None:
        last = json.loads(undo.read_text().splitlines()[-1])
        assert (last["source"], last["target"]) == (old, new)
        seen.append(new)
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)
    carry_out(filing, undo)
    assert len(seen) == 3
    first = json.loads(undo.read_text().splitlines()[0])
    assert first == {"lsn_undo": 1, "folder": str(tmp_path / "out"), "created": [str(tmp_path / "out")]}


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


def test_a_move_to_another_disk_copies_and_then_removes(source, tmp_path, monkeypatch) -> None:
    def refuse(old: str, new: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "replace", refuse)
    move_file(str(source / "a" / "0.jpg"), str(tmp_path / "new.jpg"))
    assert (tmp_path / "new.jpg").read_text() == "bytes of a/0.jpg"
    assert not (source / "a" / "0.jpg").exists()
    with pytest.raises(FileExistsError):
        move_file(str(source / "b" / "0.jpg"), str(tmp_path / "new.jpg"))
    assert (source / "b" / "0.jpg").exists()


def test_a_copy_that_fails_half_way_leaves_neither_half_nor_loss(source, tmp_path, monkeypatch) -> None:
    def refuse(old: str, new: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def full(old: str, new: str) -> None:
        Path(new).write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(use.shutil, "copy2", full)
    with pytest.raises(OSError, match="No space"):
        move_file(str(source / "a" / "0.jpg"), str(tmp_path / "new.jpg"))
    assert not (tmp_path / "new.jpg").exists()
    assert (source / "a" / "0.jpg").read_text() == "bytes of a/0.jpg"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_an_undo_file_on_a_full_disk_stops_every_change(source, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    outcome = carry_out(planned("copy", tmp_path / "out", items(source)), Path("/dev/full"))
    assert (outcome.done, len(outcome.failures)) == (0, 3)
    assert {one.reason for one in outcome.failures} == {"No space left on device"}
    assert not tree(tmp_path / "out")


def test_a_folder_whose_name_is_too_long_is_refused(source, tmp_path) -> None:
    with pytest.raises(LsnError, match=rf"cannot be sorted into .*: {os.strerror(errno.ENAMETOOLONG)}\."):
        start_undo_file(planned("copy", tmp_path / ("x" * 300), items(source)))


def test_an_undo_file_that_cannot_be_begun_does_not_stay(source, tmp_path, monkeypatch) -> None:
    def full(*args: object, **fields: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(use, "_note", full)
    with pytest.raises(LsnError, match="No space left on device"):
        start_undo_file(planned("copy", tmp_path / "out", items(source)))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("action", "where", "step"), [("move", shutil, "copy2"), ("copy", use, "sha256")])
def test_ctrl_c_is_heard_between_two_images(
    source, tmp_path, monkeypatch, action: str, where: object, step: str
) -> None:
    def other_disk(old: str, new: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def interrupted(*args: object) -> object:
        result = real(*args)
        signal.raise_signal(signal.SIGINT)
        return result

    before = tree(tmp_path)
    filing = planned(action, tmp_path / "out", items(source))
    undo, real = start_undo_file(filing), getattr(where, step)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", other_disk)
        patched.setattr(where, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            carry_out(filing, undo)
    assert tree(tmp_path / "out").keys() == {"cat/0.jpg"}
    assert {one.error for one in take_back(read_undo_file(undo))} == {None}
    assert tree(tmp_path) == before


def test_two_undo_files_of_one_second_are_two_files(source, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(use.time, "strftime", lambda form: "now")
    filing = planned("copy", tmp_path / "out", items(source))
    assert [start_undo_file(filing).name for _ in range(2)] == ["lsn-undo-now.jsonl", "lsn-undo-now-2.jsonl"]


def test_a_folder_that_cannot_be_made_is_named(source) -> None:
    filing = planned("copy", source / "a" / "0.jpg" / "below", items(source))
    with pytest.raises(LsnError, match=r"cannot be sorted into .*below: Not a directory"):
        start_undo_file(filing)
