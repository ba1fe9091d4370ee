"""The encoded bytes of one image, or a short reason why not: from a file, a range of a tar, or whatever else
an item's ``content`` is. Any thread may read any item."""

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
    """The encoded bytes of an image. Raises Undecodable, also if what holds them changed after listing."""
    try:
        if item.content is not None:
            return item.content.read(item.offset or 0, item.size)
        return read_file(item.path, item.size, item.mtime)[0]
    except OSError as error:
        known = REASONS.get(error.errno or 0)
        raise Undecodable(known or f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise Undecodable(f"cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class ListedTar:
    """A plain tar as it was when it was listed: its size in bytes and the time of its last change in ns."""

    path: str
    size: int
    mtime: int

    def read(self, offset: int, size: int | None) -> bytes:
        """``size`` bytes from ``offset``. Raises OSError, and Undecodable if the tar is another one now."""
        # Every call opens the file anew: threads share no position and need no lock.
        with _opened(self.path) as (descriptor, status):
            if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime):
                raise Undecodable(f"its tar {CHANGED}")
            data = read_range(descriptor, offset, size or 0)
        if len(data) < (size or 0):
            raise Undecodable("the tar ends inside this image")
        return data


def packed(path: str) -> ListedTar:
    """A plain tar as it is now. Raises OSError."""
    status = os.stat(path)
    return ListedTar(path, status.st_size, status.st_mtime_ns)


def read_range(descriptor: int, offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` of an open file, fewer if it ends."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    pieces = []
    while size > 0 and (piece := os.read(descriptor, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_file(path: str, size: int | None, mtime: int | None) -> tuple[bytes, os.stat_result]:
    """A whole file and its status; ``size`` and ``mtime`` are those of its listing, None = unknown."""
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
    """A regular file, open; and what it is, which one call tells for the check of kind, size and time."""
    # Without waiting: what has become a named pipe since it was listed would wait for ever.
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
