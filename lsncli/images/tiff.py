"""Read the tags in the first directory of a TIFF or of EXIF data, and copy a TIFF with pixel tags only."""

import struct
from dataclasses import dataclass

HEADERS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
"""Byte order, and whether it is a BigTIFF."""
NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}
"""The types of integers, as ``struct`` names them."""
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 11: 4, 13: 4}
"""Bytes of a value of each type; 8 for all others."""
MAX_ENTRIES = 4096
MAX_VALUES = 1 << 20
"""Values of a tag that are read; each strip or tile is a value."""

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
FILL_ORDER, STRIP_OFFSETS, ORIENTATION, CHANNELS, ROWS_PER_STRIP, STRIP_SIZES = 266, 273, 274, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 284, 317, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
PIXEL_TAGS = frozenset(
    {
        *(
            254,
            WIDTH,
            HEIGHT,
            BITS,
            COMPRESSION,
            PHOTOMETRIC,
            FILL_ORDER,
            STRIP_OFFSETS,
            ORIENTATION,
            CHANNELS,
        ),
        *(ROWS_PER_STRIP, STRIP_SIZES, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES),
        *(EXTRA_SAMPLES, SAMPLE_FORMAT),
        *(292, 293),  # options of fax compression
        *(320, 332),  # palette, kind of inks
        *(347, *range(512, 522)),  # tables of JPEG, new and old
        *(529, 530, 531, 532),  # YCbCr
    }
)
"""The tags that determine the pixels."""


@dataclass(frozen=True)
class TagEntry:
    """A stored tag: type, number of values, and their offset in the file."""

    kind: int
    count: int
    at: int
    raw: bytes
    """The entry itself, of 12 or 20 bytes."""


@dataclass(frozen=True)
class Directory:
    """The first directory of ``data``."""

    data: bytes
    order: str
    big: bool
    entries: dict[int, TagEntry]

    def values(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the integers of a tag; ``default`` if it is missing, incomplete or of another type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in NUMBERS or not 0 < entry.count <= MAX_VALUES:
            return default
        form = f"{self.order}{entry.count}{NUMBERS[entry.kind]}"
        if entry.at + struct.calcsize(form) > len(self.data):
            return default
        return struct.unpack_from(form, self.data, entry.at)

    def count(self, tag: int) -> int:
        """Return the number of values that a tag claims to have."""
        return self.entries[tag].count if tag in self.entries else 0

    @property
    def bytes_of_values(self) -> int:
        """The bytes of the values of all tags. If they are more than the file has, values overlap."""
        return sum(entry.count * SIZES.get(entry.kind, 8) for entry in self.entries.values())

    def value(self, tag: int, default: int = 0) -> int:
        """Return the first number of a tag."""
        return self.values(tag, (default,))[0]


def count_tags(data: bytes) -> int:
    """Return the number of tags that the first directory of a TIFF claims to have; 0 without one."""
    if data[:4] not in HEADERS:
        return 0
    order, big = HEADERS[data[:4]]
    try:
        (first,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, first)
    except (struct.error, OverflowError):
        return 0
    return int(count)


def read_directory(data: bytes) -> Directory | None:
    """Read the first directory of a TIFF or of EXIF data; None if it is missing or damaged."""
    if data[:4] not in HEADERS:
        return None
    order, big = HEADERS[data[:4]]
    counts, fields = (order + "Q", order + "HHQ") if big else (order + "H", order + "HHI")
    offset, inline = order + ("Q" if big else "I"), 8 if big else 4
    entries: dict[int, TagEntry] = {}
    try:
        (first,) = struct.unpack_from(offset, data, 8 if big else 4)
        (count,) = struct.unpack_from(counts, data, first)
        if first < 8 or count > MAX_ENTRIES:
            return None
        at, size = first + struct.calcsize(counts), struct.calcsize(fields) + inline
        for start in range(at, at + size * count, size):
            tag, kind, number = struct.unpack_from(fields, data, start)
            position = start + size - inline
            bytes_each = struct.calcsize("=" + NUMBERS[kind]) if kind in NUMBERS else 8
            if number * bytes_each > inline:
                (position,) = struct.unpack_from(offset, data, position)
            entries.setdefault(tag, TagEntry(kind, number, position, data[start : start + size]))
    except (struct.error, OverflowError):  # it is cut short, or points out of the file
        return None
    return Directory(data, order, big, entries)


def read_orientation(exif: bytes) -> int:
    """Return the EXIF orientation, 1 to 8; 0 if it is missing or damaged."""
    directory = read_directory(exif)
    value = directory.value(ORIENTATION) if directory else 0
    return value if 1 <= value <= 8 else 0


def keep_pixel_tags(data: bytes) -> bytes | None:
    """Return the first page of a TIFF with PIXEL_TAGS only; None if it cannot be read."""
    directory = read_directory(data)
    if directory is None:
        return None
    entries = sorted((tag, entry.raw) for tag, entry in directory.entries.items() if tag in PIXEL_TAGS)
    count, offset = (directory.order + code for code in (("Q", "Q") if directory.big else ("H", "I")))
    start = len(data) + len(data) % 2
    header = data[: 8 if directory.big else 4] + struct.pack(offset, start)
    return b"".join(
        [
            header,
            data[len(header) :].ljust(start - len(header), b"\0"),
            struct.pack(count, len(entries)),
            *(raw for _, raw in entries),
            bytes(struct.calcsize(offset)),
        ]
    )
