"""Decode one image, from its bytes to RGB pixels, or give a short reason why not.

The pixels of an upright, opaque image with 8 bits are those of ``Image.open(file).convert("RGB")``, as
open_clip reads them; ``images.pixel_modes`` says what becomes of the others. libtiff, which reads TIFFs for
Pillow, is kept from writing to stderr.
"""

import ctypes
import io
import logging
import warnings
from contextlib import suppress
from functools import cache

from PIL import Image, UnidentifiedImageError

from lsncli.images import decode_process
from lsncli.images.file_types import container_format, describe_unreadable
from lsncli.images.metadata import BrokenMetadata, check_png, strip_metadata, unsupported_jpeg
from lsncli.images.pixel_modes import NotFinite, read_orientation, to_rgb, turn_upright
from lsncli.images.read import Undecodable
from lsncli.images.structure import FileStructure, read_structure
from lsncli.images.tiff import ORIENTATION
from lsncli.images.tiff_pixels import decode_wide, read_layout, unsupported_tiff


@cache
def silence() -> None:
    """Tell libtiff, once in a process, to print no errors and no warnings.

    It prints them into the middle of a progress bar, and without the name of the file; what is wrong with an
    image is told by Pillow's exception anyway. Pillow has no option for it, but where it links to libtiff (as
    its wheels for Linux and macOS do) its own module leads there. Anywhere else nothing happens.
    """
    with suppress(ImportError, OSError, AttributeError):
        from PIL import _imaging

        pillow = ctypes.CDLL(_imaging.__file__)
        for set_handler in (pillow.TIFFSetErrorHandler, pillow.TIFFSetWarningHandler):
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


# What the extensions of the listing promise. Without this limit Pillow would try every plugin it has,
# and the one for EPS runs Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 89_478_485
"""Pixels that are decoded of one image: a quarter of a gigabyte, and Pillow's own limit."""
MAX_SCANNED = 1 << 32
"""Pixels times passes over them in one JPEG. A progressive one has ten passes; a hostile one has thousands,
and a small file would take hours."""

# Pillow logs some damage as errors, which Python would print without the name of the file.
logging.getLogger("PIL").addHandler(logging.NullHandler())
FINAL = (Undecodable, MemoryError, NotFinite, Image.DecompressionBombError)
"""What no other way of reading would change."""


def decode(data: bytes) -> Image.Image:
    """Decode the first frame as RGB, upright (EXIF) and fully loaded.

    Transparent pixels become white; 16-bit grey, 32-bit integers and floats are scaled to 8 bits instead of
    clipped. A JPEG of more than MAX_PIXELS is decoded at a half or less of its size, anything else that large
    is refused. What is not surely quick by its structure is decoded in another process (``images.watched``),
    to the same pixels, and given up when it takes too long. Thread-safe. Raises Undecodable.
    """
    if not data:
        raise Undecodable("an empty file")
    build = read_structure(data)
    return _decoded(data, build) if build.quick else decode_process.decode(data)


def decode_here(data: bytes) -> Image.Image:
    """``decode`` in this process, however long it takes."""
    return _decoded(data, read_structure(data))


def _decoded(data: bytes, build: FileStructure) -> Image.Image:
    # Pillow warns of odd metadata that does not matter here. catch_warnings is not thread-safe, and this
    # filter is for the whole process anyway; adding it again changes nothing.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    silence()
    try:
        try:
            if build.heavy:
                raise BrokenMetadata("too many parts with metadata")
            return _decode(data)
        except FINAL:
            raise
        except Exception:
            # Pillow reads metadata with the pixels, and its plugins raise anything from struct.error to
            # IndexError. Whether the pixels are sound shows without it.
            bare = strip_metadata(data)
            if bare is None:
                raise
            return _decode(bare.data, bare.orientation)
    except Undecodable:
        raise
    except Image.DecompressionBombError as error:
        raise Undecodable("too large: more pixels than Pillow decodes") from error
    except NotFinite as error:
        raise Undecodable("pixels that are not finite numbers") from error
    except MemoryError as error:
        raise Undecodable("there is no memory to decode it") from error
    except Exception as error:
        raise Undecodable(_failure(data, error)) from error


def _decode(data: bytes, turn: int = 0) -> Image.Image:
    """The image, turned by ``turn`` or by what the file says."""
    formats = _formats(container_format(data))
    check_png(data)
    layout = read_layout(data)
    if layout is not None and layout.width * layout.height > MAX_PIXELS:
        raise Undecodable(f"too large: {layout.width} x {layout.height} pixels")
    if layout is not None and layout.wide:
        return turn_upright(to_rgb(decode_wide(layout)), layout.page.value(ORIENTATION))
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_size(image, data)
            image.load()
            return turn_upright(to_rgb(image), turn or read_orientation(image))
    except FINAL:
        raise
    except Exception:
        if layout is None or not layout.mode:
            raise
        return turn_upright(to_rgb(decode_wide(layout)), layout.page.value(ORIENTATION))


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


def _failure(data: bytes, error: Exception) -> str:
    """Why Pillow fails to decode an image: it does not know this kind, or the file is damaged."""
    text = " ".join(str(error).split())
    if "truncated" in text.lower():
        return f"truncated: {text}"
    if kind := unsupported_jpeg(data) or unsupported_tiff(data, isinstance(error, UnidentifiedImageError)):
        return f"not supported: {kind}"
    if isinstance(error, UnidentifiedImageError):
        return describe_unreadable(data)
    return f"damaged: {text or type(error).__name__}"
