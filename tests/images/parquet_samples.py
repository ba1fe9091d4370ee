"""Parquet files made by hand, where pyarrow would not write what they claim."""

import struct
from collections.abc import Sequence
from pathlib import Path

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
BYTE_ARRAY, OPTIONAL_REQUIRED = 6, 0
Field = tuple[int, int, bytes]


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def whole(number: int) -> bytes:
    return varint(2 * number if number >= 0 else -2 * number - 1)


def text(value: bytes) -> bytes:
    return varint(len(value)) + value


def struct_of(*fields: Field) -> bytes:
    out, last = b"", 0
    for number, kind, value in fields:
        out += bytes([(number - last) << 4 | kind]) + value
        last = number
    return out + b"\0"


def listed(kind: int, items: Sequence[bytes]) -> bytes:
    return bytes([0xF0 | kind]) + varint(len(items)) + b"".join(items)


def page(data: bytes, *, values: int, encoding: int, unpacked: int | None = None) -> bytes:
    inner = struct_of(
        (1, I32, whole(values)), (2, I32, whole(encoding)), (3, I32, whole(3)), (4, I32, whole(3))
    )
    size = len(data) if unpacked is None else unpacked
    return (
        struct_of((1, I32, whole(0)), (2, I32, whole(size)), (3, I32, whole(len(data))), (5, STRUCT, inner))
        + data
    )


def write_pages(path: Path, pages: bytes, *, rows: int, encoding: int, size: int | None = None) -> Path:
    """A file of one required column ``image`` of bytes, in one row group that says it has ``size`` bytes."""
    size = len(pages) if size is None else size
    column = struct_of(
        (1, I32, whole(BYTE_ARRAY)),
        (2, LIST, listed(I32, [whole(encoding)])),
        (3, LIST, listed(BINARY, [text(b"image")])),
        (4, I32, whole(0)),
        (5, I64, whole(rows)),
        (6, I64, whole(size)),
        (7, I64, whole(size)),
        (9, I64, whole(4)),
    )
    group = struct_of(
        (1, LIST, listed(STRUCT, [struct_of((2, I64, whole(4)), (3, STRUCT, column))])),
        (2, I64, whole(size)),
        (3, I64, whole(rows)),
    )
    root = struct_of((4, BINARY, text(b"schema")), (5, I32, whole(1)))
    leaf = struct_of(
        (1, I32, whole(BYTE_ARRAY)), (3, I32, whole(OPTIONAL_REQUIRED)), (4, BINARY, text(b"image"))
    )
    footer = struct_of(
        (1, I32, whole(1)),
        (2, LIST, listed(STRUCT, [root, leaf])),
        (3, I64, whole(rows)),
        (4, LIST, listed(STRUCT, [group])),
    )
    path.write_bytes(b"PAR1" + pages + footer + struct.pack("<I", len(footer)) + b"PAR1")
    return path
