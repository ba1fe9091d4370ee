"""``--decode fast``: simplejpeg decodes plain JPEGs in about two thirds of Pillow's time, to the same pixels.

Both use libjpeg-turbo with the same transform and upsampling. All other images are decoded by
``images.decode``: other formats, progressive, grey and CMYK JPEGs, images that must be turned, damaged ones
(so that the reason is the same), those above the limits there, and slow ones (``images.structure``).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lsncli.errors import Unavailable
from lsncli.images.decode import MAX_PIXELS, MAX_SCANNED, decode
from lsncli.images.structure import read_structure

START_OF_IMAGE = b"\xff\xd8\xff"
START_OF_SCAN = 0xDA
EXIF = 0xE1  # and XMP
BASELINE = (0xC0, 0xC1)  # sequential, Huffman
OTHER_FRAMES = frozenset(range(0xC2, 0xD0)) - {0xC4, 0xC8, 0xCC}  # all but tables
NO_LENGTH = frozenset({0x00, 0x01, 0xFF, *range(0xD0, 0xDA)})
"""Markers without a length, and bytes that are no marker: a plain JPEG has none of them before its scan."""
ORIENTATION = 0x0112


def fast_decoder() -> Callable[[bytes], Image.Image | NDArray[np.uint8]]:
    """Return a function from bytes to upright RGB: an array (H, W, 3) of a plain JPEG, else as ``decode``.

    It is thread-safe and raises Undecodable as ``decode`` does. Raises Unavailable without simplejpeg.
    """
    try:
        from simplejpeg import decode_jpeg
    except ImportError as error:
        raise Unavailable(
            "Fast decoding needs simplejpeg, which is not installed.",
            "pip install 'lsncli[fast]', or extract into a store of its own with --decode exact.",
        ) from error

    def fast(data: bytes) -> Image.Image | NDArray[np.uint8]:
        if read_structure(data).quick and is_plain(data):
            try:
                pixels: NDArray[np.uint8] = decode_jpeg(data, colorspace="RGB")
            except Exception:  # damaged, or an unsupported sampling: Pillow decides
                return decode(data)
            return pixels
        return decode(data)

    return fast


def is_plain(data: bytes) -> bool:
    """Return whether this is an upright, sequential JPEG of three 8-bit channels within our limits.

    Reads the markers up to the scan, no pixels; with any unusual marker the JPEG is not plain.
    """
    if not data.startswith(START_OF_IMAGE):
        return False
    at, pixels, seen_exif = 2, 0, False
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in NO_LENGTH:
        kind, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == START_OF_SCAN:
            return 0 < pixels <= MAX_PIXELS and _scanned(data, pixels) <= MAX_SCANNED
        if kind in OTHER_FRAMES or end > len(data):
            return False
        segment = data[at + 4 : end]
        if kind in BASELINE:
            if pixels or len(segment) < 6 or segment[0] != 8 or segment[5] != 3:
                return False
            pixels = int.from_bytes(segment[1:3], "big") * int.from_bytes(segment[3:5], "big")
        if kind == EXIF:
            if seen_exif and segment.startswith(b"Exif\0\0"):  # EXIF that is split into several segments
                return False
            seen_exif = seen_exif or segment.startswith(b"Exif\0\0")
            if not _is_upright(segment):
                return False
        at = end
    return False


def _scanned(data: bytes, pixels: int) -> int:
    """Return at most pixels times passes; they are counted only if too many passes of 8 bytes would fit."""
    most = len(data) // 8 * pixels
    return most if most <= MAX_SCANNED else data.count(b"\xff\xda") * pixels


def _is_upright(segment: bytes) -> bool:
    """Return whether the content of an APP1 segment certainly requires no turn."""
    if not segment.startswith(b"Exif\0\0"):
        return b"Orientation" not in segment  # XMP may have it, too
    tiff = segment[6:]
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return False

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)  # type: ignore[arg-type]

    first = number(4, 4)
    entries = number(first, 2)
    if first < 8 or first + 2 + 12 * entries > len(tiff):
        return False
    for at in range(first + 2, first + 2 + 12 * entries, 12):
        if number(at, 2) == ORIENTATION:
            short_and_single = number(at + 2, 2) == 3 and number(at + 4, 4) == 1
            return short_and_single and number(at + 8, 2) == 1
    return True
