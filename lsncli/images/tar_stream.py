"""Read a compressed tar from front to back, within limits. Its images go into one file that has no name."""

import bz2
import gzip
import io
import lzma
import os
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from lsncli.errors import LsnError

MAX_UNPACKED = 64 << 30
"""Bytes that one compressed tar may unpack to, images or not."""
PIECE = 1 << 20
"""Bytes that are read at once."""
MAX_HEADERS = 1 << 17
"""Bytes of all headers of a member: its name, and whatever else a packer noted of it."""

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError)
"""What reading damaged compressed data raises."""


def open_compressed(file: IO[bytes]) -> IO[bytes] | None:
    """The unpacked content of a gzip, bzip2 or xz file, told by its first bytes; None if it is neither."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start == b"\xfd7zXZ\0":
        return lzma.LZMAFile(file)
    return None


class LimitedFile(io.RawIOBase):
    """A file as ``tarfile`` reads it, which trusts what headers claim: no read above PIECE bytes, and while
    ``headers`` are read not more than MAX_HEADERS in all."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left: int | None = None
        self.latest = b""
        """What was read at last."""

    @contextmanager
    def headers(self) -> Iterator[None]:
        """The headers of one member are read meanwhile."""
        self._left = MAX_HEADERS
        try:
            yield
        finally:
            self._left = None

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        return self._file.seek(position, whence)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= PIECE:
            raise ValueError("a header of absurd length")
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise ValueError(f"headers of more than {MAX_HEADERS >> 10} KiB before one member")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        self.latest = self._file.read(size)
        return self.latest


class ForwardFile(LimitedFile):
    """The same for compressed data, where going back would mean to begin again.

    Raises LsnError above MAX_UNPACKED bytes.
    """

    def __init__(self, file: IO[bytes], path: str) -> None:
        super().__init__(file)
        self._path = path
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        if position < self._position:
            raise ValueError("members that overlap")
        while self._position < position and self._take(min(PIECE, position - self._position)):
            pass
        return self._position

    def _take(self, size: int) -> bytes:
        data = super()._take(size)
        self._position += len(data)
        if self._position > MAX_UNPACKED:
            raise LsnError(
                f"'{self._path}' unpacks to more than {MAX_UNPACKED / 2**30:.3g} GiB.",
                "If that is what it should hold, unpack it (tar -xf) and give the folder.",
            )
        return data


MORE_SPACE = "Name a folder with more space in the environment variable TMPDIR, or unpack the tar (tar -xf)."
SPARE = 1 << 30
"""Bytes that are always left free on the disk."""


def temporary_folder() -> str:
    """``TMPDIR`` if it is set; else /var/tmp where there is one, since /tmp often is memory; else the
    system's."""
    usual = "/var/tmp"
    if not os.environ.get("TMPDIR") and os.path.isdir(usual) and os.access(usual, os.W_OK):
        return usual
    return tempfile.gettempdir()


class UnpackedFile:
    """Appended to by one thread, then read by many. It vanishes with the object, and with the process however
    that ends."""

    def __init__(self) -> None:
        folder = Path(temporary_folder())
        try:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
        except OSError as error:
            raise LsnError(
                f"A compressed tar cannot be unpacked in {folder}: {error.strerror or error}.",
                "Name a folder with space in the environment variable TMPDIR.",
            ) from error
        weakref.finalize(self, os.close, self._descriptor)
        self._folder = folder
        self._lock = threading.Lock()
        self.size = 0

    def check_space(self, wanted: int) -> None:
        """Raise LsnError if ``wanted`` more bytes would fill the disk."""
        disk = os.statvfs(self._descriptor) if hasattr(os, "statvfs") else None
        if disk is not None and disk.f_bavail * disk.f_frsize < wanted + SPARE:
            raise LsnError(
                f"A compressed tar does not fit in {self._folder}: {self.size / 2**30:.1f} GiB are unpacked.",
                MORE_SPACE,
            )

    def append(self, data: bytes) -> None:
        """Write behind what is there. Raises LsnError if the disk is full."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise LsnError(
                f"A compressed tar cannot be unpacked in {self._folder}: {error.strerror or error}.",
                MORE_SPACE,
            ) from error
        self.size += len(data)

    def read(self, offset: int, size: int | None) -> bytes:
        """``size`` bytes from ``offset``, fewer if the file ends; threads do not disturb one another."""
        size = self.size - offset if size is None else size
        pieces = []
        while size > 0 and (piece := self._read_once(offset, size)):
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return b"".join(pieces)

    def _read_once(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, offset)
        with self._lock:  # Windows: seeking and reading are two steps
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)
