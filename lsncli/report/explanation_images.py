"""The files of `lsn explain`: heat maps over the image, a sheet of maps and numbers, and the numbers as JSON.

Pillow draws the pictures, without matplotlib.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lsncli.console import printable
from lsncli.errors import LsnError
from lsncli.files import open_atomic, write_atomic
from lsncli.report.explanation_tables import likely_rows, nearest_rows, verdict_rows
from lsncli.report.formats import plain
from lsncli.report.plots import unique_stem
from lsncli.types import Float64Array

if TYPE_CHECKING:
    from lsncli.explanation.evidence import Reasons
    from lsncli.explanation.saliency import Explanation

SIDE = 336
"""The smallest longer side of a panel in pixels."""
MARGIN, LINE = 10, 18

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

STOPS = np.array([(0, 0, 0), (90, 20, 110), (210, 60, 60), (250, 150, 40), (255, 240, 150)], dtype=float)
"""Colours from the lowest to the highest weight, with rising brightness, so that hue is not needed."""
STRENGTH = 0.65
"""Opacity of the heat at the highest weight; the image is grey where the weight is 0."""


def overlay(picture: NDArray[np.uint8], weights: Float64Array) -> Image.Image:
    """Return ``weights`` (h, w), >= 0, as heat over ``picture`` (H, W, 3), scaled to their maximum."""
    plain = panel(picture)
    top = weights.max()
    level = (weights / top if top > 0 else weights).astype(np.float32)
    smooth = Image.fromarray(level).resize(plain.size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(smooth, dtype=float), 0, 1)[..., None]
    levels = np.linspace(0, 1, len(STOPS))
    colours = np.concatenate([np.interp(heat, levels, STOPS[:, channel]) for channel in range(3)], axis=-1)
    grey = np.asarray(plain.convert("L").convert("RGB"), dtype=float)
    share = STRENGTH * np.sqrt(heat)
    return Image.fromarray(((1 - share) * grey + share * colours).round().astype(np.uint8))


def panel(picture: NDArray[np.uint8]) -> Image.Image:
    """Return the picture scaled up to the size of a panel."""
    image = Image.fromarray(picture)
    scale = max(1.0, SIDE / max(image.size))
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def sheet(rows: Sequence[Sequence[tuple[Image.Image, Sequence[str]]]]) -> Image.Image:
    """Return an image of rows of panels, each with up to two lines of text above it.

    All panels have the same width, and those of a row the same height.
    """
    width = rows[0][0][0].width
    heights = [row[0][0].height + MARGIN + 2 * LINE for row in rows]
    wide = width + MARGIN
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (MARGIN + columns * wide, MARGIN + sum(heights)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for row_index, row in enumerate(rows):
        for column_index, (image, lines) in enumerate(row):
            left, top = MARGIN + column_index * wide, MARGIN + sum(heights[:row_index])
            for at, line in enumerate(lines):
                draw.text((left, top + at * LINE), fitting(draw, line, font, width), "black", font)
            canvas.paste(image, (left, top + 2 * LINE))
    return canvas


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG. Raises LsnError if the file cannot be written."""
    try:
        with open_atomic(path) as file:
            image.save(file, "PNG")
    except OSError as error:
        raise LsnError(f"The picture {path} cannot be written: {error.strerror}.") from error


def fitting(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float, *, end: bool = True) -> str:
    """Return ``text``, printable, cut with an ellipsis to ``width`` pixels at its end or at its start."""
    shown = printable(text)
    while shown and draw.textlength(shown, font) > width:
        if len(shown) == 1:
            return ""
        shown = shown.removesuffix("…")[:-1] + "…" if end else "…" + shown.removeprefix("…")[1:]
    return shown


LINE_HEIGHT, GAP, SIZE = 19, 4, 13
BAR, GREY = (196, 214, 236), (95, 95, 95)
NONE_HELD_OUT = "no held-out ID images to compare with"

Panel = tuple[Image.Image, tuple[str, str]]


@dataclass(frozen=True)
class Entry:
    """A line with a text, cut if too long, and a number.

    A bar behind both shows ``share`` (a fraction); ``below`` is a grey text under it, cut at its start.
    """

    text: str
    number: str
    share: float = 0.0
    below: str = ""


def numbers(reasons: "Reasons", width: int) -> list[Panel]:
    """Return panels of equal height: the verdict with its measures, if any, classes, training images."""
    blocks: list[tuple[str, str, list[Entry]]] = []
    if reasons.evidence is not None:
        entries = [
            Entry(measure.name, f"{measure.value:.6f}", measure.below or 0.0, _rank(measure.below))
            for measure in reasons.evidence.measures
        ]
        blocks.append((reasons.evidence.sentence, reasons.evidence.label, entries))
    entries = [
        Entry(likely.name, f"{likely.probability:.1%}", likely.probability) for likely in reasons.likely
    ]
    blocks.append(("Most like", "probability among the classes", entries))
    if reasons.nearest:
        entries = [
            Entry(
                neighbour.class_name or "no class",
                f"{neighbour.cosine:.3f}",
                max(0.0, neighbour.cosine),
                neighbour.key,
            )
            for neighbour in reasons.nearest
        ]
        blocks.append(("Nearest training images", f"cosine, of the split {reasons.split}", entries))
    height = max(sum(_height(entry) for entry in entries) for _, _, entries in blocks)
    return [(_block(entries, width, height), (title, note)) for title, note, entries in blocks]


def _rank(below: float | None) -> str:
    return NONE_HELD_OUT if below is None else f"{below:.0%} of held-out ID images have less"


def _height(entry: Entry) -> int:
    return LINE_HEIGHT + GAP + (LINE_HEIGHT if entry.below else 0)


def _block(entries: Sequence[Entry], width: int, height: int) -> Image.Image:
    """Draw entries one below the other on a white panel."""
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(SIZE)
    top = 0
    for entry in entries:
        room = width - draw.textlength(entry.number, font) - 3 * GAP
        bar = round(min(1.0, entry.share) * (width - 1))
        if bar:
            draw.rectangle((0, top, bar, top + LINE_HEIGHT - 1), fill=BAR)
        draw.text((GAP, top + 1), fitting(draw, entry.text, font, room), "black", font)
        draw.text((width - GAP, top + 1), entry.number, "black", font, anchor="ra")
        if entry.below:
            shown = fitting(draw, entry.below, font, width - 2 * GAP, end=False)
            draw.text((GAP, top + LINE_HEIGHT), shown, GREY, font)
        top += _height(entry)
    return canvas


def write_heat_maps(folder: Path, stem: str, explanation: "Explanation", reasons: "Reasons") -> list[Path]:
    """Write ``STEM.explain.png``, ``STEM.explain.json`` and a heat map per prompt; return the heat maps.

    Raises LsnError if a file cannot be written.
    """
    names: list[str] = []
    seen: Panel = (panel(explanation.seen), (stem, "as the model sees it"))
    rows: dict[str, list[Panel]] = {} if explanation.maps else {"": [seen]}
    for prompt_map in explanation.maps:
        names.append(unique_stem(f"{stem}.{prompt_map.name}-{prompt_map.prompt}", names))
        heat_map = overlay(explanation.seen, prompt_map.weights)
        save(heat_map, folder / f"{names[-1]}.png")
        title = prompt_map.name + (" (predicted)" if prompt_map.name == explanation.predicted else "")
        row = rows.setdefault(prompt_map.name, [seen])
        nothing = "" if prompt_map.weights.any() else ": nothing"
        row.append((heat_map, (title, f"{prompt_map.prompt}, cosine {prompt_map.cosine:.3f}{nothing}")))
    everything = sheet([numbers(reasons, seen[0].width), *rows.values()])
    save(everything, folder / f"{stem}.explain.png")
    _write_numbers(folder / f"{stem}.explain.json", explanation, reasons)
    return [folder / f"{name}.png" for name in names]


def _write_numbers(path: Path, explanation: "Explanation", reasons: "Reasons") -> None:
    maps = [
        {
            "class": prompt_map.name,
            "prompt": prompt_map.prompt,
            "cosine": prompt_map.cosine,
            "peak": prompt_map.peak,
            "weights": prompt_map.weights.tolist(),
        }
        for prompt_map in explanation.maps
    ]
    evidence = reasons.evidence
    everything = {
        "predicted": explanation.predicted,
        "detector": evidence.label if evidence else None,
        "verdict": next(iter(verdict_rows(reasons)), None),
        "measures": [dict(vars(measure)) for measure in evidence.measures] if evidence else [],
        "classes": likely_rows(reasons),
        "split": reasons.split,
        "nearest": nearest_rows(reasons),
        "size": [explanation.seen.shape[1], explanation.seen.shape[0]],
        "maps": maps,
    }
    write_atomic(path, (json.dumps(_plain(everything), indent=1) + "\n").encode())


def _plain(value: Any) -> Any:
    """Return the value with ``formats.plain`` applied at any depth."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return plain(value)
