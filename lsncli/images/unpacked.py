"""Images taken out of a compressed tar: their bytes, one after the other, in a file that has no name."""

import os
import tempfile
import threading
import weakref
from pathlib import Path

from lsncli.errors import LsnError

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


class Unpacked:
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
