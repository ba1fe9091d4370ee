"""Read a tar within limits. The images of a compressed one are unpacked into a file without a name."""

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
"""Bytes that a compressed tar may unpack to, images or not."""
PIECE = 1 << 20
"""Bytes that are read at once."""
MAX_HEADERS = 1 << 17
"""Bytes of all headers of a member: its name and other attributes."""

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError)
"""The errors of reading damaged compressed data."""


def open_compressed(file: IO[bytes]) -> IO[bytes] | None:
    """Open a gzip, bzip2 or xz file, recognised by its first bytes, for reading; None for other files."""
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
    """A file with limits for ``tarfile``, which trusts the sizes in headers.

    A read has at most PIECE bytes, and all reads inside ``headers`` together at most MAX_HEADERS.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left: int | None = None
        self.latest = b""
        """The bytes of the last read."""

    @contextmanager
    def headers(self) -> Iterator[None]:
        """Limit the reads in this block to the headers of one member."""
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
        """Read at most PIECE bytes. Raises ValueError for more, or for more headers than allowed."""
        if not 0 <= size <= PIECE:
            raise ValueError("a header of invalid length")
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise ValueError(f"headers of more than {MAX_HEADERS >> 10} KiB before one member")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        self.latest = self._file.read(size)
        return self.latest


class ForwardFile(LimitedFile):
    """A limited file of compressed data, which cannot seek backwards. Raises LsnError above MAX_UNPACKED."""

    def __init__(self, file: IO[bytes], path: str) -> None:
        super().__init__(file)
        self._path = path
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        if position < self._position:
            raise ValueError("members that overlap")
        while self._position < position and self._read(min(PIECE, position - self._position)):
            pass
        return self._position

    def _read(self, size: int) -> bytes:
        data = super()._read(size)
        self._position += len(data)
        if self._position > MAX_UNPACKED:
            raise LsnError(
                f"'{self._path}' unpacks to more than {MAX_UNPACKED / 2**30:.3g} GiB.",
                "If that is correct, unpack it (tar -xf) and give the folder.",
            )
        return data


MORE_SPACE = "Name a folder with more space in the environment variable TMPDIR, or unpack the tar (tar -xf)."
SPARE = 1 << 30
"""Bytes that stay free on the disk."""


def temporary_folder() -> str:
    """Return ``TMPDIR``, else /var/tmp if it exists (/tmp is often in memory), else the system's default."""
    folder = "/var/tmp"
    if not os.environ.get("TMPDIR") and os.path.isdir(folder) and os.access(folder, os.W_OK):
        return folder
    return tempfile.gettempdir()


class UnpackedFile:
    """A file without a name: one thread appends to it, then many read it.

    It is deleted with the object, and also if the process is killed.
    """

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

    def check_space(self, size: int) -> None:
        """Raise LsnError if ``size`` more bytes would fill the disk."""
        disk = os.statvfs(self._descriptor) if hasattr(os, "statvfs") else None
        if disk is not None and disk.f_bavail * disk.f_frsize < size + SPARE:
            raise LsnError(
                f"A compressed tar does not fit in {self._folder}: {self.size / 2**30:.1f} GiB are unpacked.",
                MORE_SPACE,
            )

    def append(self, data: bytes) -> None:
        """Append bytes. Raises LsnError if the disk is full."""
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
        """Return ``size`` bytes from ``offset``, fewer at the end. Thread-safe."""
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
