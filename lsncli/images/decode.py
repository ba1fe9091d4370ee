"""One image: its bytes, and from bytes to RGB pixels, or a short reason why not.

The pixels of an upright, opaque image with 8 bits are those of ``Image.open(file).convert("RGB")``, as
open_clip reads them; ``images.modes`` says what becomes of the others.
"""

import errno
import io
import os
import stat
import warnings
from functools import cache

from PIL import Image, UnidentifiedImageError

from lsncli.errors import LsnError
from lsncli.images.found import MAX_BYTES
from lsncli.images.kinds import container, not_an_image
from lsncli.images.modes import NotFinite, rgb, upright
from lsncli.images.sources import ImageItem

# What the extensions of the listing promise. Without this limit Pillow would try every plugin it has,
# and the one for EPS runs Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 89_478_485
"""Pixels that are decoded of one image: a quarter of a gigabyte, and Pillow's own limit."""
MAX_SCANNED = 1 << 32
"""Pixels times passes over them in one JPEG. A progressive one has ten passes; a hostile one has thousands,
and a small file would take hours."""


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
    errno.ENXIO: "not a regular file",
    errno.ESTALE: "no such file",
}


def read_bytes(item: ImageItem) -> bytes:
    """The encoded bytes of an image, from its file or its place in a tar. Raises Undecodable."""
    size = item.size or 0
    try:
        if item.unpacked is not None:
            data = item.unpacked.read(item.offset or 0, size)
        else:
            mode = os.stat(item.path).st_mode
            if stat.S_ISDIR(mode):
                raise Undecodable("is a folder")
            if not stat.S_ISREG(mode):  # reading a named pipe would wait for ever
                raise Undecodable("not a regular file")
            # Every call opens the file anew: threads share no position and need no lock.
            with open(item.path, "rb", buffering=0, opener=_at_once) as file:
                size = os.fstat(file.fileno()).st_size if item.offset is None else size
                if size > MAX_BYTES:
                    raise Undecodable(f"too large: {size / 2**30:.1f} GiB")
                file.seek(item.offset or 0)
                data = _read_all(file, size)
    except OSError as error:
        known = REASONS.get(error.errno or 0)
        raise Undecodable(known or f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise Undecodable(f"cannot be read: {error}") from error
    if len(data) < size:
        raise Undecodable(
            "the tar ends inside this image" if item.offset is not None else "shrank while read"
        )
    return data


def decode(data: bytes) -> Image.Image:
    """Decode the first frame as RGB, upright (EXIF) and fully loaded.

    Transparent pixels become white; 16-bit grey, 32-bit integers and floats are scaled to 8 bits instead of
    clipped. A JPEG of more than MAX_PIXELS is decoded at a half or less of its size, anything else that large
    is refused. Thread-safe. Raises Undecodable.
    """
    # Pillow warns of odd metadata that does not matter here. catch_warnings is not thread-safe, and this
    # filter is for the whole process anyway; adding it again changes nothing.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if not data:
        raise Undecodable("an empty file")
    try:
        with Image.open(io.BytesIO(data), formats=_formats(container(data))) as image:
            _check_size(image, data)
            image.load()
            return upright(rgb(image))
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        raise Undecodable(not_an_image(data)) from error
    except Image.DecompressionBombError as error:
        raise Undecodable("too large: more pixels than Pillow decodes") from error
    except NotFinite as error:
        raise Undecodable("pixels that are not finite numbers") from error
    except MemoryError as error:
        raise Undecodable("there is no memory to decode it") from error
    except Exception as error:  # Pillow's plugins raise anything from struct.error to IndexError
        raise Undecodable(_damage(error)) from error


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a file may have become a named pipe since it was looked at."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_all(file: io.FileIO, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _formats(kind: str) -> tuple[str, ...]:
    """The formats to try for a file that is, by its first box, an AVIF, a HEIC or ("") neither."""
    if kind == "AVIF":
        if not _avif():
            raise Undecodable("an AVIF image, which this Pillow was built without")
        return ("AVIF",)
    if kind == "HEIC":
        if not _heif():
            raise Undecodable("a HEIC image: pip install 'lsncli[heif]' to read it")
        return ("HEIF",)
    return FORMATS


@cache
def _avif() -> bool:
    try:
        from PIL.AvifImagePlugin import SUPPORTED
    except ImportError:  # before Pillow 11.3
        return False
    return bool(SUPPORTED)


@cache
def _heif() -> bool:
    """Whether pillow-heif is installed; Pillow knows of it then."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True


def _check_size(image: Image.Image, data: bytes) -> None:
    width, height = image.size
    # In the compressed data of a JPEG this pair of bytes never occurs but at the start of a pass.
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") * width * height > MAX_SCANNED:
        raise Undecodable(f"too large: {width} x {height} pixels, in more passes than a camera makes")
    if width * height > MAX_PIXELS:
        image.draft(None, (width // 2, height // 2))  # JPEG alone can be decoded at a fraction of its size
    if image.width * image.height > MAX_PIXELS:
        raise Undecodable(f"too large: {width} x {height} pixels")


def _damage(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "truncated" in text.lower():
        return f"truncated: {text}"
    return f"damaged: {text or type(error).__name__}"
