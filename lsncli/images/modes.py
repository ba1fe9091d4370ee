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


class NotFinite(ValueError):
    """Pixels that are not finite numbers."""


def rgb(image: Image.Image) -> Image.Image:
    """A loaded image as RGB; an RGB image is returned itself.

    What is transparent shows white beneath, as on a page. CMYK of a JPEG is inverted by Pillow as Adobe means
    it; no colour profile is applied. Raises NotFinite.
    """
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(eight_bits(np.asarray(image), mode)).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image)
    # A palette by way of RGBA: Pillow warns of transparency given as bytes otherwise.
    return image if mode == "RGB" else image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """The image as its camera meant it to be seen (EXIF orientation). Damaged EXIF data turns nothing."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a tag of any type, a directory that ends too early: the pixels are still good
        return image
    return image if turn is None else image.transpose(turn)


def eight_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Grey values (H, W) of any width as uint8: 16-bit range / 257; floats in [0, 1] x 255; in [0, 255] as
    they are; anything else stretched from its minimum to its maximum. Raises NotFinite."""
    with np.errstate(invalid="ignore"):  # damaged floats hold signalling NaNs
        low, high = float(np.min(values)), float(np.max(values))  # either is NaN or infinite if any pixel is
    if not np.isfinite([low, high]).all():
        raise NotFinite
    if mode == "F":
        in_range, divisor = low >= 0 and high <= 255, 1.0 if high > 1 else 1 / 255
    else:
        in_range, divisor = low >= 0 and high <= 65535, 257.0
    if not in_range:
        divisor = ((high - low) or 1.0) / 255
    grey = np.empty(values.shape, dtype=np.uint8)
    for row in range(
        len(values)
    ):  # a row at a time: eight bytes for every pixel of a large image is too much
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
