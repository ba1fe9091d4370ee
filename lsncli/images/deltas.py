"""Whether a Parquet page of deltas holds no more values than its header says.

Lengths of texts may be stored as differences, in blocks that begin with a count of all values. A reader takes
memory for so many, and some bytes can claim billions.
"""

from lsncli.images.pages import varint

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


def with_values(data: bytes, levels: int) -> bytes:
    """What follows ``levels`` runs of repetition and definition levels, each with its length before it."""
    at = 0
    for _ in range(levels):
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    return data[at:]


def _end(data: bytes, at: int, values: int) -> int:
    """Where the deltas from ``at`` on end."""
    in_block, at = varint(data, at)
    parts, at = varint(data, at)
    count, at = varint(data, at)
    _, at = varint(data, at)
    if count > values:
        raise ValueError(f"a page of {values:,} values that claims {count:,}")
    if not 0 < parts <= in_block <= MOST_IN_BLOCK or in_block % parts:
        raise ValueError("a page of deltas that is damaged")
    in_part, left = in_block // parts, count - 1
    while left > 0:
        _, at = varint(data, at)
        widths = data[at : at + parts]
        at += parts
        for width in widths[: -(-left // in_part)]:
            at += in_part * width // 8
        left -= in_block
    return at
