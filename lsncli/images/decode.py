"""Decode the bytes of one image to RGB pixels, or raise Undecodable with a short reason.

The pixels of an upright, opaque image with 8 bits are those of ``Image.open(file).convert("RGB")``, as
open_clip reads them; ``images.pixel_modes`` converts the others. libtiff, with which Pillow reads TIFFs, is
kept from writing to stderr.
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
    """Silence libtiff's errors and warnings, once per process.

    It prints them into the middle of a progress bar, without the name of the file, and Pillow's exception
    describes the problem anyway. Pillow has no option for it, but where it links to libtiff (as its wheels
    for Linux and macOS do) the functions are reachable through its own module. Elsewhere this does nothing.
    """
    with suppress(ImportError, OSError, AttributeError):
        from PIL import _imaging

        pillow = ctypes.CDLL(_imaging.__file__)
        for set_handler in (pillow.TIFFSetErrorHandler, pillow.TIFFSetWarningHandler):
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


# The formats of the listed extensions. Without this limit Pillow would try every plugin it has, and the one
# for EPS runs Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 89_478_485
"""Most pixels of a decoded image: a quarter of a gigabyte, and Pillow's own limit."""
MAX_SCANNED = 1 << 32
"""Most pixels times scans of one JPEG. A progressive one has ten scans; a hostile one has thousands, and a
small file would take hours."""

# Pillow logs some damage as errors, which Python would print without the name of the file.
logging.getLogger("PIL").addHandler(logging.NullHandler())
FINAL = (Undecodable, MemoryError, NotFinite, Image.DecompressionBombError)
"""Errors that decoding without metadata would not avoid."""


def decode(data: bytes) -> Image.Image:
    """Decode the first frame as RGB, upright (EXIF) and fully loaded.

    Transparent pixels become white; 16-bit grey, 32-bit integers and floats are scaled to 8 bits instead of
    clipped. A JPEG of more than MAX_PIXELS is decoded at half its size or less; any other image that large is
    refused. An image whose structure does not guarantee quick decoding is decoded in another process
    (``images.decode_process``), to the same pixels and with a time limit. Thread-safe. Raises Undecodable.
    """
    if not data:
        raise Undecodable("an empty file")
    structure = read_structure(data)
    return _decode_safely(data, structure) if structure.quick else decode_process.decode(data)


def decode_here(data: bytes) -> Image.Image:
    """Decode as ``decode`` does, but in this process and without a time limit."""
    return _decode_safely(data, read_structure(data))


def _decode_safely(data: bytes, structure: FileStructure) -> Image.Image:
    """Decode, without the metadata if it is damaged. Raises Undecodable for any failure."""
    # Pillow warns of odd metadata that does not matter here. catch_warnings is not thread-safe, so the filter
    # is set for the whole process; adding it again changes nothing.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    silence()
    try:
        try:
            if structure.heavy:
                raise BrokenMetadata("too many parts with metadata")
            return _decode(data)
        except FINAL:
            raise
        except Exception:
            # Pillow reads metadata with the pixels, and its plugins raise anything from struct.error to
            # IndexError. Without the metadata the pixels may still be decoded.
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
    """Decode the image, turned by ``turn``, or for 0 by the orientation in the file."""
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
    """Return the formats to try for a file whose first box is that of an AVIF, a HEIC or ("") neither."""
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
    """Register pillow-heif with Pillow; return whether it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True


def _check_size(image: Image.Image, data: bytes) -> None:
    width, height = image.size
    # In the compressed data of a JPEG this pair of bytes occurs only at the start of a scan.
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") * width * height > MAX_SCANNED:
        raise Undecodable(f"too large: {width} x {height} pixels, in more passes than a camera makes")
    if width * height > MAX_PIXELS:
        image.draft(None, (width // 2, height // 2))  # only a JPEG can be decoded at a fraction of its size
    if image.width * image.height > MAX_PIXELS:
        raise Undecodable(f"too large: {width} x {height} pixels")


def _failure(data: bytes, error: Exception) -> str:
    """Describe why Pillow cannot decode an image: its format is unknown, or the file is damaged."""
    text = " ".join(str(error).split())
    if "truncated" in text.lower():
        return f"truncated: {text}"
    if kind := unsupported_jpeg(data) or unsupported_tiff(data, isinstance(error, UnidentifiedImageError)):
        return f"not supported: {kind}"
    if isinstance(error, UnidentifiedImageError):
        return describe_unreadable(data)
    return f"damaged: {text or type(error).__name__}"
