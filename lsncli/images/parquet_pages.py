"""Limits on what the pages of a Parquet file unpack to, checked before they are unpacked.

A page says in its header to how many bytes it unpacks, and a reader allocates so much before it looks at the
page. The footer says the same of a column, but nothing compares it with the pages. So every page header is
read here first. Lengths of texts may be stored as differences, in blocks that begin with a count of all
values: a reader allocates for so many, and a few bytes can claim billions, so these are counted, too.
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
"""Bytes in which a header is looked for, at first and at last; it may hold the smallest and largest value."""
DEEPEST = 16
"""Structs in one another in a header; the format has three."""


class Oversized(ValueError):
    """A page, or what it belongs to, that would unpack to more than is allowed."""


@dataclass(frozen=True)
class Page:
    """What the header of a page says: ``size`` are its bytes in the file, ``unpacked`` those in memory.

    ``levels`` are the bytes of levels that come first, never ``compressed``, in a page of DATA_V2; ``rle``
    says whether those of a page of DATA have their usual encoding.
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
    """The bytes ``at`` to ``end`` of a file, which are pages; ``check`` raises ValueError for one.

    It is given a function that reads the bytes of the page.
    """

    at: int
    end: int
    check: Callable[[Page, Callable[[], bytes]], None]


class GuardedFile(io.RawIOBase):
    """A file whose bytes are given out only once every page header up to them was checked.

    Reading raises ValueError for a page that a check refuses, or that does not end within its chunk.
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
    """The pages of a chunk that begin from ``start`` on and before ``stop``; the chunk ends at ``end``.

    Raises ValueError for what is no header, and for a page beyond the end.
    """
    while start < stop:
        page = _page(file, start, end)
        if page.size < 0 or start + page.header + page.size > end:
            raise ValueError("a page is larger than its column")
        yield page
        start += page.header + page.size


def _page(file: IO[bytes], start: int, end: int) -> Page:
    wanted = HEADER
    while True:
        file.seek(start)
        data = file.read(min(wanted, end - start))
        try:
            return _parsed(data)
        except IndexError:
            if len(data) < wanted or wanted >= LONGEST_HEADER:
                raise ValueError("a page without a header") from None
            wanted *= 4


def _parsed(data: bytes) -> Page:
    """Raises IndexError if the header is longer than ``data``, ValueError for what is none."""
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


# Thrift's compact protocol. A field begins with a byte of its distance from the field before, and its type.
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct that are 32-bit numbers, truth values or structs, and where it ends."""
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
    """A value if it is a 32-bit number, a truth value or a struct, else None, and where it ends."""
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
    """A number of as many bytes as it needs, and where it ends. Raises IndexError behind the end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a page without a header")


def _signed(raw: int) -> int:
    """A 32-bit number from its zigzag form, as a reader in C++ cuts it."""
    raw &= 0xFFFFFFFF
    return (raw >> 1) ^ -(raw & 1)


NUMBERS, LENGTHS, PREFIXES = 5, 6, 7
"""DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY, as page headers call them."""
DELTAS = frozenset({NUMBERS, LENGTHS, PREFIXES})
DELTA_NAMES = frozenset({"DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"})
"""What pyarrow calls those of texts."""
MOST_IN_BLOCK = 1 << 20


def check_counts(data: bytes, encoding: int, values: int) -> None:
    """Raise ValueError if the unpacked ``data`` of a page claims more than ``values`` values."""
    try:
        end = _end(data, 0, values)
        if encoding == PREFIXES:  # the lengths of what is repeated, then those of what follows
            _end(data, end, values)
    except IndexError:
        raise ValueError("a page of deltas that is cut short") from None


def skip_levels(data: bytes, levels: int) -> bytes:
    """What follows ``levels`` runs of repetition and definition levels, each with its length before it."""
    at = 0
    for _ in range(levels):
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    return data[at:]


def _end(data: bytes, at: int, values: int) -> int:
    """Where the deltas from ``at`` on end."""
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
