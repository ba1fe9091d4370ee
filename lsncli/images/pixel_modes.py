"""Pixels of any kind to upright RGB with 8 bits: grey, 16 bits, floats, palettes, CMYK, transparency."""

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
"""What brings each EXIF orientation upright; 1 is upright."""


LARGEST = {"u1": 255, "i1": 127, "u2": 65535, "i2": 32767}
"""White, by the type of whole numbers; wider ones have none of their own."""


class NotFinite(ValueError):
    """Pixels that are not finite numbers."""


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image as RGB; an RGB image is returned itself.

    What is transparent shows white beneath, as on a page. CMYK of a JPEG is inverted by Pillow as Adobe means
    it; no colour profile is applied. Raises NotFinite.
    """
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(to_eight_bits(np.asarray(image)[..., None])[..., 0]).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image)
    # A palette by way of RGBA: Pillow warns of transparency given as bytes otherwise.
    return image if mode == "RGB" else image.convert("RGB")


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 0 if it is missing or damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 0)
        return value if value in TURNS else 0
    except Exception:  # a tag of any type, a directory that ends too early: the pixels are still good
        return 0


def turn_upright(image: Image.Image, turn: int) -> Image.Image:
    """The image as its camera meant it to be seen, by its EXIF orientation ``turn``; 0 and 1 are upright."""
    return image.transpose(TURNS[turn]) if turn in TURNS else image


def to_eight_bits(values: NDArray[np.generic], white: int = 0) -> NDArray[np.uint8]:
    """Values (H, W, C) of any type as uint8, black at 0. Raises NotFinite.

    Whole numbers from 0 to ``white`` are scaled to 255. Where it is 0, white is the largest number of 8 or 16
    bits, and 65535 for wider ones. Of 16-bit colours the upper 8 bits are taken, as Pillow does. Floats in
    [0, 1] are multiplied by 255, in [0, 255] taken as they are. Anything else (a negative number, or a larger
    one) is stretched from its minimum to its maximum, all channels alike.
    """
    if values.dtype == np.uint16 and values.shape[2] > 1 and white == 0:
        return (values.astype(np.uint16, copy=False) >> 8).astype(np.uint8)
    with np.errstate(invalid="ignore"):  # damaged floats hold signalling NaNs
        low, high = float(np.min(values)), float(np.max(values))  # either is NaN or infinite if any pixel is
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
    # A row at a time: eight bytes for every pixel of a large image is too much.
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
