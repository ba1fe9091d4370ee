"""One writer at a time."""

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from store_samples import fingerprint, split
from waiting import PATIENCE

from lsncli import locks as lock_module
from lsncli.errors import LsnError
from lsncli.locks import locked
from lsncli.store.reader import list_splits
from lsncli.store.verify import verify
from lsncli.store.writer import write_split

HOLDER = """
import sys
from pathlib import Path
from lsncli.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_gets_a_clear_error_and_a_killed_one_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LsnError, match="is being written by another process"):
            write_split(path, split(), fingerprint())
        assert not path.exists()
    finally:
        holder.kill()
        holder.communicate()
    write_split(path, split(), fingerprint())
    assert verify(path) == []
    assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]


def test_the_lock_makes_its_folder_and_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "new/f.h5"):
        assert (tmp_path / "new/f.h5.lock").exists()
    assert list((tmp_path / "new").iterdir()) == []


def test_others_who_may_write_here_may_lock_here(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with locked(tmp_path / "f.h5"):
            assert stat.S_IMODE((tmp_path / "f.h5.lock").stat().st_mode) == 0o666
    finally:
        os.umask(mask)


def test_waiting_writers_take_turns(tmp_path: Path) -> None:
    inside = 0
    worst = 0

    def work() -> None:
        nonlocal inside, worst
        for _ in range(5):
            with locked(tmp_path / "f.h5", wait=PATIENCE):
                inside += 1
                worst = max(worst, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == 1


def test_concurrent_writers_lose_no_split(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    names = [f"s{index}" for index in range(8)]
    threads = [
        threading.Thread(
            target=write_split, args=(path, split(name), fingerprint()), kwargs={"wait": PATIENCE}
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(list_splits(path)) == names
    assert verify(path) == []


def test_a_file_system_without_locks_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, shared: bool) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("lsncli.locks._lock", refuse)
    with pytest.raises(LsnError, match="cannot be locked: No locks available"), locked(tmp_path / "f.h5"):
        pass


@pytest.mark.parametrize("again", [False, True], ids=["removed", "removed and made again"])
def test_a_lock_of_a_file_that_its_holder_has_removed_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """The holder lets go between our opening of the file and our lock."""
    path, file = tmp_path / "f.h5", tmp_path / "f.h5.lock"
    lock, tried = lock_module._lock, []

    def late(handle: int, shared: bool) -> None:
        if not tried:
            file.unlink()
            if again:
                file.touch()
        tried.append(handle)
        lock(handle, shared)

    monkeypatch.setattr(lock_module, "_lock", late)
    with locked(path):
        assert len(tried) == 2
        with pytest.raises(LsnError, match="another process"), locked(path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_shared_lock_is_held_along_with_others_and_keeps_off_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with locked(path, shared=True):
        with locked(path, shared=True), pytest.raises(LsnError, match="another process"), locked(path):
            pass
        assert (tmp_path / "f.h5.lock").exists()  # the other one still holds it
        with pytest.raises(LsnError, match="another process"), locked(path):
            pass
    with locked(path), pytest.raises(LsnError, match="another process"), locked(path, shared=True):
        pass
    assert list(tmp_path.iterdir()) == []
