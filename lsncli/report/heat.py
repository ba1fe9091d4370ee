"""Heat maps laid over a picture, and several of them on one sheet. Pillow alone draws them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lsncli.console import printable
from lsncli.errors import LsnError
from lsncli.files import whole
from lsncli.types import Float64s

SIDE = 336
"""The longer side of a panel in pixels, at least."""
MARGIN, LINE = 10, 18

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

STOPS = np.array([(0, 0, 0), (90, 20, 110), (210, 60, 60), (250, 150, 40), (255, 240, 150)], dtype=float)
"""Colours from no weight to the most: ever brighter, so that they can be told apart without hue."""
STRENGTH = 0.65
"""How much of the heat shows where the weight is greatest; where there is none the picture is grey."""


def overlay(picture: NDArray[np.uint8], weights: Float64s) -> Image.Image:
    """``weights`` (h, w), not negative, as heat over ``picture`` (H, W, 3): scaled to their maximum."""
    plain = panel(picture)
    top = weights.max()
    level = (weights / top if top > 0 else weights).astype(np.float32)
    smooth = Image.fromarray(level).resize(plain.size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(smooth, dtype=float), 0, 1)[..., None]
    places = np.linspace(0, 1, len(STOPS))
    colours = np.concatenate([np.interp(heat, places, STOPS[:, channel]) for channel in range(3)], axis=-1)
    grey = np.asarray(plain.convert("L").convert("RGB"), dtype=float)
    share = STRENGTH * np.sqrt(heat)
    return Image.fromarray(((1 - share) * grey + share * colours).round().astype(np.uint8))


def panel(picture: NDArray[np.uint8]) -> Image.Image:
    """The picture as large as a panel; never smaller than it is."""
    made = Image.fromarray(picture)
    scale = max(1.0, SIDE / max(made.size))
    return made.resize((round(made.width * scale), round(made.height * scale)), Image.Resampling.BICUBIC)


def sheet(rows: Sequence[Sequence[tuple[Image.Image, Sequence[str]]]]) -> Image.Image:
    """Panels in rows, each with up to two lines of text above it; those of a row have one height, and all one
    width."""
    width = rows[0][0][0].width
    heights = [row[0][0].height + MARGIN + 2 * LINE for row in rows]
    wide = width + MARGIN
    columns = max(len(row) for row in rows)
    made = Image.new("RGB", (MARGIN + columns * wide, MARGIN + sum(heights)), "white")
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(13)
    for down, row in enumerate(rows):
        for across, (image, lines) in enumerate(row):
            left, top = MARGIN + across * wide, MARGIN + sum(heights[:down])
            for at, line in enumerate(lines):
                draw.text((left, top + at * LINE), fitting(draw, line, font, width), "black", font)
            made.paste(image, (left, top + 2 * LINE))
    return made


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG. Raises LsnError if the file cannot be written."""
    try:
        with whole(path) as file:
            image.save(file, "PNG")
    except OSError as error:
        raise LsnError(f"The picture {path} cannot be written: {error.strerror}.") from error


def fitting(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float, *, end: bool = True) -> str:
    """``text``, printable, cut with an ellipsis to ``width`` pixels: at its end, or else at its start."""
    shown = printable(text)
    while shown and draw.textlength(shown, font) > width:
        if len(shown) == 1:
            return ""
        shown = shown.removesuffix("…")[:-1] + "…" if end else "…" + shown.removeprefix("…")[1:]
    return shown
