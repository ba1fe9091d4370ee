"""Images out of a Parquet file, row by row. Read in order, each is decoded once; what is held is bounded."""

import bisect
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lsncli.console import printable
from lsncli.errors import LsnError, Unavailable
from lsncli.images.found import MAX_BYTES
from lsncli.images.read import CHANGED, Undecodable
from lsncli.images.remote import RangeFile
from lsncli.images.urls import as_url

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 16
"""Rows that are decoded at once."""
HELD = 1 << 28
"""Bytes of decoded rows that are kept for threads that come a little late; two batches always are."""
BUFFER = 1 << 20
"""Bytes of a column that are read at once. Without it pyarrow reads a row group whole, however large."""
REMOTE_BLOCK = 1 << 23
"""The same where each read is a request."""


@dataclass(frozen=True, slots=True)
class Table:
    """A Parquet file or URL as it was when it was listed, and the path to its column of image bytes."""

    path: str
    size: int
    mtime: int | None
    column: tuple[str, ...]

    def read(self, offset: int, size: int | None) -> bytes:
        """The image in row ``offset``. Raises Undecodable."""
        return _reader(self, os.getpid()).row(offset)


def opened(path: str, size: int) -> Any:
    """The ``pyarrow.parquet.ParquetFile``. Raises what pyarrow does, and Unavailable without it."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise Unavailable(
            "Parquet needs pyarrow, which is not installed.", "pip install 'lsncli[parquet]'"
        ) from error
    source: Any = path
    if as_url(path):
        source = pa.PythonFile(RangeFile(path, size, REMOTE_BLOCK), mode="r")
    return parquet.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER)


@lru_cache(maxsize=4)  # files of a listing are read one after the other; a fork opens them anew
def _reader(table: Table, _process: int) -> "_Reader":
    return _Reader(table)


class _Reader:
    """Goes through the rows forward, as a listing does; going back begins again at the row group."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._file: Any = None
        self._starts = [0]
        self._damaged: dict[int, tuple[int, str]] = {}
        """By row group: the first row that cannot be had, and why."""
        self._forget()

    def _forget(self) -> None:
        self._held: deque[tuple[int, pa.Array]] = deque()
        self._bytes = self._next = 0
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
        for start, batch in self._held:
            if start <= number < start + len(batch):
                return batch[number - start]
        group = self._open_at(number)
        first, reason = self._damaged.get(group, (number + 1, ""))
        if number >= first:
            raise Undecodable(reason)
        try:
            if self._batches is None or not self._starts[group] <= self._next <= number:
                self._forget()
                self._next = self._starts[group]
                self._batches = self._from(group)
            while True:
                start, batch = self._next, next(self._batches)
                self._hold(start, batch)
                if number < self._next:
                    return batch[number - start]
        except LsnError as error:  # of a URL: another row may have more luck
            self._forget()
            raise Undecodable(error.message) from error
        except (OSError, ValueError, StopIteration, MemoryError) as error:  # pyarrow's errors are among them
            # What comes behind damage in a row group is lost; each row would find it again, from the start.
            reason = f"its Parquet file is damaged: {printable(str(error) or 'it ends too early')[:200]}"
            self._damaged[group] = (self._next, reason)
            self._forget()
            raise Undecodable(reason) from error

    def _open_at(self, number: int) -> int:
        """The row group of a row."""
        if self._file is None:
            try:
                self._file = opened(self._table.path, self._table.size)
            except LsnError as error:
                raise Undecodable(error.message) from error
            for group in range(self._file.metadata.num_row_groups):
                self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)
        return bisect.bisect_right(self._starts, number) - 1

    def _from(self, group: int) -> Iterator["pa.Array"]:
        """The images from the start of a row group on; one group at a time, so that none is read ahead."""
        for one in range(group, len(self._starts) - 1):
            for batch in self._file.iter_batches(
                BATCH, row_groups=[one], columns=[".".join(self._table.column)], use_threads=False
            ):
                column = batch.column(0)
                for _ in self._table.column[1:]:
                    (column,) = column.flatten()  # a row that is null as a whole is null below, too
                yield column

    def _hold(self, start: int, batch: "pa.Array") -> None:
        self._held.append((start, batch))
        self._bytes += batch.nbytes
        self._next = start + len(batch)
        while self._bytes > HELD and len(self._held) > 2:
            self._bytes -= self._held.popleft()[1].nbytes
