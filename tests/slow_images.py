"""Files of sound parts, so many that decoding them would take minutes, and of little else."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

DECODER = (
    "import os, signal, sys, time; sys.path[:] = sys.argv[2:]; "
    "from lsncli.images import decode_worker as worker; "
)
SLEEPS = "worker.decode_here = lambda data: time.sleep(3600); worker.serve()"
"""What a process does that decodes: such as nothing, for an hour."""
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
UPSIDE_DOWN = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"
"""EXIF that turns an image by half."""


def encoded(kind: str, image: Image.Image = PICTURE, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def segments(count: int, marker: int = 0xE1, body: bytes = UPSIDE_DOWN) -> bytes:
    """A JPEG with more segments."""
    whole = encoded("JPEG")
    return whole[:2] + (struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body) * count + whole[2:]


def chunks(count: int, one: bytes) -> bytes:
    """A PNG with more chunks."""
    whole = encoded("PNG")
    return whole[:33] + one * count + whole[33:]


def blocks(count: int, comments: int = 1) -> bytes:
    """A GIF with comments of so many blocks."""
    whole = encoded("GIF")
    at = 13 + (3 << ((whole[10] & 7) + 1))
    comment = b"!\xfe" + b"\1c" * (count // comments) + b"\0"
    return whole[:at] + comment * comments + whole[at:]


def riff(count: int) -> bytes:
    """A WebP with more chunks."""
    whole = encoded("WEBP", exif=Image.Exif())[12:] + b"teSt\0\0\0\0" * count
    return b"RIFF" + struct.pack("<I", len(whole) + 4) + b"WEBP" + whole


def strips(count: int, tags: int = 0) -> bytes:
    """A grey TIFF of one column, with a strip for each of its rows."""
    places = struct.pack(f"<{count}I", *range(8, 8 + count))
    sizes = struct.pack("<I", 1) * count
    start = 8 + count
    entries = [(256, 1, 1), (257, 1, count), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, count, start)]
    entries += [(277, 1, 1), (278, 1, 1), (279, count, start + len(places))]
    entries += [(1000 + number, 1, 0) for number in range(tags)]
    directory = b"".join(struct.pack("<HHII", tag, 4, *rest) for tag, *rest in entries)
    header = b"II*\0" + struct.pack("<I", start + 2 * len(places))
    return header + bytes(count) + places + sizes + struct.pack("<H", len(entries)) + directory + bytes(4)


def big_tiff(tags: int) -> bytes:
    """A BigTIFF with so many tags, each the same."""
    entry = struct.pack("<HHQQ", 1000, 4, 1, 0)
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, tags) + entry * tags + bytes(8)


def plain_webp(width: int, height: int) -> bytes:
    """A lossless WebP of one transparent colour in a few bytes: its codes have one symbol, of no bits."""
    bits, at = 0, 0
    symbols = [(8, 1)] * 4 + [(1, 0)]  # green, red, blue, alpha; distances
    parts = [(14, width - 1), (14, height - 1), (1, 1), (3, 0), (1, 0), (1, 0), (1, 0)]
    for size, is_wide in symbols:
        parts += [(1, 1), (1, 0), (1, is_wide), (size, 99 if is_wide else 0)]
    for size, value in parts:
        bits |= value << at
        at += size
    body = b"\x2f" + bits.to_bytes(24, "little")
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "segments of a JPEG": (lambda: segments((1 << 16) + 1, 0xEF, b""), "more than 65,536 segments"),
    "junk before a JPEG's pixels": (
        lambda: encoded("JPEG")[:2] + b"\xff" * 70_000 + encoded("JPEG")[2:],
        "more than 64 KiB of junk",
    ),
    "chunks of a PNG": (lambda: chunks(1 << 18, chunk(b"teSt")), "a PNG of 262,144 chunks"),
    "blocks of a GIF": (lambda: blocks(1 << 18), "more than 262,144 blocks"),
    "comments of a GIF": (lambda: blocks(1 << 18, 1 << 17), "more than 262,144 blocks"),
    "chunks of a WebP": (lambda: riff(1 << 18), "a WebP of 262,144 chunks"),
    "pixels of a WebP": (lambda: plain_webp(16383, 5461), "a WebP of 16383 x 5461 pixels"),
    "strips of a TIFF": (lambda: strips((1 << 19) + 1), "more than 524,288 strips or tiles"),
    "tags of a TIFF": (lambda: strips(1, tags=5000), "more than 4,096 tags"),
    "tags of a BigTIFF": (lambda: big_tiff(5000), "more than 4,096 tags"),
    "spaces of a PPM": (lambda: b"P6" + b" " * 70_000 + b"1 1 255\nabc", "a header of more than 64 KiB"),
    "comments of a PPM": (lambda: b"P6 #" + b"c\n#" * 40_000 + b"\n1 1 255\nabc", "a header of more than 64"),
}
"""What makes a file that is refused, and what the reason says."""

STRIPPED: dict[str, tuple[Callable[[], bytes], bool]] = {
    "EXIF of a JPEG": (lambda: segments(17), True),
    "segments with metadata of a JPEG": (lambda: segments(1100, 0xEF, b"metadata"), False),
    "metadata of a PNG": (lambda: chunks(1100, chunk(b"teSt")), False),
    "EXIF of a PNG among other metadata": (
        lambda: chunks(1, chunk(b"teSt") * 1100 + chunk(b"eXIf", UPSIDE_DOWN[6:])),
        True,
    ),
    "comments of a GIF": (lambda: blocks(5000), False),
}
"""What makes a file whose metadata is left out, and whether it turns the image by half."""


def run_lengths(side: int, body: bytes = b"") -> bytes:
    """A BMP of 8-bit RLE whose lines all end at once."""
    body += b"\0\0" * side + b"\0\1"
    start = 54 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + bytes(1024) + body


WATCHED: dict[str, Callable[[], bytes]] = {
    "two EXIF segments": lambda: segments(2),
    "a JPEG of many passes": lambda: encoded("JPEG", progressive=True) + b"\xff\xda" * 100_000,
    "PNG with EXIF as text": lambda: chunks(1, chunk(b"tEXt", b"Raw profile type exif\0\nexif\n2\nab")),
    "PNG with large EXIF": lambda: chunks(1, chunk(b"eXIf", UPSIDE_DOWN[6:].ljust(70_000, b"\0"))),
    "WebP with large EXIF": lambda: encoded("WEBP", exif=UPSIDE_DOWN.ljust(70_000, b"\0")),
    "a GIF with junk": lambda: (lambda whole, at: whole[:at] + b"\0\0" + whole[at:])(
        encoded("GIF"), 13 + 768
    ),
    "five thousand strips": lambda: strips(5000),
    "strips of LZMA": lambda: encoded("TIFF", compression="lzma"),
    "RLE of a BMP": lambda: run_lengths(1100),
    "a PPM of ten bits": lambda: b"P5 1100 1000 1023\n" + bytes(2 * 1100 * 1000),
    "plain PPM": lambda: b"P3 300 300 255\n" + b"7 " * 270_000,
    "AVIF": lambda: encoded("AVIF"),
}
"""What makes a file that another process decodes."""
