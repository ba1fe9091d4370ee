"""Inspect the structure of an image file before it is decoded: count its parts, and predict if it is quick.

A file can take minutes by the number of its parts alone: decoders copy metadata again for each segment, read
a header byte by byte, or start anew for each strip. Counting takes at most linear time, and a few
microseconds for a photo.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from lsncli.images import tiff
from lsncli.images.file_types import container_format
from lsncli.images.metadata import (
    APP1,
    EXIF,
    FRAMES,
    JPEG_START,
    MAX_CHUNKS,
    MAX_JUNK,
    MAX_SEGMENTS,
    PNG_PIXELS,
    PNG_START,
    START_OF_SCAN,
    palette_size,
    read_jpeg_segments,
)
from lsncli.images.read import Undecodable
from lsncli.images.tiff_pixels import MAX_STRIPS, read_layout

MAX_HEADER = 1 << 16
"""Bytes of a header of numbers (PPM), which Pillow reads one by one."""
MAX_WEBP = 44_739_242
"""Pixels of a WebP: its decoder keeps up to seven copies of them, the first before Pillow knows the size."""
QUICK_BYTES, QUICK_PIXELS, QUICK_PARTS = 1 << 26, 1 << 26, 1 << 12
"""A file within these limits is decoded in one or two seconds, unless its format has other slow parts."""
QUICK_WORK = 1 << 28
"""The limit for pixels times passes, or bytes of pixels."""
MANY_METADATA, MANY_EXIF = 1 << 10, 16
"""Parts with metadata, and with EXIF, above which metadata is removed: the time of Pillow grows with the
square of their number."""
QUICK_EXIF = 1 << 16
"""Bytes of EXIF: old versions of Pillow keep as much for each of its tags."""
QUICK_SLOWLY = 1 << 20
"""Pixels or bytes of formats that Pillow decodes in Python: RLE of a BMP, a PPM of other depths."""
QUICK_PLAIN = 1 << 18
"""Bytes of a plain PPM: each comment costs a copy of the bytes after it."""
QUICK_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""Compressions of a TIFF whose decoders need no memory of their own, unlike LZMA and Zstandard."""
STRIPS = (tiff.STRIP_OFFSETS, tiff.STRIP_SIZES, tiff.TILE_OFFSETS, tiff.TILE_SIZES)
TABLES = frozenset({320, 347, *range(512, 522)})
"""The tags of palettes and JPEG tables, which may have many values."""
COMMENTS = re.compile(rb"#[^\r\n]*")


@dataclass(frozen=True)
class FileStructure:
    """The expected cost of decoding a file."""

    quick: bool
    """Whether decoding takes at most a second or two, and memory for the pixels only."""
    heavy: bool = False
    """Whether the metadata may take long, and must be removed."""


QUICK, WATCHED, HEAVY = FileStructure(True), FileStructure(False), FileStructure(False, heavy=True)


def read_structure(data: bytes) -> FileStructure:
    """Return the structure of a file. Raises Undecodable for more parts than a valid image has."""
    if container_format(data):
        return WATCHED  # AVIF and HEIC may nest images in images, so their parts say nothing
    inspect = next((inspect for start, inspect in INSPECTORS if data.startswith(start)), None)
    return inspect(data) if inspect else QUICK  # no decoder accepts it


def _quick_if(condition: bool) -> FileStructure:
    return QUICK if condition else WATCHED


def _jpeg(data: bytes) -> FileStructure:
    count = exifs = length = pixels = channels = 0
    progressive, passes, at = False, 0, len(data)
    for marker, start, end in read_jpeg_segments(data):
        count += 1
        if marker == START_OF_SCAN:
            at = start
            passes = 1 if not progressive and data[start + 4 : start + 5] == bytes([channels]) else 0
            break
        length += end - start
        if marker == APP1 and data.startswith(EXIF, start + 4):
            exifs += 1
        elif marker in FRAMES:
            height, width = data[start + 5 : start + 7], data[start + 7 : start + 9]
            pixels = max(pixels, int.from_bytes(height, "big") * int.from_bytes(width, "big"))
            channels, progressive = (data[start + 9 : start + 10] or b"\0")[0], marker not in (0xC0, 0xC1)
    if count > MAX_SEGMENTS:
        raise Undecodable(f"too many parts: more than {MAX_SEGMENTS:,} segments before its pixels")
    if count > MANY_METADATA or exifs > MANY_EXIF:
        return HEAVY
    if at - length > MAX_JUNK:
        raise Undecodable(f"damaged: more than {MAX_JUNK >> 10} KiB of junk before its pixels")
    if exifs > 1 or len(data) > QUICK_BYTES or pixels > QUICK_PIXELS:
        return WATCHED
    # A frame whose first pass has all channels has no other pass; else each pass counts.
    return _quick_if(pixels * (passes or data.count(b"\xff\xda", at)) <= QUICK_WORK)


def _png(data: bytes) -> FileStructure:
    at, count, metadata, odd = len(PNG_START), 0, 0, False
    while at + 8 <= len(data):
        kind, size = data[at + 4 : at + 8], int.from_bytes(data[at : at + 4], "big")
        count += 1
        if count >= MAX_CHUNKS:
            raise Undecodable(f"too many parts: a PNG of {MAX_CHUNKS:,} chunks or more")
        if kind not in PNG_PIXELS:
            metadata += 1
            # ImageMagick writes EXIF as compressed text.
            odd |= (kind == b"eXIf" and size > QUICK_EXIF) or data.startswith(b"Raw profile", at + 8)
        elif kind == b"IEND":
            break
        at += 12 + size
    if metadata > MANY_METADATA:
        return HEAVY
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    depth, channels = data[24:26].ljust(2, b"\x08")
    work = width * height * max(1, depth // 8) * {0: 1, 3: 1, 4: 2, 2: 3}.get(channels, 4)
    quick = count <= QUICK_PARTS and width * height <= QUICK_PIXELS and work <= QUICK_WORK
    return _quick_if(quick and not odd and len(data) <= QUICK_BYTES)


def _gif(data: bytes) -> FileStructure:
    at, count = 13 + palette_size(data[10:11]), 0
    while data[at : at + 1] == b"!":
        at += 2
        while True:
            count += 1
            size = data[at] if at < len(data) else 0
            at += 1 + size
            if count > MAX_CHUNKS:
                raise Undecodable(f"too many parts: more than {MAX_CHUNKS:,} blocks before its first frame")
            if not size:
                break
    if count > QUICK_PARTS:
        return HEAVY
    sizes = [int.from_bytes(data[start : start + 2], "little") for start in (6, 8, at + 5, at + 7)]
    pixels = max(sizes[0], sizes[2]) * max(sizes[1], sizes[3])
    # Decoders skip anything but a frame byte by byte.
    return _quick_if(data[at : at + 1] == b"," and pixels <= QUICK_PIXELS and len(data) <= QUICK_BYTES)


def _webp(data: bytes) -> FileStructure:
    if data[8:12] != b"WEBP":
        return QUICK  # RIFF of another kind
    width, height = _webp_size(data)
    if width * height > MAX_WEBP:
        raise Undecodable(f"too large: a WebP of {width} x {height} pixels; at most {MAX_WEBP:,} are decoded")
    at, count, exif = 12, 0, 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        exif = max(exif, size if data[at : at + 4] == b"EXIF" else 0)
        count += 1
        if count >= MAX_CHUNKS:
            raise Undecodable(f"too many parts: a WebP of {MAX_CHUNKS:,} chunks or more")
        at += 8 + size + size % 2
    small = 0 < width * height <= QUICK_PIXELS // 2 and len(data) <= QUICK_BYTES
    return _quick_if(small and count <= QUICK_PARTS and exif <= QUICK_EXIF)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height from the first chunk; zeros if it has none."""
    kind, content = data[12:16], data[20:30]
    if len(content) < 10:
        return 0, 0
    if kind == b"VP8X":
        return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return tuple(int.from_bytes(content[at : at + 2], "little") & 0x3FFF for at in (6, 8))  # type: ignore[return-value]
    return 0, 0


def _bmp(data: bytes) -> FileStructure:
    old = int.from_bytes(data[14:18], "little") == 12
    fields = ((18, 20), (20, 22)) if old else ((18, 22), (22, 26))
    width, height = (abs(int.from_bytes(data[a:b], "little", signed=not old)) for a, b in fields)
    run_lengths = not old and int.from_bytes(data[30:34], "little") in (1, 2)
    most = QUICK_SLOWLY if run_lengths else QUICK_PIXELS
    return _quick_if(width * height <= most and (not run_lengths or len(data) <= QUICK_SLOWLY))


def _pnm(data: bytes) -> FileStructure:
    needed = 3 if data[1:2] in b"14" else 4
    for size in (512, MAX_HEADER):
        numbers = COMMENTS.sub(b" ", data[:size]).split(None, needed)
        # The last number may continue beyond the bytes that were split.
        if len(numbers) > needed or len(data) <= size:
            break
    else:
        raise Undecodable(f"too many parts: a header of more than {MAX_HEADER >> 10} KiB")
    try:
        width, height, white = (int(number) for number in [*numbers[1:needed], b"255"][:3])
    except ValueError:  # no number, or a float of PFM
        return _quick_if(len(data) <= QUICK_SLOWLY)
    if data[1:2] in b"123":
        return _quick_if(len(data) <= QUICK_PLAIN)
    plain = white == 255 or data[1:2] == b"4" or (white == 65535 and data[1:2] == b"5")
    return _quick_if(width * height <= (QUICK_PIXELS if plain else QUICK_SLOWLY))


def _tiff(data: bytes) -> FileStructure:
    if tiff.count_tags(data) > tiff.MAX_ENTRIES:
        raise Undecodable(f"too many parts: more than {tiff.MAX_ENTRIES:,} tags")
    page = tiff.read_directory(data)
    if page is None:
        return WATCHED
    if max(page.count(tag) for tag in STRIPS) > MAX_STRIPS:
        raise Undecodable(f"too many parts: more than {MAX_STRIPS:,} strips or tiles")
    layout = read_layout(data)
    if layout is None or page.value(tiff.COMPRESSION, 1) not in QUICK_COMPRESSIONS:
        return WATCHED
    area = max(layout.width * layout.height, layout.tile[0] * layout.tile[1])
    work = area * layout.channels * layout.bits // 8
    few = max(page.count(tag) for tag in tiff.PIXEL_TAGS - TABLES) <= QUICK_PARTS
    few = few and page.bytes_of_values <= len(data)
    return _quick_if(few and area <= QUICK_PIXELS and work <= QUICK_WORK)


INSPECTORS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], FileStructure]], ...] = (
    (JPEG_START, _jpeg),
    (PNG_START, _png),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (tuple(b"P" + kind for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"f", b"0", b"y")), _pnm),
    ((*tiff.HEADERS, b"MM\x2a\x00", b"II\x00\x2a", b"MM\x2b\x00", b"II\x00\x2b"), _tiff),
)
"""The functions that inspect files, by their first bytes: all that Pillow may accept."""
