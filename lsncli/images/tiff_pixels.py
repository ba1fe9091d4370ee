"""Decode TIFF pixels that Pillow cannot read or reads wrongly: signed integers, floats, 12 to 64 bits.

Pillow supports some of these layouts, in one byte order or uncompressed, and reads others as unsigned, as
inverted, or in the wrong byte order. Here libtiff (through Pillow) only decompresses each strip or tile as
rows of bytes; the tags determine their meaning.
"""

import io
import struct
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lsncli.images import tiff
from lsncli.images.item import MAX_BYTES
from lsncli.images.pixel_modes import to_eight_bits
from lsncli.images.read import Undecodable

MIXED, UNSIGNED, SIGNED, FLOAT = 0, 1, 2, 3
PACKED = (1, 2, 4, 12)
"""Bit depths of values that share bytes."""
FORMATS = {
    UNSIGNED: ("u", (*PACKED, 8, 16, 32, 64)),
    SIGNED: ("i", (8, 16, 32, 64)),
    FLOAT: ("f", (16, 32, 64)),
}
NAMES = {MIXED: "of several kinds", UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "float"}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
PHOTOMETRICS = {
    0: "white is zero",
    1: "black is zero",
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
}
SEPARATE = 2
BYTEWISE = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions of any bytes: none, LZW, deflate, PackBits, LZMA, Zstandard."""
KNOWN_COMPRESSIONS = BYTEWISE | {2, 3, 4, 6, 7, 32771, 32809, 34676, 34677, 50001}
"""The compressions that libtiff may support."""
DIFFERENCES, FLOAT_DIFFERENCES = 2, 3
ASSOCIATED, UNASSOCIATED = 1, 2
PREDICTED = BYTEWISE - {1, 32773}
"""The compressions that support a predictor; for others its tag is ignored."""
MAX_STRIPS = 1 << 19
"""Strips or tiles: 89 million pixels in the smallest tiles are 350,000."""
BAND, STRIPS_AT_ONCE = 1 << 26, 1 << 12
"""Bytes and strips that are decompressed at a time, at least one strip: up to twice 89 million bytes."""


@dataclass(frozen=True)
class SampleLayout:
    """How the first page of a TIFF stores its pixels."""

    page: tiff.Directory
    width: int
    height: int
    channels: int
    bits: int
    kind: int
    photometric: int
    planar: int
    tiled: bool
    tile: tuple[int, int]
    """Height and width of a strip or tile."""

    def __str__(self) -> str:
        colours = PHOTOMETRICS.get(self.photometric, f"photometric {self.photometric}")
        compression = self.page.value(tiff.COMPRESSION, 1)
        return (
            f"a TIFF of {self.channels} x {self.bits} bits, {NAMES.get(self.kind, 'of another kind')} "
            f"({colours}, compression {compression})"
        )

    @property
    def wide(self) -> bool:
        """Whether Pillow cannot read it. It reads up to 8 bits, and 16 bits of plain grey and RGB."""
        if self.kind == UNSIGNED and self.bits <= 8:
            return False
        unsigned = self.kind == UNSIGNED and self.bits == 16
        grey = self.photometric == BLACK_IS_ZERO and self.channels == 1
        return not (unsigned and (grey or (self.photometric == RGB and self.planar != SEPARATE)))

    @property
    def predictor(self) -> int:
        """The predictor: 1 (none), or one of the two kinds of differences."""
        compression = self.page.value(tiff.COMPRESSION, 1)
        return self.page.value(tiff.PREDICTOR, 1) if compression in PREDICTED else 1

    @property
    def mode(self) -> str:
        """The Pillow mode of 8 bits for it; empty for an unsupported layout."""
        extra, compression = self.page.value(tiff.EXTRA_SAMPLES), self.page.value(tiff.COMPRESSION, 1)
        mode = {WHITE_IS_ZERO: "L", BLACK_IS_ZERO: "L", RGB: "RGB", CMYK: "CMYK"}.get(self.photometric, "")
        known = mode and compression in BYTEWISE and self.bits in FORMATS.get(self.kind, ("", ()))[1]
        predictable = self.predictor in (
            (1,) if self.bits in PACKED else (1, DIFFERENCES, *[FLOAT_DIFFERENCES] * (self.kind == FLOAT))
        )
        spare = self.channels - len(mode)
        if not known or not predictable or not 0 <= spare <= len(self.page.values(tiff.EXTRA_SAMPLES)):
            return ""
        # Alpha has a defined scale only for unsigned integers.
        scaled = self.kind == UNSIGNED and self.bits <= 16 and mode != "CMYK"
        return mode + "A" if scaled and spare and extra in (ASSOCIATED, UNASSOCIATED) else mode


def read_layout(data: bytes) -> SampleLayout | None:
    """Read the layout of the first page of a TIFF; None if it is no TIFF, or its tags are inconsistent."""
    page = tiff.read_directory(data)
    if page is None:
        return None
    width, height, channels = page.value(tiff.WIDTH), page.value(tiff.HEIGHT), page.value(tiff.CHANNELS, 1)
    bits, kinds = set(page.values(tiff.BITS, (1,))), set(page.values(tiff.SAMPLE_FORMAT, (UNSIGNED,)))
    tiled = tiff.TILE_OFFSETS in page.entries
    if not tiled and tiff.STRIP_OFFSETS not in page.entries:
        return None
    if tiled:
        tile = page.value(tiff.TILE_HEIGHT), page.value(tiff.TILE_WIDTH)
    else:
        tile = min(page.value(tiff.ROWS_PER_STRIP, height) or height, height), width
    if min(width, height, channels, *tile) < 1:
        return None
    photometric, planar = page.value(tiff.PHOTOMETRIC), page.value(tiff.PLANAR, 1)
    kind = max(kinds) if len(kinds) == len(bits) == 1 else MIXED
    return SampleLayout(page, width, height, channels, max(bits), kind, photometric, planar, tiled, tile)


def unsupported_tiff(data: bytes, unknown: bool) -> str:
    """Describe the layout of a TIFF that is not supported, ``unknown`` to Pillow or its codec; else empty."""
    layout = read_layout(data)
    compression = layout.page.value(tiff.COMPRESSION, 1) if layout else 1
    return str(layout) if layout and (unknown or compression not in KNOWN_COMPRESSIONS) else ""


def decode_wide(layout: SampleLayout) -> Image.Image:
    """Decode the page as an 8-bit image by the rules of ``pixel_modes.to_eight_bits``, not turned upright.

    Raises Undecodable for a layout that is not supported, too large or cut short, and NotFinite.
    """
    mode = layout.mode
    if not mode:
        raise Undecodable(f"not supported: {layout}")
    colours = len(mode.removesuffix("A"))
    white = (1 << layout.bits) - 1 if layout.bits in PACKED else 0
    pixels = to_eight_bits(_samples(layout)[..., : len(mode)], white)
    if layout.photometric == WHITE_IS_ZERO:
        np.subtract(255, pixels[..., :colours], out=pixels[..., :colours])
    if mode.endswith("A") and layout.page.value(tiff.EXTRA_SAMPLES) == ASSOCIATED:
        return Image.frombytes(mode[:-1] + "a", (layout.width, layout.height), pixels.tobytes()).convert(mode)
    return Image.frombytes(mode, (layout.width, layout.height), pixels.tobytes())


def _samples(layout: SampleLayout) -> NDArray[np.generic]:
    """Return the values (H, W, C) of the page in native byte order."""
    page, (tall, across) = layout.page, layout.tile
    planes = layout.channels if layout.planar == SEPARATE else 1
    together = layout.channels // planes
    columns, rows = ceil(layout.width / across), ceil(layout.height / tall)
    row_bytes = (across * together * layout.bits + 7) // 8
    needed = planes * rows * columns
    dtype = np.dtype(f"{FORMATS[layout.kind][0]}{1 if layout.bits < 8 else (layout.bits + 4) // 8}")
    total = layout.width * layout.height * layout.channels * dtype.itemsize
    if max(needed * tall * row_bytes, total) > MAX_BYTES or needed > MAX_STRIPS:
        raise Undecodable(f"too large: {layout.width} x {layout.height} pixels in {needed} strips or tiles")
    offsets = page.values(tiff.TILE_OFFSETS if layout.tiled else tiff.STRIP_OFFSETS)
    sizes = page.values(tiff.TILE_SIZES if layout.tiled else tiff.STRIP_SIZES)
    plain = page.value(tiff.COMPRESSION, 1) == 1
    if not sizes and plain:
        sizes = (tall * row_bytes,) * needed
    if min(len(offsets), len(sizes)) < needed:
        raise Undecodable("damaged: its list of strips is too short")
    # Read one large strip in bands, so as not to copy it whole.
    if plain and rows == columns == 1 and tall * row_bytes > BAND:
        tall, whole = BAND // row_bytes or 1, tall
        rows = ceil(whole / tall)
        offsets = tuple(offset + n * tall * row_bytes for offset in offsets[:planes] for n in range(rows))
        sizes = (tall * row_bytes,) * len(offsets)
    # No compression doubles the size of its input; larger claims would only cost memory.
    most = tall * row_bytes if plain else 2 * tall * row_bytes + 1024
    values = np.empty((layout.height, layout.width, layout.channels), dtype)
    at_once = max(1, min(STRIPS_AT_ONCE, BAND // (tall * row_bytes)))
    for plane in range(planes):
        first = plane * rows * columns
        for start in range(0, rows * columns, at_once):
            numbers = range(start, min(start + at_once, rows * columns))
            # Tiles are whole, but the last strip ends with the image.
            last = tall if layout.tiled else layout.height - numbers[-1] * tall
            shape = ((len(numbers) - 1) * tall + min(tall, last), row_bytes)
            ranges = [(offsets[first + n], min(sizes[first + n], most)) for n in numbers]
            pieces = [page.data[offset : offset + size] for offset, size in ranges]
            if not all(pieces) or (plain and sum(map(len, pieces)) < shape[0] * row_bytes):
                raise Undecodable("truncated: the file ends inside its pixels")
            decoded = _to_values(_decompress(page, pieces, shape, tall), layout, dtype, together)
            for row, number in enumerate(numbers):
                y, x = number // columns * tall, number % columns * across
                part = decoded[row * tall : (row + 1) * tall]
                target = values[y : y + tall, x : x + across, plane * together : (plane + 1) * together]
                target[...] = part[: target.shape[0], : target.shape[1]]
    return values


def _decompress(
    page: tiff.Directory, pieces: list[bytes], shape: tuple[int, int], tall: int
) -> NDArray[np.uint8]:
    """Decompress strips of ``tall`` rows each by libtiff, and return bytes (rows, bytes of a row)."""
    compression, fill = page.value(tiff.COMPRESSION, 1), page.value(tiff.FILL_ORDER, 1)
    if (compression, fill) == (1, 1):
        return np.frombuffer(b"".join(pieces), np.uint8, shape[0] * shape[1]).reshape(shape)
    tags: list[tuple[int, list[int]]] = [
        (tiff.WIDTH, [shape[1]]),
        (tiff.HEIGHT, [shape[0]]),
        (tiff.BITS, [8]),
        (tiff.COMPRESSION, [compression]),
        (tiff.PHOTOMETRIC, [BLACK_IS_ZERO]),
        (tiff.FILL_ORDER, [fill]),
        (tiff.STRIP_OFFSETS, list(accumulate(map(len, pieces[:-1]), initial=8))),
        (tiff.CHANNELS, [1]),
        (tiff.ROWS_PER_STRIP, [tall]),
        (tiff.STRIP_SIZES, [len(piece) for piece in pieces]),
    ]
    with Image.open(io.BytesIO(_grey_tiff(pieces, tags)), formats=("TIFF",)) as image:
        return np.asarray(image)


def _grey_tiff(pieces: list[bytes], tags: list[tuple[int, list[int]]]) -> bytes:
    body = b"".join(pieces)
    start = 8 + len(body)
    lists = start + 2 + 12 * len(tags) + 4
    entries, behind = b"", b""
    for tag, numbers in tags:
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, behind = struct.pack("<I", lists + len(behind)), behind + packed
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    header, count = b"II*\0" + struct.pack("<I", start), struct.pack("<H", len(tags))
    return b"".join([header, body, count, entries, bytes(4), behind])


def _to_values(
    rows: NDArray[np.uint8], layout: SampleLayout, dtype: np.dtype[np.generic], together: int
) -> NDArray[np.generic]:
    """Convert rows of bytes to values (rows, W, C) in native byte order, and undo the predictor."""
    order, predictor = layout.page.order, layout.predictor
    across, size = layout.tile[1], dtype.itemsize
    if layout.bits in PACKED:
        values = _unpack(rows, layout.bits)[:, : across * together]
        return values.reshape(len(rows), across, together)
    if predictor == FLOAT_DIFFERENCES:
        # A row has its most significant bytes first, plane by plane, each as the difference to the last.
        summed = rows.reshape(len(rows), -1, together).cumsum(axis=1, dtype=np.uint8)
        planes = summed.reshape(len(rows), size, across * together)
        rows, order = np.ascontiguousarray(planes.transpose(0, 2, 1)), ">"
    values = rows.reshape(len(rows), -1).view(np.dtype(order + dtype.str[1:])).astype(dtype)
    values = values.reshape(len(rows), across, together)
    if predictor == DIFFERENCES:
        unsigned = values.view(f"u{size}")
        np.cumsum(unsigned, axis=1, dtype=unsigned.dtype, out=unsigned)
    return values


def _unpack(rows: NDArray[np.uint8], bits: int) -> NDArray[Any]:
    """Unpack values of ``bits`` bits, the first in the highest bits; each row starts at a new byte."""
    if bits == 12:
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 3))).astype(np.uint16)
        first, middle, last = (padded[:, n::3] for n in range(3))
        both = np.stack([first << 4 | middle >> 4, (middle & 15) << 8 | last], axis=2)
        return both.reshape(len(rows), -1)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return (rows[..., None] >> shifts & ((1 << bits) - 1)).reshape(len(rows), -1)
