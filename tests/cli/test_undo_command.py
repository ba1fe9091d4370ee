"""``lsn undo`` on files without the user's signature: seen first, done only when asked for."""

import csv
import io
import json
from pathlib import Path

import pytest


@pytest.fixture
def old_log(tmp_path: Path) -> Path:
    """DIR with one image in it, and the undo file of a version that did not sign."""
    folder = tmp_path / "sorted"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "a.jpg").write_text("image")
    lines = [
        {"lsn_undo": 1, "folder": str(folder), "created": [str(folder)]},
        {"action": "folder", "target": str(folder / "cat")},
        {"action": "move", "source": str(tmp_path / "a.jpg"), "target": str(folder / "cat" / "a.jpg")},
    ]
    path = folder / "lsn-undo-20250101-120000.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_it_is_refused_and_the_way_is_said(lsn, old_log) -> None:
    done = lsn("undo", old_log)
    assert (done.code, done.out) == (1, "")
    assert "was not signed with your key" in done.err
    assert f"lsn undo --unsigned {old_log}" in done.err
    assert (old_log.parent / "cat" / "a.jpg").exists()


def test_unsigned_shows_what_it_would_do_and_yes_does_it(lsn, old_log, tmp_path) -> None:
    done = lsn("undo", "--unsigned", old_log, "--format", "csv")
    assert done.code == 0
    assert "Dry run, would take back 1 image. Do it with --yes." in done.err
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert (row["action"], row["source"]) == ("moved", str(tmp_path / "a.jpg"))
    assert row["path"] == str(old_log.parent / "cat" / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()
    done = lsn("undo", "--unsigned", old_log, "--yes")
    assert (done.code, done.out) == (0, "")
    assert (tmp_path / "a.jpg").read_text() == "image"
    assert not old_log.parent.exists()


def test_neither_comes_from_a_file_or_the_environment(lsn, old_log, monkeypatch) -> None:
    monkeypatch.setenv("LSN_UNDO_UNSIGNED", "1")
    monkeypatch.setenv("LSN_UNDO_YES", "1")
    assert lsn("undo", old_log).code == 1
    for name in ("unsigned", "yes"):
        Path("lsn.toml").write_text(f"[undo]\n{name} = true\n")
        assert f"[undo] has no option '{name}'" in lsn("undo", old_log).err
    assert (old_log.parent / "cat" / "a.jpg").exists()


def test_yes_alone_says_yes_to_nothing(lsn, old_log) -> None:
    done = lsn("undo", old_log, "--yes")
    assert done.code == 2
    assert "--yes says yes to --unsigned, which was not given." in done.err


def test_what_is_no_file_is_refused_at_once(lsn, tmp_path) -> None:
    for path in ("/dev/zero", tmp_path):
        done = lsn("undo", path)
        assert done.code == 2
        assert "cannot be read: is not a regular file." in done.err
