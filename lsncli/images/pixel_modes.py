"""Convert any pixels to upright RGB of 8 bits: grey, 16 bits, floats, palettes, CMYK, transparency."""

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns each EXIF orientation upright; 1 is upright."""

LARGEST = {"u1": 255, "i1": 127, "u2": 65535, "i2": 32767}
"""The value of white by type of integers; wider ones have none."""


class NotFinite(ValueError):
    """Pixels that are not finite numbers."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image to RGB; an RGB image is returned unchanged.

    Transparent images are put on white. Pillow inverts CMYK of a JPEG as Adobe does; colour profiles are not
    applied. Raises NotFinite.
    """
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(to_eight_bits(np.asarray(image)[..., None])[..., 0]).convert("RGB")
    if image.has_transparency_data:  # palettes, too: Pillow warns if they are converted to RGB directly
        return _on_white(image)
    return image if mode == "RGB" else image.convert("RGB")


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 0 if it is missing or damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 0)
        return value if value in TURNS else 0
    except Exception:  # damaged metadata raises anything, and the pixels are still good
        return 0


def turn_upright(image: Image.Image, turn: int) -> Image.Image:
    """Turn an image upright by its EXIF orientation ``turn``; 0 and 1 are upright."""
    return image.transpose(TURNS[turn]) if turn in TURNS else image


def to_eight_bits(values: NDArray[np.generic], white: int = 0) -> NDArray[np.uint8]:
    """Convert values (H, W, C) of any type to uint8, with black at 0. Raises NotFinite.

    Integers from 0 to ``white`` are scaled to 255. If it is 0, white is the largest number of 8 or 16 bits,
    and 65535 for wider types. 16-bit colours are cut to their upper 8 bits, as in Pillow. Floats in [0, 1]
    are multiplied by 255, those in [0, 255] kept. Other values (negative or larger ones) are stretched from
    their minimum to their maximum, the same for all channels.
    """
    if values.dtype == np.uint16 and values.shape[2] > 1 and white == 0:
        return (values.astype(np.uint16, copy=False) >> 8).astype(np.uint8)
    with np.errstate(invalid="ignore"):  # damaged floats hold signalling NaNs
        low, high = float(np.min(values)), float(np.max(values))  # one is NaN or infinite if any pixel is
    if not np.isfinite([low, high]).all():
        raise NotFinite
    if values.dtype.kind == "f":
        in_range, divisor = low >= 0 and high <= 255, 1.0 if high > 1 else 1 / 255
    else:
        top = white or LARGEST.get(values.dtype.str[1:], 65535)
        in_range, divisor = low >= 0 and high <= top, top / 255
    if not in_range:
        divisor = ((high - low) or 1.0) / 255
    grey = np.empty(values.shape, dtype=np.uint8)
    # Row by row: float64 of a whole image would take too much memory.
    for row in range(len(values)):
        wide = values[row].astype(np.float64)
        grey[row] = np.rint((wide if in_range else wide - low) / divisor)
    return grey


def _on_white(image: Image.Image) -> Image.Image:
    layers = image if image.mode == "RGBA" else image.convert("RGBA")
    if layers.getchannel("A").getextrema()[0] == 255:  # nothing is transparent after all
        return layers.convert("RGB")
    page = Image.new("RGB", layers.size, "white")
    page.paste(layers, mask=layers)
    return page
