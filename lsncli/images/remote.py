"""Bytes behind URLs: an image, or ranges of what holds many."""

import io
import os
from dataclasses import dataclass
from typing import Any

from lsncli.errors import LsnError
from lsncli.images.budget import Unfetchable
from lsncli.images.fetch import fetch, fetch_range
from lsncli.images.found import MAX_BYTES
from lsncli.images.read import CHANGED, Undecodable

BLOCK = 1 << 16
"""Bytes that are fetched at once where a tar is indexed: what is longer between two headers is never read."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One object behind a URL, ``size`` bytes of it if that is known: an image, or what holds many."""

    url: str
    size: int | None = None

    def read(self, offset: int, size: int | None) -> bytes:
        """``size`` bytes from ``offset``. Raises Undecodable."""
        if (size or 0) > MAX_BYTES:
            raise Undecodable(f"too large: {(size or 0) / 2**30:.1f} GiB")
        try:
            if size is None:
                return fetch(self.url)
            whole = offset == 0 and size == self.size
            if whole:
                data = fetch(self.url, limit=size, expected=size, excess=CHANGED)
            else:
                data = fetch_range(self.url, offset, size)
        except LsnError as error:
            raise Undecodable(error.message) from error
        if len(data) != size:
            raise Undecodable(CHANGED)
        return data


class RangeFile(io.RawIOBase):
    """A remote object as a file that is read in ranges of ``block`` bytes, for readers that skip about."""

    def __init__(self, url: str, size: int, block: int = BLOCK) -> None:
        super().__init__()
        self._url, self._size, self._block = url, size, block
        self._position = self._start = 0
        self._held = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + position)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Raises Unfetchable, which is not an OSError: readers of formats would take that for damage."""
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        at = self._position - self._start
        if not 0 <= at <= len(self._held) - wanted:
            length = min(max(wanted, self._block), left)
            self._held, self._start, at = fetch_range(self._url, self._position, length), self._position, 0
            if len(self._held) < length:
                raise Unfetchable(CHANGED)
        self._position += wanted
        return self._held[at : at + wanted]

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
