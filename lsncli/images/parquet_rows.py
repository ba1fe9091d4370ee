"""Images out of a Parquet file, row by row. Read in order, each is decoded once; what is held is bounded."""

import bisect
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lsncli.console import printable
from lsncli.errors import LsnError
from lsncli.images.found import MAX_BYTES
from lsncli.images.parquet_file import FAILURES, IMAGES, ParquetFile
from lsncli.images.parquet_pages import Oversized
from lsncli.images.read import CHANGED, Undecodable

if TYPE_CHECKING:
    import pyarrow as pa

AHEAD = 64
"""Rows that are gone forward to reach one in the next row group; threads ask in nearly the right order."""
HELD = 1 << 28
"""Bytes of decoded rows that are kept for threads that come a little late; two rows always are."""
MOST_HELD = 4096
"""Rows that are kept so."""
MOST_UNPACKED, USUAL = 1 << 30, 100
"""Bytes that images may have together, and how many times the bytes of the file if that is more."""


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A Parquet file or URL as it was when it was listed, and the path to its column of image bytes."""

    path: str
    size: int
    mtime: int | None
    column: tuple[str, ...]

    def read(self, offset: int, size: int | None) -> bytes:
        """The image in row ``offset``. Raises Undecodable."""
        return _reader(self, os.getpid()).row(offset)


@lru_cache(maxsize=4)  # files of a listing are read one after the other; a fork opens them anew
def _reader(table: ListedTable, _process: int) -> "_Reader":
    return _Reader(table)


class _Reader:
    """Goes through the rows forward, as a listing does; going back begins again at the row group."""

    def __init__(self, table: ListedTable) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._file: ParquetFile | None = None
        self._starts = [0]
        self._damaged: dict[int, tuple[int, str]] = {}
        """By row group: the first row that is unavailable, and why."""
        self._forget()

    def _forget(self) -> None:
        self._held: OrderedDict[int, pa.Array] = OrderedDict()  # arrays of one row, by its number
        self._bytes = self._next = self._unpacked = 0
        self._batches: Iterator[Any] | None = None

    def row(self, number: int) -> bytes:
        """The image in a row. Raises Undecodable, OSError."""
        with self._lock:
            self._check_unchanged()
            image = self._value(number)
        if not image.is_valid:
            raise Undecodable("no image in this row")
        data = image.as_buffer()
        if data.size > MAX_BYTES:
            raise Undecodable(f"too large: {data.size / 2**30:.1f} GiB")
        return bytes(data)

    def _check_unchanged(self) -> None:
        if self._table.mtime is None:  # of a URL
            return
        status = os.stat(self._table.path)
        if (status.st_size, status.st_mtime_ns) != (self._table.size, self._table.mtime):
            raise Undecodable(f"its table {CHANGED}")

    def _value(self, number: int) -> Any:
        if number in self._held:
            return self._held[number][0]
        file, group = self._open_at(number)
        first, reason = self._damaged.get(group, (number + 1, ""))
        if number >= first:
            raise Undecodable(reason)
        if self._batches is None or not min(self._starts[group], number - AHEAD) <= self._next <= number:
            self._forget()
            self._next = self._starts[group]
            self._batches = self._from(file, group)
        try:
            while True:
                row = next(self._batches)
                if self._unpacked + row.nbytes > max(MOST_UNPACKED, USUAL * self._table.size):
                    raise Oversized(
                        f"images of more than {self._unpacked:,} bytes in {self._table.size:,} bytes"
                    )
                self._hold(row)
                if number < self._next:
                    return row[0]
        except LsnError as error:  # of a URL: another row may have more luck
            self._forget()
            raise Undecodable(error.message) from error
        except (*FAILURES, StopIteration) as error:
            # What comes behind damage in a row group is lost; each row would find it again, from the start.
            what = "is refused" if isinstance(error, Oversized) else "is damaged"
            reason = f"its Parquet file {what}: {printable(str(error) or 'it ends too early')[:200]}"
            damaged = self._group_of(self._next)
            self._damaged[damaged] = (self._next, reason)
            self._forget()
            if damaged < group:  # it was only on the way
                return self._value(number)
            raise Undecodable(reason) from error

    def _open_at(self, number: int) -> tuple[ParquetFile, int]:
        """The open file and the row group of a row."""
        if self._file is None:
            try:
                self._file = ParquetFile(self._table.path, self._table.size)
            except LsnError as error:
                raise Undecodable(error.message) from error
            except FAILURES as error:
                raise Undecodable(f"its Parquet file is damaged: {printable(str(error))[:200]}") from error
            for group in range(self._file.metadata.num_row_groups):
                self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)
        return self._file, self._group_of(number)

    def _group_of(self, number: int) -> int:
        return bisect.bisect_right(self._starts, number) - 1

    def _from(self, file: ParquetFile, group: int) -> Iterator["pa.Array"]:
        """The images from the start of a row group on."""
        groups = range(group, len(self._starts) - 1)
        for row in file.batches(".".join(self._table.column), IMAGES, groups):
            for _ in self._table.column[1:]:
                (row,) = row.flatten()  # a row that is null as a whole is null below, too
            yield row

    def _hold(self, row: "pa.Array") -> None:
        self._held[self._next] = row
        self._bytes += row.nbytes
        self._unpacked += row.nbytes
        self._next += 1
        while len(self._held) > 2 and (self._bytes > HELD or len(self._held) > MOST_HELD):
            self._bytes -= self._held.popitem(last=False)[1].nbytes
