"""Remove the metadata of image files whose metadata is damaged, and keep their pixels.

Pillow reads text, colour profiles and EXIF together with the pixels, and rejects the whole file if one of
them is damaged or too large. The copies made here keep what determines the pixels; the orientation is
returned separately. Pixel data is copied unchanged: if it is damaged, decoding still fails.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lsncli.images import tiff
from lsncli.images.file_types import container_format
from lsncli.images.read import Undecodable

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
PNG_XMP = b"XML:com.adobe.xmp\0\0"
MAX_CHUNKS = 1 << 18
"""Chunks of a PNG. 89 million pixels of 8 bytes, uncompressed, are 87,000 of the 8 KiB that libpng writes."""
MAX_SEGMENTS = 1 << 16
"""Segments of a JPEG before its pixels, each at most 64 KiB."""
MAX_JUNK = 1 << 16
"""Bytes between two segments of a JPEG, which decoders skip one by one."""
MAX_BLOCKS = 1 << 21
"""Blocks of a GIF of at most 255 bytes, in all 512 MiB."""
WEBP_PIXELS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
WEBP_METADATA = 0x20 | 0x08 | 0x04
"""The flags of VP8X that announce a colour profile, EXIF and XMP."""
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
APP0, APP1, ADOBE, COMMENT, START_OF_SCAN = 0xE0, 0xE1, 0xEE, 0xFE, 0xDA
FRAMES = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2), ""),
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic"),
}
"""The markers of frames, and which coding of them is uncommon."""
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
"""The marker of a segment with a length; decoders skip all other bytes between segments."""
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
ITEM = re.compile(rb"(infe[\2\3]...(?:....|......))(Exif|mime)", re.DOTALL)
"""The entry of EXIF or XMP in the list of items of an AVIF or HEIC."""


class BrokenMetadata(ValueError):
    """Damaged metadata, which must be removed before decoding."""


@dataclass(frozen=True)
class Stripped:
    """A file without metadata, and its EXIF orientation; 0 if it had none, or if it is still in the file."""

    data: bytes
    orientation: int = 0


def strip_metadata(data: bytes) -> Stripped | None:
    """Return the image without metadata; None for formats without metadata."""
    if container_format(data):
        return _strip_items(data)
    strip = next((strip for start, strip in STRIPS.items() if data.startswith(start)), None)
    return strip(data) if strip else None


@dataclass(frozen=True)
class PngChunk:
    """A chunk of a PNG: its type and its bytes in the file, including length and checksum."""

    kind: bytes
    start: int
    end: int
    sound: bool
    """Whether it is complete and its checksum is right."""


def read_png_chunks(data: bytes) -> Iterator[PngChunk]:
    """Yield the chunks of a PNG up to its end, at most MAX_CHUNKS."""
    at, view = len(PNG_START), memoryview(data)
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        checksum = int.from_bytes(view[end - 4 : end], "big")
        sound = end <= len(data) and zlib.crc32(view[at + 4 : end - 4]) == checksum
        yield PngChunk(data[at + 4 : at + 8], at, end, sound)
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end


def check_png(data: bytes) -> None:
    """Check the checksums of a PNG: raise Undecodable for damaged pixels, BrokenMetadata for other damage.

    Pillow ignores the checksums of pixels. A chunk that is cut off by the end of the file is left to Pillow.
    """
    if not data.startswith(PNG_START):
        return
    count, broken = 0, b""
    for chunk in read_png_chunks(data):
        count += 1
        if chunk.end <= len(data) and not chunk.sound:
            if chunk.kind in PNG_PIXELS:
                raise Undecodable(f"damaged: the checksum of {chunk.kind.decode()} is wrong")
            broken = chunk.kind
    if count == MAX_CHUNKS:
        raise Undecodable("damaged: more chunks than any PNG needs")
    if broken:
        raise BrokenMetadata(broken)


def _strip_png(data: bytes) -> Stripped:
    parts, exif, xmp, pixels = [PNG_START], b"", b"", "before"
    for chunk in read_png_chunks(data):
        if chunk.kind == b"IDAT":
            if pixels == "after":  # after a gap the data would continue at the wrong place
                break
            pixels = "inside"
        elif pixels == "inside":
            pixels = "after"
        content = data[chunk.start + 8 : chunk.end - 4] if chunk.sound else b""
        if chunk.kind in PNG_PIXELS:
            parts.append(data[chunk.start : chunk.end])
        elif chunk.kind == b"eXIf":
            exif = content
        elif chunk.kind == b"iTXt" and content.startswith(PNG_XMP):
            xmp = content
    return Stripped(b"".join(parts), _orientation(exif, xmp))


def read_jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the segments of a JPEG, at most MAX_SEGMENTS + 1.

    The first scan extends to the end of the file.
    """
    at = 2
    for _ in range(MAX_SEGMENTS + 1):
        match = MARKER.search(data, at, at + MAX_JUNK)
        if match is None or match.start() + 4 > len(data):
            return
        at, marker = match.start(), match[1][0]
        end = len(data) if marker == START_OF_SCAN else at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at, end
        at = end


def unsupported_jpeg(data: bytes) -> str:
    """Describe a JPEG of a kind that common decoders do not support; empty for others."""
    if not data.startswith(JPEG_START):
        return ""
    for marker, start, _ in read_jpeg_segments(data):
        if marker in FRAMES:
            bits, kind = data[start + 4 : start + 5], FRAMES[marker]
            if bits and bits != b"\x08":
                return f"a JPEG of {bits[0]} bits a channel"
            return f"a JPEG with {kind} coding" if kind else ""
    return ""


def _strip_jpeg(data: bytes) -> Stripped:
    parts, exif, xmp = [data[:2]], b"", b""
    for marker, start, end in read_jpeg_segments(data):
        content = data[start + 4 : end]
        if marker == APP1 and content.startswith(EXIF):
            exif = exif or content[len(EXIF) :]
        elif marker == APP1 and content.startswith(XMP):
            xmp = content
        elif not (APP0 <= marker <= 0xEF or marker == COMMENT) or (
            # These two define the colour space of the pixels.
            (marker == APP0 and content.startswith(b"JFIF\0") and len(content) >= 14)
            or (marker == ADOBE and content.startswith(b"Adobe") and len(content) >= 12)
        ):
            parts.append(data[start:end])
    return Stripped(b"".join(parts), _orientation(exif, xmp))


def _strip_webp(data: bytes) -> Stripped | None:
    if data[8:12] != b"WEBP":
        return None
    parts, exif, xmp, at = [], b"", b"", 12
    for _ in range(MAX_CHUNKS):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if len(kind) < 4:
            break
        end = at + 8 + size + size % 2
        if kind in WEBP_PIXELS:
            chunk = data[at:end]
            if kind == b"VP8X" and len(chunk) > 8:
                chunk = chunk[:8] + bytes([chunk[8] & ~WEBP_METADATA]) + chunk[9:]
            parts.append(chunk)
        elif kind == b"EXIF" and end <= len(data):
            exif = data[at + 8 : at + 8 + size].removeprefix(EXIF)
        elif kind == b"XMP ":
            xmp = data[at + 8 : at + 8 + size]
        at = end
    body = b"WEBP" + b"".join(parts)
    return Stripped(b"RIFF" + len(body).to_bytes(4, "little") + body, _orientation(exif, xmp))


def _strip_gif(data: bytes) -> Stripped:
    """Keep the first frame with its palette and transparency."""
    at = 13 + palette_size(data[10:11])
    parts, control = [data[:at]], b""
    while data[at : at + 1] == b"!":
        end = _end_of_blocks(data, at + 2)
        if data[at + 1 : at + 3] == b"\xf9\x04":
            control = data[at:end]
        at = end
    # The decoder finds the end of the frame, and does not read the bytes after it.
    return Stripped(b"".join([*parts, control, data[at:]]))


def palette_size(flags: bytes) -> int:
    """Return the bytes of a GIF's palette, from the byte of flags before it."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    for _ in range(MAX_BLOCKS):
        size = data[at : at + 1]
        at += 1 + (size[0] if size else 0)
        if not size or not size[0]:
            break
    return at


def _strip_tiff(data: bytes) -> Stripped | None:
    pixels = tiff.keep_pixel_tags(data)
    return None if pixels is None else Stripped(pixels)


def _strip_items(data: bytes) -> Stripped | None:
    """Rename EXIF and XMP in the list of items of an AVIF or HEIC, so that no decoder reads them."""
    end = data.find(b"mdat")
    head = data if end < 0 else data[:end]
    return Stripped(ITEM.sub(rb"\1free", head) + data[len(head) :])


def _orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation in EXIF, else in XMP; 0 without either."""
    match = XMP_ORIENTATION.search(xmp)
    return tiff.read_orientation(exif) or (int(match[1]) if match else 0)


STRIPS: dict[bytes, Callable[[bytes], Stripped | None]] = {
    PNG_START: _strip_png,
    JPEG_START: _strip_jpeg,
    b"RIFF": _strip_webp,
    b"GIF8": _strip_gif,
    **dict.fromkeys(tiff.HEADERS, _strip_tiff),
}
"""The functions that remove metadata, by the first bytes of a file."""
