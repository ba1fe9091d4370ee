"""Check the sizes of the pages of a Parquet file before they are unpacked.

The header of a page states its unpacked size, and readers allocate that much before they read the page. The
footer states the size of a column, but nothing compares it with the pages. So every page header is read here
first. Lengths of texts may be stored as differences, in blocks that begin with a count of all values: readers
allocate for that count, and a few bytes can claim billions, so these counts are checked, too.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

DATA, DICTIONARY, DATA_V2 = 0, 2, 3
"""The kinds of pages that hold values."""
RLE = 3
"""The usual encoding of levels."""
HEADER, LONGEST_HEADER = 1 << 12, 1 << 24
"""Bytes that are read for a header, at first and at most; it may contain the smallest and largest value."""
DEEPEST = 16
"""Levels of nested structs in a header; the format has three."""


class Oversized(ValueError):
    """A page, column or file that would unpack to more than is allowed."""


@dataclass(frozen=True)
class Page:
    """The header of a page: ``size`` is in bytes of the file, ``unpacked`` in bytes of memory.

    ``levels`` are the bytes of levels at the start of a DATA_V2 page, which are never ``compressed``; ``rle``
    is whether the levels of a DATA page have their usual encoding.
    """

    kind: int
    header: int
    size: int
    unpacked: int
    values: int
    encoding: int
    levels: int = 0
    compressed: bool = True
    rle: bool = True


@dataclass
class ColumnChunk:
    """The bytes ``at`` to ``end`` of a file, which are pages. ``check`` raises ValueError for an invalid one.

    Its second argument is a function that reads the bytes of the page.
    """

    at: int
    end: int
    check: Callable[[Page, Callable[[], bytes]], None]


class GuardedFile(io.RawIOBase):
    """A file whose bytes can be read only after every page header up to them was checked.

    Reading raises ValueError for a page that fails its check, or does not end within its chunk.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._chunks: list[ColumnChunk] = []

    def watch(self, chunk: ColumnChunk) -> None:
        """Check the pages of a chunk from now on."""
        self._chunks.append(chunk)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(position, whence)

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes whose page headers were checked. Raises ValueError for a page that is refused."""
        start = self._file.tell()
        data = self._file.read(-1 if size is None else size)
        end = start + len(data)
        for chunk in self._chunks:
            if chunk.at < end and start < chunk.end:
                for page in read_pages(self._file, chunk.at, min(end, chunk.end), chunk.end):
                    chunk.check(page, partial(self._data, chunk.at + page.header, page.size))
                    chunk.at += page.header + page.size
        self._file.seek(end)
        return data

    def _data(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        super().close()


def read_pages(file: IO[bytes], start: int, stop: int, end: int) -> Iterator[Page]:
    """Yield the pages that begin at ``start`` or later and before ``stop``, of a chunk that ends at ``end``.

    Raises ValueError for an invalid header, and for a page beyond the end.
    """
    while start < stop:
        page = _page(file, start, end)
        if page.size < 0 or start + page.header + page.size > end:
            raise ValueError("a page is larger than its column")
        yield page
        start += page.header + page.size


def _page(file: IO[bytes], start: int, end: int) -> Page:
    length = HEADER
    while True:
        file.seek(start)
        data = file.read(min(length, end - start))
        try:
            return _parse(data)
        except IndexError:
            if len(data) < length or length >= LONGEST_HEADER:
                raise ValueError("a page without a header") from None
            length *= 4


def _parse(data: bytes) -> Page:
    """Parse a header. Raises IndexError if it is longer than ``data``, ValueError if it is invalid."""
    fields, length = _struct(data, 0, 0)
    kind, unpacked, size = (_number(fields, at) for at in (1, 2, 3))
    inside = fields.get({DATA: 5, DICTIONARY: 7, DATA_V2: 8}.get(kind, 0), {})
    if not isinstance(inside, dict):
        raise ValueError("a page without a header")
    if kind not in (DATA, DICTIONARY, DATA_V2):
        return Page(kind, length, size, unpacked, 0, 0)
    page = Page(
        kind, length, size, unpacked, _number(inside, 1), _number(inside, 4 if kind == DATA_V2 else 2)
    )
    if kind == DATA_V2:
        return replace(
            page, levels=_number(inside, 5) + _number(inside, 6), compressed=inside.get(7) is not False
        )
    return replace(page, rle=kind == DICTIONARY or inside.get(3) == inside.get(4) == RLE)


def _number(fields: Mapping[int, Any], at: int) -> int:
    value = fields.get(at)
    if type(value) is not int or value < 0:
        raise ValueError("a page without a header")
    return value


# Thrift's compact protocol. The first byte of a field is the step from the number of the last, and its type.
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct that are 32-bit numbers, truth values or structs, and its end."""
    if depth > DEEPEST:
        raise ValueError("a page without a header")
    fields: dict[int, Any] = {}
    number = 0
    while (byte := data[at]) & 15 != STOP:
        at += 1
        if step := byte >> 4:
            number += step
        else:
            raw, at = read_varint(data, at)
            number = _signed(raw)
        value, at = _value(data, at, byte & 15, depth)
        if value is not None:
            fields[number] = value
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Return a value if it is a 32-bit number, a truth value or a struct, else None, and its end."""
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind == BYTE:
        return None, at + 1
    if kind in (I16, I32, I64):
        raw, at = read_varint(data, at)
        return _signed(raw) if kind == I32 else None, at
    if kind == DOUBLE:
        return None, at + 8
    if kind == BINARY:
        length, at = read_varint(data, at)
        if length > LONGEST_HEADER:
            raise ValueError("a page without a header")
        return None, at + length
    if kind == STRUCT:
        return _struct(data, at, depth + 1)
    raise ValueError("a page without a header")  # the headers of pages have neither lists nor maps


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length and its end. Raises IndexError beyond the end of the data."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a page without a header")


def _signed(raw: int) -> int:
    """Decode a zigzag number, cut to 32 bits as readers in C++ do."""
    raw &= 0xFFFFFFFF
    return (raw >> 1) ^ -(raw & 1)


NUMBERS, LENGTHS, PREFIXES = 5, 6, 7
"""DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY in page headers."""
DELTAS = frozenset({NUMBERS, LENGTHS, PREFIXES})
DELTA_NAMES = frozenset({"DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"})
"""The encodings of texts, as pyarrow calls them."""
MOST_IN_BLOCK = 1 << 20


def check_counts(data: bytes, encoding: int, values: int) -> None:
    """Raise ValueError if the unpacked ``data`` of a page claims more than ``values`` values."""
    try:
        end = _end(data, 0, values)
        if encoding == PREFIXES:  # the lengths of the prefixes, then those of the rest
            _end(data, end, values)
    except IndexError:
        raise ValueError("a page of deltas that is cut short") from None


def skip_levels(data: bytes, levels: int) -> bytes:
    """Return the bytes after ``levels`` runs of repetition and definition levels, each after its length."""
    at = 0
    for _ in range(levels):
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    return data[at:]


def _end(data: bytes, at: int, values: int) -> int:
    """Return the end of the deltas that begin at ``at``."""
    in_block, at = read_varint(data, at)
    parts, at = read_varint(data, at)
    count, at = read_varint(data, at)
    _, at = read_varint(data, at)
    if count > values:
        raise ValueError(f"a page of {values:,} values that claims {count:,}")
    if not 0 < parts <= in_block <= MOST_IN_BLOCK or in_block % parts:
        raise ValueError("a page of deltas that is damaged")
    in_part, left = in_block // parts, count - 1
    while left > 0:
        _, at = read_varint(data, at)
        widths = data[at : at + parts]
        at += parts
        for width in widths[: -(-left // in_part)]:
            at += in_part * width // 8
        left -= in_block
    return at
