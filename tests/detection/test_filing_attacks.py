"""What somebody who can write into the folders may do between scoring, filing and undoing: nothing of use."""

import errno
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filing_samples import filed, items, photos, planned, tree
from kill_points import ended_by, signal_after

from lsncli.detection import undo_log as undolog
from lsncli.detection.undo import read_undo_file, undo, undo_all
from lsncli.detection.undo_log import key_path, make_key, read_key
from lsncli.errors import LsnError, UsageError
from lsncli.files import OpenFolder
from lsncli.images.listing import list_images

ACTIONS = ("move", "copy", "link")
SHARED = Path("/dev/shm")
CHANGED = "changed since it was scored"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


def reasons(outcome) -> list[str]:
    return [one.reason for one in outcome.failures]


class TestAFileIsAnotherOneByTheTimeItIsFiled:
    """Scored, then swapped: the verdict is not about it any more."""

    @pytest.mark.parametrize("action", ACTIONS)
    def test_other_content_is_reported_and_left(self, source, tmp_path, action) -> None:
        filing = planned(action, tmp_path / "out", items(source))
        (source / "a" / "0.jpg").write_text("BYTES OF A/0.jpg")
        outcome, _ = filed(filing)
        assert (outcome.done, reasons(outcome)) == (2, [CHANGED])
        assert (source / "a" / "0.jpg").read_text() == "BYTES OF A/0.jpg"
        assert "cat/0.jpg" not in tree(tmp_path / "out")

    @pytest.mark.parametrize("action", ACTIONS)
    def test_even_with_the_size_and_time_of_before(self, source, tmp_path, action) -> None:
        path = source / "a" / "0.jpg"
        filing, status = planned(action, tmp_path / "out", items(source)), path.stat()
        path.write_text("BYTES OF A/0.jpg")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
        assert reasons(filed(filing)[0]) == [CHANGED]

    @pytest.mark.parametrize("action", ACTIONS)
    def test_equal_content_is_what_was_scored(self, source, tmp_path, action) -> None:
        path = source / "a" / "0.jpg"
        filing = planned(action, tmp_path / "out", items(source))
        (source / "new").write_bytes(path.read_bytes())
        os.replace(source / "new", path)
        os.chmod(source / "b" / "0.jpg", 0o600)
        assert filed(filing)[0].failures == []

    def test_two_names_of_one_file_are_both_moved(self, tmp_path) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "a.jpg").write_text("one")
        os.link(folder / "a.jpg", folder / "b.jpg")
        outcome, _ = filed(planned("move", tmp_path / "out", items(folder)))
        assert (outcome.done, outcome.failures) == (2, [])

    @pytest.mark.parametrize("other_disk", [False, True])
    def test_a_link_in_its_place_is_not_followed(self, source, tmp_path, monkeypatch, other_disk) -> None:
        secret = tmp_path / "secret"
        secret.write_text("bytes of a/0.jpg"[::-1])
        filing = planned("move", tmp_path / "out", items(source))
        (source / "a" / "0.jpg").unlink()
        (source / "a" / "0.jpg").symlink_to(secret)
        if other_disk:
            monkeypatch.setattr(OpenFolder, "move", cross_device)
        outcome, _ = filed(filing)
        assert reasons(outcome) == ["is a symbolic link, which is not followed"]
        assert secret.read_text()[::-1] not in tree(tmp_path / "out").values()

    def test_a_linked_folder_in_place_of_its_own_is_not_followed(self, source, tmp_path) -> None:
        other = photos(tmp_path / "other")
        filing = planned("move", tmp_path / "out", items(source))
        (source / "a").rename(source / "c")
        (source / "a").symlink_to(other / "a")
        outcome, _ = filed(filing)
        assert reasons(outcome) == [f"{source}/a is a symbolic link, which is not followed"]
        assert len(tree(other)) == 3

    @pytest.mark.parametrize("other_disk", [False, True])
    def test_a_swap_at_the_last_moment_loses_nothing(self, source, tmp_path, monkeypatch, other_disk) -> None:
        """Between the check and the rename: what was moved is put back."""
        path = source / "a" / "0.jpg"
        real = OpenFolder.move

        def swapped(self: OpenFolder, name: str, other: OpenFolder, new: str) -> None:
            if self.path == str(path.parent) and path.read_text() != "another":
                (tmp_path / "photos" / "another").write_text("another")
                os.replace(tmp_path / "photos" / "another", path)
            (cross_device if other_disk else real)(self, name, other, new)

        filing = planned("move", tmp_path / "out", items(source))
        monkeypatch.setattr(OpenFolder, "move", swapped)
        outcome, _ = filed(filing)
        assert CHANGED in reasons(outcome)
        assert path.read_text() == "another"
        assert "another" not in tree(tmp_path / "out").values()

    def test_an_image_that_was_never_read_is_not_filed(self, source, tmp_path) -> None:
        outcome, _ = filed(planned("copy", tmp_path / "out", list_images([source]).items))
        assert reasons(outcome) == ["was not read when it was scored"] * 3


def cross_device(self: OpenFolder, name: str, other: OpenFolder, new: str) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_link_named_as_a_class_folder_is_not_followed(source, tmp_path, action) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cat").symlink_to(elsewhere)
    outcome, _ = filed(planned(action, tmp_path / "out", items(source)))
    assert outcome.done == 1
    assert set(reasons(outcome)) == {f"{tmp_path}/out/cat is a symbolic link, which is not followed"}
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_place_of_dir_itself_is_not_followed(source, tmp_path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    filing = planned("move", tmp_path / "out", items(source))
    (tmp_path / "out").symlink_to(elsewhere)
    with pytest.raises(LsnError, match="out is a symbolic link, which is not followed"):
        filed(filing)
    assert list(elsewhere.iterdir()) == []


class TestUndoBelievesOnlyWhatWasWrittenThere:
    """Other files are refused before anything is touched."""

    def test_a_foreign_file_touches_nothing(self, tmp_path) -> None:
        victim = tmp_path / "victim"
        victim.mkdir()
        (victim / "a.txt").write_text("mine")
        path = tmp_path / "lsn-undo-x.jsonl"
        lines = [
            {"lsn_undo": 1, "folder": str(victim), "created": []},
            {"action": "move", "source": str(tmp_path / "taken"), "target": str(victim / "a.txt")},
        ]
        for place in (path, victim / path.name):
            place.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for unsigned in (False, True):
            with pytest.raises(LsnError, match="and does not lie there"):
                read_undo_file(path, unsigned=unsigned)
        with pytest.raises(LsnError, match="was not signed with your key") as caught:
            read_undo_file(victim / path.name)
        assert "lsn undo --unsigned" in caught.value.hint
        assert len(read_undo_file(victim / path.name, unsigned=True).changes) == 1

    def test_a_copied_file_is_refused(self, source, tmp_path) -> None:
        _, path = filed(planned("copy", tmp_path / "out", items(source)))
        (tmp_path / path.name).write_bytes(path.read_bytes())
        with pytest.raises(LsnError, match="and does not lie there"):
            read_undo_file(tmp_path / path.name)

    def test_every_altered_line_is_refused(self, source, tmp_path) -> None:
        _, path = filed(planned("copy", tmp_path / "out", items(source)))
        lines = path.read_bytes().splitlines(keepends=True)
        altered = {
            "a line is left out": lines[:2] + lines[3:],
            "two are exchanged": [*lines[:2], lines[3], lines[2], *lines[4:]],
            "one comes twice": lines[:3] + lines[2:],
            "one has another target": [*lines[:2], lines[2].replace(b"0.jpg", b"1.jpg"), *lines[3:]],
            "one is not signed": [
                *lines,
                b'{"action": "folder", "target": "%s/x"}\n' % path.parent.as_posix().encode(),
            ],
        }
        for what, text in altered.items():
            path.write_bytes(b"".join(text))
            with pytest.raises(LsnError, match=r"line \d is not as lsn wrote it; nothing was undone"):
                read_undo_file(path)
            with pytest.raises(LsnError, match="is not as lsn wrote it"):
                read_undo_file(path, unsigned=True)
            assert len(tree(tmp_path / "out")) == 3, what
        path.write_bytes(b"".join(lines)[:-10])  # a kill
        assert len(read_undo_file(path).changes) == len(lines) - 2

    def test_a_line_of_another_undo_file_is_refused(self, source, tmp_path) -> None:
        logs = [filed(planned("copy", tmp_path / "out", items(source)))[1] for _ in range(2)]
        first, other = (path.read_bytes().splitlines(keepends=True) for path in logs)
        logs[0].write_bytes(first[0] + other[1])
        with pytest.raises(LsnError, match="line 2 is not as lsn wrote it"):
            read_undo_file(logs[0])

    def test_another_users_file_is_refused(self, source, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
        _, path = filed(planned("copy", tmp_path / "out", items(source)))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
        for prepare in (lambda: None, make_key):  # with and without a key of one's own
            prepare()
            with pytest.raises(LsnError, match="was not signed with your key"):
                read_undo_file(path)

    def test_a_class_folder_replaced_by_a_link_is_not_followed(self, source, tmp_path) -> None:
        _, path = filed(planned("move", tmp_path / "out", items(source)))
        other = tmp_path / "other"
        (tmp_path / "out" / "cat").rename(other)
        (tmp_path / "out" / "cat").symlink_to(other)
        errors = [one.error for one in undo(read_undo_file(path))]
        assert errors == [None] + [f"{tmp_path}/out/cat is a symbolic link, which is not followed"] * 2
        assert tree(other) == {"0.jpg": "bytes of a/0.jpg", "0-2.jpg": "bytes of b/0.jpg"}

    def test_a_source_folder_replaced_by_a_link_is_not_followed(self, source, tmp_path) -> None:
        _, path = filed(planned("move", tmp_path / "out", items(source)))
        other = tmp_path / "other"
        other.mkdir()
        (source / "a").rmdir()
        (source / "a").symlink_to(other)
        assert [one.error for one in undo(read_undo_file(path))][-1] == (
            f"{source}/a is a symbolic link, which is not followed"
        )
        assert list(other.iterdir()) == []

    def test_a_file_that_took_the_place_of_a_moved_one_is_not_brought_back(self, source, tmp_path) -> None:
        _, path = filed(planned("move", tmp_path / "out", items(source)))
        (tmp_path / "out" / "cat" / "0.jpg").write_text("BYTES OF A/0.jpg")
        errors = [one.error for one in undo(read_undo_file(path))]
        assert errors == [None, None, "changed since it was moved: it is kept"]

    @pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link", "large"])
    def test_what_is_no_regular_file_is_refused_at_once(self, tmp_path, kind, monkeypatch) -> None:
        path = tmp_path / "lsn-undo.jsonl"
        if kind == "device":
            path = Path("/dev/zero")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to("/etc/passwd")
        else:
            with path.open("wb") as file:
                file.truncate(2 << 30)  # a hole: nothing is written
        with pytest.raises(UsageError, match=r"cannot be read: (is |it is larger)"):
            read_undo_file(path)


class TestTheKey:
    """Made once, for this user alone."""

    @pytest.fixture(autouse=True)
    def own_state(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def test_it_is_made_on_first_use_and_kept(self, tmp_path) -> None:
        assert read_key() is None
        key = make_key()
        assert make_key() == key == read_key()
        assert key_path() == tmp_path / "state" / "lsn" / "undo.key"
        assert key_path().stat().st_mode & 0o777 == 0o600
        assert [path.name for path in key_path().parent.iterdir()] == ["undo.key"]

    def test_two_that_make_it_at_once_have_the_same(self, monkeypatch) -> None:
        real = undolog.secrets.token_bytes

        def meanwhile(size: int) -> bytes:
            monkeypatch.setattr(undolog.secrets, "token_bytes", real)
            others.append(make_key())
            return real(size)

        others: list[bytes] = []
        monkeypatch.setattr(undolog.secrets, "token_bytes", meanwhile)
        assert [make_key()] == others

    def test_without_a_variable_it_lies_at_home(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        for value in ("", "relative"):
            monkeypatch.setenv("XDG_STATE_HOME", value)
            assert key_path() == tmp_path / ".local" / "state" / "lsn" / "undo.key"

    def test_one_that_others_could_read_or_that_is_damaged_is_refused(self) -> None:
        make_key()
        key_path().chmod(0o640)
        with pytest.raises(LsnError, match="can be read by other users"):
            make_key()
        key_path().chmod(0o600)
        key_path().write_bytes(b"short")
        with pytest.raises(LsnError, match="expected 32 bytes"):
            read_key()

    def test_nothing_is_touched_where_it_cannot_be_made(self, tmp_path) -> None:
        (tmp_path / "state").write_text("a file")
        source = photos(tmp_path / "photos")
        with pytest.raises(LsnError, match=r"cannot be (read|written)"):
            filed(planned("move", tmp_path / "out", items(source)))
        assert len(tree(source)) == 3
        assert not (tmp_path / "out").exists()


class TestTwoMovesAndTwoUndos:
    """images -> first -> second: what is said to be undone is undone, in whatever order it is asked for."""

    @pytest.fixture
    def logs(self, source, tmp_path) -> list[Path]:
        first = filed(planned("move", tmp_path / "first", items(source)))[1]
        return [first, filed(planned("move", tmp_path / "second", items(tmp_path / "first")))[1]]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_together_in_any_order(self, logs, source, tmp_path, order) -> None:
        found = list(undo_all([read_undo_file(logs[at]) for at in order]))
        assert [one.error for one in found] == [None] * 6
        assert tree(tmp_path) == {f"photos/{key}": text for key, text in tree(source).items()}
        assert len(tree(source)) == 3
        assert not (tmp_path / "first").exists()
        assert not (tmp_path / "second").exists()

    def test_the_first_alone_says_that_the_images_are_elsewhere(self, logs, source, tmp_path) -> None:
        photos(source)  # equal names again, with equal content but for one
        (source / "a" / "0.jpg").write_text("new")
        errors = [one.error for one in undo_all([read_undo_file(logs[0])])]
        assert errors == [f"no longer where it was moved to, and another file is at {source}/a/0.jpg"]
        assert logs[0].exists()

    def test_both_of_one_second_by_a_pattern(self, source, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(time, "strftime", lambda form: "now")
        out = tmp_path / "out"
        filed(planned("move", out, items(source)))
        again = planned("move", out, items(out))
        for item, _ in again.planned:
            assert "cat" in item.path or "ood" in item.path
        filed(again)
        paths = sorted(out.glob("lsn-undo-*.jsonl"))
        assert [path.name for path in paths] == ["lsn-undo-now-2.jsonl", "lsn-undo-now.jsonl"]
        found = list(undo_all([read_undo_file(path) for path in reversed(paths)]))
        assert {one.error for one in found} == {None}
        assert len(tree(source)) == 3


def test_a_kill_between_copying_and_removing_is_undone(source, tmp_path) -> None:
    """A move to another disk: for a moment both are there."""
    _, path = filed(planned("move", tmp_path / "out", items(source)))
    (source / "a" / "0.jpg").write_text("bytes of a/0.jpg")
    assert {one.error for one in undo(read_undo_file(path))} == {None}
    assert len(tree(source)) == 3
    assert not (tmp_path / "out").exists()


@pytest.fixture
def other_device(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than ``tmp_path``."""
    if not SHARED.is_dir() or SHARED.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    with TemporaryDirectory(dir=SHARED) as folder:
        yield Path(folder)


def test_a_move_to_a_real_other_file_system_and_back(source, tmp_path, other_device) -> None:
    os.utime(source / "a" / "0.jpg", (1e9, 1e9))
    os.chmod(source / "a" / "0.jpg", 0o640)
    before = tree(tmp_path)
    outcome, path = filed(planned("move", other_device / "out", items(source)))
    assert (outcome.done, tree(source)) == (3, {})
    moved = (other_device / "out" / "cat" / "0.jpg").stat()
    assert (moved.st_mtime, moved.st_mode & 0o777) == (1e9, 0o640)
    assert {one.error for one in undo(read_undo_file(path))} == {None}
    assert tree(tmp_path) == before
    assert list(other_device.iterdir()) == []


def test_a_swapped_link_does_not_take_its_target_to_another_file_system(
    source, tmp_path, other_device
) -> None:
    (tmp_path / "secret").write_text("secret")
    filing = planned("move", other_device / "out", items(source))
    (source / "a" / "0.jpg").unlink()
    (source / "a" / "0.jpg").symlink_to(tmp_path / "secret")
    assert reasons(filed(filing)[0]) == ["is a symbolic link, which is not followed"]
    assert "secret" not in tree(other_device).values()
    assert (tmp_path / "secret").read_text() == "secret"


def file_and_die(action: str, source: Path, out: Path, step: str, count: int, other_disk: bool) -> None:
    if other_disk:
        OpenFolder.move = cross_device
    signal_after(os, step, count, signal.SIGKILL)
    filed(planned(action, out, items(source)))


STEPS = [
    *[("copy", step, count, False) for step in ("fsync", "link", "unlink") for count in (1, 2, 3)],
    *[("move", step, count, True) for step in ("fsync", "link", "unlink") for count in (1, 2, 3)],
    *[("move", step, count, False) for step in ("replace", "write") for count in (1, 2, 3)],
    *[("link", step, count, False) for step in ("symlink", "write") for count in (1, 2, 3)],
]


@pytest.mark.parametrize(("action", "step", "count", "other_disk"), STEPS)
def test_a_kill_at_any_step_leaves_no_torn_image_and_is_undone(
    source, tmp_path, action, step, count, other_disk
) -> None:
    make_key()
    before, out = tree(tmp_path), tmp_path / "out"
    assert ended_by(file_and_die, action, source, out, step, count, other_disk) == signal.SIGKILL
    texts = set(before.values())
    assert {text for name, text in tree(out).items() if not is_hidden(name)} <= texts | links(source)
    assert {text for text in tree(tmp_path).values() if not text.startswith("->")} >= texts  # nothing is lost
    for path in out.glob("lsn-undo-*.jsonl"):
        assert {one.error for one in undo(read_undo_file(path))} <= {None}
    assert tree(tmp_path) == before
    assert not out.exists()


def is_hidden(name: str) -> bool:
    return Path(name).name.startswith(".")


def links(source: Path) -> set[str]:
    return {f"-> {path}" for path in source.rglob("*.jpg")}
