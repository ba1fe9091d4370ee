"""File locks across processes: exclusive for one writer, or shared by several workers."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lsncli.errors import LsnError
from lsncli.files import NO_LINK

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int, shared: bool) -> None:  # noqa: ARG001
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # Windows has no shared locks: workers take turns
else:
    import fcntl

    def _lock(handle: int, shared: bool) -> None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path, *, wait: float = 0.0, shared: bool = False) -> Iterator[None]:
    """Hold the lock of ``path`` (the file ``<path>.lock``), trying for ``wait`` seconds.

    A ``shared`` lock excludes exclusive locks but not other shared ones. The operating system releases the
    lock when the process ends, however it ends. Raises LsnError if another process holds it, or if the file
    system does not support locks.
    """
    file = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + wait
    while (handle := _try_lock(file, shared)) is None:
        if time.monotonic() >= deadline:
            raise LsnError(f"{path} is being written by another process.", "Try again when it has finished.")
        time.sleep(0.02)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file: the empty file stays
            if shared:
                _lock(handle, shared=False)  # fails while others hold it: the last holder removes it
            file.unlink()
        os.close(handle)


def _try_lock(file: Path, shared: bool) -> int | None:
    """Open the lock file and lock it; return its handle, or None if another process holds the lock."""
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
        except FileNotFoundError:  # the previous holder has just removed the folder
            continue
        except OSError as error:
            raise LsnError(f"{file} cannot be created: {error.strerror}.") from error
        try:
            _lock(handle, shared)
            # The previous holder removes the file on release, and a lock on a removed file excludes nobody.
            if os.path.exists(file) and os.path.samestat(os.fstat(handle), os.stat(file)):
                return handle
        except (BlockingIOError, PermissionError):
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(handle)
            raise LsnError(
                f"{file} cannot be locked: {error.strerror}.", "Keep --work on a file system with file locks."
            ) from error
        os.close(handle)
