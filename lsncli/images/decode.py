"""One image: its bytes, and from bytes to RGB pixels, or a short reason why not.

The pixels of an ordinary image are those of ``Image.open(file).convert("RGB")``, as open_clip reads them.
The EXIF orientation is ignored for that reason: the models were trained on pixels as they are stored.
"""

import errno
import io
import os
import stat
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lsncli.errors import LsnError
from lsncli.images.sources import ImageItem

MAX_BYTES = 1 << 30
# What the extensions of the listing promise. Without this limit Pillow would try every plugin it has,
# and the one for EPS runs Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


class Undecodable(LsnError):
    """An image that cannot be read; the message is the reason in a few words."""


REASONS = {
    errno.ENOENT: "no such file",
    errno.ELOOP: "a symbolic link loop",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "is a folder",
    errno.ENAMETOOLONG: "the path is too long",
    errno.ENOTDIR: "no such file",
}

LOOKS_LIKE = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "XML"),
    (b"%pdf", "a PDF"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"version https://git-lfs", "a Git LFS pointer, its content was never fetched"),
    (b"{", "JSON"),
)

SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"RIFF", "WebP"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)


def read_bytes(item: ImageItem) -> bytes:
    """The encoded bytes of an image, from its file or its place in a tar. Raises Undecodable."""
    try:
        mode = os.stat(item.path).st_mode
        if stat.S_ISDIR(mode):
            raise Undecodable("is a folder")
        if not stat.S_ISREG(mode):  # reading a named pipe would wait for ever
            raise Undecodable("not a regular file")
        # Every call opens the file anew: threads share no position and need no lock.
        with open(item.path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size if item.offset is None else item.size or 0
            if size > MAX_BYTES:
                raise Undecodable(f"too large: {size / 2**30:.1f} GiB")
            file.seek(item.offset or 0)
            data = _read_all(file, size)
    except OSError as error:
        known = REASONS.get(error.errno or 0)
        raise Undecodable(known or f"cannot be read: {error.strerror or error}") from error
    if len(data) < size:
        raise Undecodable(
            "the tar ends inside this image" if item.offset is not None else "shrank while read"
        )
    return data


def decode(data: bytes) -> Image.Image:
    """Decode the first frame as RGB, fully loaded. Transparency is dropped; 16-bit grey, 32-bit integers
    and floats are scaled to 8 bits instead of clipped. Thread-safe. Raises Undecodable."""
    # Pillow warns of odd metadata that does not matter here. catch_warnings is not thread-safe, and this
    # filter is for the whole process anyway; adding it again changes nothing.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if not data:
        raise Undecodable("an empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise Undecodable(f"too large: {image.width} x {image.height} pixels")
            image.load()
            return _rgb(image)
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        raise Undecodable(_not_an_image(data)) from error
    except Image.DecompressionBombError as error:
        raise Undecodable("too large: more pixels than Pillow decodes") from error
    except Exception as error:  # Pillow's plugins raise anything from struct.error to IndexError
        raise Undecodable(_damage(error)) from error


def _read_all(file: io.FileIO, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB":
        return image.copy()
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), mode)).convert("RGB")
    if mode in ("P", "PA", "RGBa", "La"):  # by way of RGBA: the palette's transparency needs it
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Grey values of any width as uint8: 16-bit range / 257; floats in [0, 1] x 255; in [0, 255] as they
    are; anything else stretched from its minimum to its maximum."""
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise Undecodable("pixels that are not finite numbers")
    low, high = float(wide.min()), float(wide.max())
    if mode == "F":
        in_range, divisor = low >= 0 and high <= 255, 1.0 if high > 1 else 1 / 255
    else:
        in_range, divisor = low >= 0 and high <= 65535, 257.0
    if not in_range:
        wide, divisor = wide - low, ((high - low) or 1.0) / 255
    return np.rint(wide / divisor).astype(np.uint8)


def _not_an_image(data: bytes) -> str:
    for start, kind in SIGNATURES:
        if data.startswith(start):
            return f"damaged: it begins like a {kind} image, but its header is broken or cut short"
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, kind in LOOKS_LIKE:
        if head.startswith(start):
            return f"not an image but {kind}"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        return "a HEIC or AVIF image, which is not supported"
    if not any(data[:4096]):
        return "not an image: it is all zeros"
    return f"not an image (it starts with {data[:8].hex(' ')})"


def _damage(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "truncated" in text.lower():
        return f"truncated: {text}"
    return f"damaged: {text or type(error).__name__}"
