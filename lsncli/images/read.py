"""Read the encoded bytes of one image from a file, a range of a tar or another ``Content``. Thread-safe."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsncli.errors import LsnError
from lsncli.images.item import MAX_BYTES

if TYPE_CHECKING:
    from lsncli.images.item import ImageItem


class Undecodable(LsnError):
    """An image that cannot be read; the message is the reason in a few words."""


CHANGED = "changed since it was listed"

REASONS = {
    errno.ENOENT: "no such file",
    errno.ELOOP: "a symbolic link loop",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "is a folder",
    errno.ENAMETOOLONG: "the path is too long",
    errno.ENOTDIR: "no such file",
    errno.ENXIO: "not a regular file",
    errno.ESTALE: "no such file",
}


def read_bytes(item: "ImageItem") -> bytes:
    """Return the encoded bytes of an image. Raises Undecodable, also if its file changed after listing."""
    try:
        if item.content is not None:
            return item.content.read(item.offset or 0, item.size)
        return read_file(item.path, item.size, item.mtime)[0]
    except OSError as error:
        reason = REASONS.get(error.errno or 0)
        raise Undecodable(reason or f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise Undecodable(f"cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class ListedTar:
    """An uncompressed tar, with its size in bytes and modification time in ns when it was listed."""

    path: str
    size: int
    mtime: int

    def read(self, offset: int, size: int | None) -> bytes:
        """Read ``size`` bytes from ``offset``. Raises OSError, and Undecodable if the tar has changed."""
        # Every call opens the file anew: threads share no position and need no lock.
        with _opened(self.path) as (descriptor, status):
            if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime):
                raise Undecodable(f"its tar {CHANGED}")
            data = read_range(descriptor, offset, size or 0)
        if len(data) < (size or 0):
            raise Undecodable("the tar ends inside this image")
        return data


def packed(path: str) -> ListedTar:
    """Return an uncompressed tar with its present size and time. Raises OSError."""
    status = os.stat(path)
    return ListedTar(path, status.st_size, status.st_mtime_ns)


def read_range(descriptor: int, offset: int, size: int) -> bytes:
    """Read ``size`` bytes from ``offset`` of an open file, fewer if it ends."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    pieces = []
    while size > 0 and (piece := os.read(descriptor, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_file(path: str, size: int | None, mtime: int | None) -> tuple[bytes, os.stat_result]:
    """Read a file and its status. Raises OSError, and Undecodable if the file has changed.

    ``size`` in bytes and ``mtime`` in ns are those of its listing, None if unknown.
    """
    with _opened(path) as (descriptor, status):
        if size not in (None, status.st_size) or mtime not in (None, status.st_mtime_ns):
            raise Undecodable(CHANGED)
        if status.st_size > MAX_BYTES:
            raise Undecodable(f"too large: {status.st_size / 2**30:.1f} GiB")
        data = read_range(descriptor, 0, status.st_size)
        if os.fstat(descriptor).st_mtime_ns != status.st_mtime_ns:
            raise Undecodable("changed while it was read")
    if len(data) < status.st_size:
        raise Undecodable("shrank while read")
    return data, status


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file; yields its descriptor and status. Raises OSError or Undecodable."""
    # Without blocking: a file that was replaced by a named pipe since the listing would block for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise Undecodable("is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise Undecodable("not a regular file")
        yield descriptor, status
    finally:
        os.close(descriptor)
