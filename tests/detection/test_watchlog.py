"""The rows of ``lsn watch`` are its memory: whole after a kill at any byte, never in a stranger's file."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from lsncli.detection.watch_log import VERSION, Version, open_log
from lsncli.errors import LsnError
from lsncli.report.formats import plain

FIELDS = ["path", "score", "error"]
ROWS = [
    ({"path": "/in/a.jpg", "score": 0.25}, Version(10, 1_700_000_000_000_000_001, 5)),
    ({"path": "/in/b\n\udcff.jpg", "error": "an empty file"}, Version(0, 7, 8)),
    ({"path": "/in/c/", "error": "a loop"}, Version()),
]


def written(path: Path, *rows) -> bytes:
    with open_log(path, FIELDS, plain) as log:
        log.append(rows)
    return path.read_bytes()


def test_rows_have_every_field_and_the_version_in_order(tmp_path: Path) -> None:
    lines = written(tmp_path / "deep" / "watch.jsonl", *ROWS).decode("ascii").splitlines()
    records = [json.loads(line) for line in lines]
    assert [list(record) for record in records] == [[*FIELDS, *VERSION]] * 3
    assert records[0]["mtime_ns"] == 1_700_000_000_000_000_001
    assert records[1]["path"] == "/in/b\n\\udcff.jpg"
    assert records[2]["size"] is None
    assert os.listdir(tmp_path / "deep") == ["watch.jsonl"]


def test_a_file_cut_at_any_byte_goes_on_with_its_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    whole = written(path, *ROWS)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        with open_log(path, FIELDS, plain) as log:
            assert len(log) == kept
            assert [log.knows(row["path"], version) for row, version in ROWS] == [i < kept for i in range(3)]
            log.append(ROWS[kept:])
            assert all(log.knows(row["path"], version) for row, version in ROWS)
        assert path.read_bytes() == whole


def test_what_was_read_is_known_by_size_and_time_and_what_was_not_by_any_change(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    good, bad = (row["path"] for row, _ in ROWS[:2])
    for _ in range(2):  # as it is written, and as it is read
        with open_log(path, FIELDS, plain) as log:
            log.append(ROWS if not len(log) else [])
            assert log.knows(good, ROWS[0][1]._replace(ctime_ns=6))
            assert not log.knows(good, ROWS[0][1]._replace(size=11))
            assert not log.knows(good, ROWS[0][1]._replace(mtime_ns=2))
            assert log.knows(bad, Version(0, 7, 8))
            assert not log.knows(bad, Version(0, 7, 9))
            assert not log.knows("/in/c/", Version(1, 1, 1))
            assert not log.knows("/in/d.jpg", Version())


def test_the_last_row_of_a_path_counts(tmp_path: Path) -> None:
    path, name = tmp_path / "watch.jsonl", "/in/a.jpg"
    written(path, ROWS[0], ({"path": name, "score": 0.5}, Version(11, 2, 3)))
    with open_log(path, FIELDS, plain) as log:
        assert len(log) == 1
        assert log.knows(name, Version(11, 2, 3))
        assert not log.knows(name, ROWS[0][1])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"shopping: milk", 1),
        (b'{"path": "a.jpg", "score": 1.0, "error": null}\n', 1),
        (b"[]\n", 1),
        (b"\0\0\0\0", 1),
        (b'{"path": "a", "error": null, "size": 1, "mtime_ns": 1, "ctime_ns": 1}\n\n', 2),
        (b'{"path": ["a"], "error": null, "size": 1, "mtime_ns": 1, "ctime_ns": 1}\n', 1),
        (b'{"path": 7, "error": null, "size": 1, "mtime_ns": 1, "ctime_ns": 1}\n', 1),
        (b'{"path": "a", "error": null, "size": "1", "mtime_ns": 1, "ctime_ns": 1}\n', 1),
        (b'{"path": "a", "error": null, "size": 1, "mtime_ns": [1], "ctime_ns": 1e999}\n', 1),
        (b'{"path": "a", "error": ' + b"[" * 100_000 + b"\n", 1),
        (b'{"path": "' + b"a" * (1 << 20) + b'", "error": null}\n', 1),
        (b'{"path": "' + b"a" * (1 << 21), 1),
        (b'{"path": "\xff"}\n', 1),
    ],
)
def test_a_file_of_something_else_is_refused_and_stays(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(LsnError, match=f"line {line}: not a row that lsn watch writes"):
        written(path)
    assert path.read_bytes() == content


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_in_the_place_of_the_log_is_followed_only_where_it_was_named(tmp_path: Path) -> None:
    path, outside = tmp_path / "watch.jsonl", tmp_path / "outside"
    path.symlink_to(outside)
    refused = pytest.raises(LsnError, match="is a symbolic link, which is not followed")
    with refused, open_log(path, FIELDS, plain, follow=False):
        pass
    assert not outside.exists()
    assert written(path, *ROWS)
    with open_log(outside, FIELDS, plain, follow=False) as log:
        assert len(log) == 3
        outside.unlink()
        outside.symlink_to(tmp_path / "elsewhere")  # somebody swaps it while it is open
        with pytest.raises(LsnError, match="is a symbolic link"):
            log.append(ROWS)
    assert not (tmp_path / "elsewhere").exists()


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    with open_log(path, FIELDS, plain):
        with pytest.raises(LsnError, match="is being written by another process") as caught:
            written(path)
        assert "--output" in caught.value.hint
    written(path)


@pytest.mark.parametrize("then", ["nothing", "an empty file", "an older log"])
def test_a_log_that_is_rotated_away_is_begun_anew_and_what_it_knew_stays(tmp_path: Path, then: str) -> None:
    path, old = tmp_path / "watch.jsonl", tmp_path / "watch.jsonl.1"
    with open_log(path, FIELDS, plain) as log:
        log.append(ROWS[:1])
        path.rename(old)
        before = old.read_bytes()
        if then == "an empty file":
            path.touch()
        elif then == "an older log":
            path.write_bytes(written(tmp_path / "other", ROWS[2]) + b'{"path": "/in/cu')
        log.append(ROWS[1:2])
        assert all(log.knows(row["path"], version) for row, version in ROWS[:2])
    assert old.read_bytes() == before
    names = [json.loads(line)["path"] for line in path.read_bytes().splitlines()]
    assert names == (["/in/c/"] if then == "an older log" else []) + ["/in/b\n\\udcff.jpg"]


def test_a_log_whose_folder_was_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "watch.jsonl"
    with open_log(path, FIELDS, plain) as log:
        shutil.rmtree(path.parent)
        log.append(ROWS[:1])
    assert path.read_bytes().count(b"\n") == 1


def test_a_strangers_file_in_the_place_of_the_log_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    with open_log(path, FIELDS, plain) as log:
        log.append(ROWS[:1])
        path.unlink()
        path.write_text("mine\n")
        with pytest.raises(LsnError, match="line 1: not a row that lsn watch writes"):
            log.append(ROWS[1:])
    assert path.read_text() == "mine\n"


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "file" / "below", tmp_path / "pipe"):
        with pytest.raises(LsnError, match="cannot be written"):
            written(path)


def test_a_full_disk_is_an_error_and_the_next_start_goes_on(tmp_path: Path, monkeypatch) -> None:
    path, write = tmp_path / "watch.jsonl", os.write

    def half(handle: int, data: memoryview) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[: len(data) // 2])

    with open_log(path, FIELDS, plain) as log, monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(LsnError, match="cannot be written: No space left on device"):
            log.append(ROWS)
        assert len(log) == 0
    with open_log(path, FIELDS, plain) as log:
        assert 0 < len(log) < 3
