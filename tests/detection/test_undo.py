"""Undo: everything back as it was, nothing overwritten or lost, and no undo file can do more than that."""

import hmac
import json
import os
from hashlib import sha256
from pathlib import Path

import pytest
from filing_samples import filed, items, photos, planned, tree

from lsncli.detection.sorting import carry_out
from lsncli.detection.undo import Undone, read_undo_file, undo
from lsncli.detection.undo_log import UndoLog, begin, read_key
from lsncli.errors import LsnError, UsageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def sorted_by(action, source: Path, folder: Path) -> Path:
    return filed(planned(action, folder, items(source)))[1]


def take_back(path: Path) -> list[Undone]:
    return list(undo(read_undo_file(path)))


@pytest.mark.parametrize("action", ["move", "copy", "link"])
def test_all_is_as_it_was(source, tmp_path, action) -> None:
    before = tree(tmp_path)
    path = sorted_by(action, source, tmp_path / "new" / "out")
    assert tree(tmp_path) != before
    found = take_back(path)
    assert [(one.action, one.error) for one in found] == [(action, None)] * 3
    assert tree(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_folders_that_hold_something_else_stay(source, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    path = sorted_by("move", source, tmp_path / "out")
    (tmp_path / "out" / "cat" / "mine.txt").write_text("mine")
    take_back(path)
    assert tree(tmp_path / "out") == {"cat/mine.txt": "mine"}
    assert not (tmp_path / "out" / "ood").exists()


def test_a_name_that_is_not_utf8_comes_back_to_the_byte(tmp_path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    name = os.fsdecode(b"caf\xe9.jpg")
    (source / name).write_text("coffee")
    path = sorted_by("move", source, tmp_path / "out")
    assert take_back(path)[0].error is None
    assert os.listdir(os.fsencode(source)) == [b"caf\xe9.jpg"]


def test_what_stands_in_the_way_is_not_overwritten_and_the_rest_is_undone(source, tmp_path) -> None:
    path = sorted_by("move", source, tmp_path / "out")
    (source / "a" / "0.jpg").write_text("new")
    errors = [one.error for one in take_back(path)]
    assert errors == [None, None, f"another file is at {source}/a/0.jpg: it is not overwritten"]
    assert tree(tmp_path / "out") == {"cat/0.jpg": "bytes of a/0.jpg"}
    assert (source / "a" / "0.jpg").read_text() == "new"
    assert path.exists()
    (source / "a" / "0.jpg").unlink()
    assert [one.error for one in take_back(path)] == [None]  # the others were undone already
    assert not path.exists()


def test_a_copy_that_was_changed_is_kept(source, tmp_path) -> None:
    path = sorted_by("copy", source, tmp_path / "out")
    (tmp_path / "out" / "cat" / "0.jpg").write_text("painted over")
    errors = [one.error for one in take_back(path)]
    assert errors == [None, None, "changed since it was copied: it is kept"]
    assert tree(tmp_path / "out") == {"cat/0.jpg": "painted over"}


def test_a_link_that_became_something_else_is_kept(source, tmp_path) -> None:
    path = sorted_by("link", source, tmp_path / "out")
    link = tmp_path / "out" / "cat" / "0.jpg"
    link.unlink()
    link.write_text("a file now")
    assert [one.error for one in take_back(path)][-1] == "no longer the link that was made: it is kept"
    assert link.read_text() == "a file now"


def test_a_file_that_is_gone_from_both_places_is_said(source, tmp_path) -> None:
    path = sorted_by("move", source, tmp_path / "out")
    (tmp_path / "out" / "cat" / "0.jpg").unlink()
    assert take_back(path)[-1].error == "neither where it was moved from nor where it was moved to"


def test_a_folder_that_is_gone_is_made_again(source, tmp_path) -> None:
    path = sorted_by("move", source, tmp_path / "out")
    for folder in ("a", "b", "."):
        (source / folder).rmdir()
    take_back(path)
    assert len(tree(source)) == 3


def begun(action, source: Path, folder: Path) -> UndoLog:
    """An undo file with no change in it yet."""
    with begin(planned(action, folder, items(source)).folder) as log:
        return log


def note_move(log_file: Path, source: Path, target: Path, cut: bool = False) -> None:
    """Add the line of a move, as lsn signs it, and perhaps a piece of another."""
    key = read_key()
    assert key is not None
    lines = log_file.read_bytes().splitlines()
    digest = sha256(source.read_bytes()).hexdigest()
    fields = {"action": "move", "source": str(source), "target": str(target), "sha256": digest}
    body = json.dumps(fields)[:-1].encode()
    mac = hmac.new(key, lines[-1][-66:-2] + body, "sha256").hexdigest().encode()
    line = body + b', "mac": "' + mac + b'"}\n'
    log_file.write_bytes(b"".join(one + b"\n" for one in lines) + line + line[:30] * cut)


def test_a_kill_before_a_change_leaves_a_line_that_does_nothing(source, tmp_path) -> None:
    path = begun("move", source, tmp_path / "out").path
    note_move(path, source / "a" / "0.jpg", tmp_path / "out" / "0.jpg", cut=True)
    assert take_back(path) == []
    assert len(tree(source)) == 3
    assert not path.exists()


@pytest.mark.parametrize("after", [False, True])
def test_an_interrupted_move_is_undone_to_where_it_came(source, tmp_path, monkeypatch, after: bool) -> None:
    before = tree(tmp_path)
    filing = planned("move", tmp_path / "out", items(source))
    real, calls = os.replace, []

    def replace(old: str, new: str, **folders: int) -> None:
        calls.append(new)
        if len(calls) == 1 or after:
            real(old, new, **folders)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with begin(filing.folder) as log, pytest.raises(KeyboardInterrupt):
        carry_out(filing, log)
    path = log.path
    monkeypatch.setattr(os, "replace", real)
    assert tree(tmp_path) != before
    assert {one.error for one in take_back(path)} == {None}
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_an_empty_file_that_only_held_the_name_is_removed(source, tmp_path) -> None:
    path = begun("move", source, tmp_path / "out").path
    target = tmp_path / "out" / "0.jpg"
    target.touch()
    note_move(path, source / "a" / "0.jpg", target)
    assert [one.error for one in take_back(path)] == [None]
    assert not (tmp_path / "out").exists()
    assert (source / "a" / "0.jpg").read_text() == "bytes of a/0.jpg"


HEADER = {"lsn_undo": 1, "folder": "DIR", "created": []}
"""As a version before 2 wrote it; DIR stands for the folder of the file."""
MOVE = {"action": "move", "source": "/tmp/a.jpg", "target": "DIR/cat/a.jpg"}


def write_as_1(path: Path, lines: list[object]) -> None:
    """An undo file of a version before 2, in its folder."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text.replace("DIR", str(path.parent)))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, {**MOVE, "target": "/etc/passwd"}], "line 2: '/etc/passwd' does not lie in DIR"),
        ([HEADER, {**MOVE, "target": "DIR/../x"}], "line 2: 'DIR/../x' does not lie in"),
        ([HEADER, {**MOVE, "target": "DIR"}], "line 2: 'DIR' does not lie in"),
        ([HEADER, {**MOVE, "target": "cat/a.jpg"}], "line 2: 'cat/a.jpg' does not lie in"),
        ([HEADER, {**MOVE, "source": "a.jpg"}], "line 2: 'a.jpg' is not a full path"),
        ([HEADER, MOVE, {**MOVE, "action": "delete"}], "line 3: expected a change that lsn makes"),
        ([HEADER, {"action": "copy", "source": "a", "target": "DIR/a"}], "line 2: expected a change"),
        ([HEADER, {**MOVE, "source": 5}], "line 2: expected a change"),
        ([HEADER, {**MOVE, "source": "/a\0b"}], "line 2: expected a change"),
        ([HEADER, [1]], "line 2: expected a change"),
        ([{**HEADER, "created": ["/home"]}], "line 1: '/home' is no folder around 'DIR'"),
    ],
)
def test_a_file_that_asks_for_more_is_refused_before_anything_is_done(tmp_path, lines, message) -> None:
    path = tmp_path / "undo.jsonl"
    write_as_1(path, lines)
    with pytest.raises(LsnError) as caught:
        read_undo_file(path, unsigned=True)
    assert message.replace("DIR", str(tmp_path)) in caught.value.message


@pytest.mark.parametrize("text", ["", "{}", "{}\n", "hello\n", "[]\n", '{"lsn_undo": 2}\n', "\xff\n"])
def test_other_files_are_not_taken_for_undo_files(tmp_path, text: str) -> None:
    path = tmp_path / "undo.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="is not an undo file of lsn"):
        read_undo_file(path)


def test_a_broken_line_and_a_missing_file_are_named(tmp_path) -> None:
    path = tmp_path / "undo.jsonl"
    write_as_1(path, [HEADER])
    with path.open("a") as file:
        file.write("not json\n")
    with pytest.raises(LsnError, match="line 2 is not JSON"):
        read_undo_file(path, unsigned=True)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_undo_file(tmp_path / "none")
