"""The numbers of an explanation as pictures for its sheet: the score's parts, classes, training images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from lsncli.report.heat import fitting

if TYPE_CHECKING:
    from lsncli.explanation.evidence import Reasons

LINE_HEIGHT, GAP, SIZE = 19, 4, 13
BAR, GREY = (196, 214, 236), (95, 95, 95)
NONE_HELD_OUT = "no held-out ID images to compare with"

Panel = tuple[Image.Image, tuple[str, str]]


@dataclass(frozen=True)
class Entry:
    """A line with a text, which gives way where it is too long, and a number; a bar behind both shows
    ``share`` (a fraction); below it a grey text, of which the end is kept."""

    text: str
    number: str
    share: float = 0.0
    below: str = ""


def numbers(found: "Reasons", width: int) -> list[Panel]:
    """Panels of ``width`` and of one height: the verdict, if there is one, classes, training images."""
    blocks: list[tuple[str, str, list[Entry]]] = []
    if found.judgement is not None:
        entries = [
            Entry(one.name, f"{one.value:.6f}", one.below or 0.0, _rank(one.below))
            for one in found.judgement.measures
        ]
        blocks.append((found.judgement.sentence, found.judgement.label, entries))
    entries = [Entry(one.name, f"{one.probability:.1%}", one.probability) for one in found.likely]
    blocks.append(("Most like", "probability among the classes", entries))
    if found.nearest:
        entries = [
            Entry(one.class_name or "no class", f"{one.cosine:.3f}", max(0.0, one.cosine), one.key)
            for one in found.nearest
        ]
        blocks.append(("Nearest training images", f"cosine, of the split {found.split}", entries))
    height = max(sum(_height(entry) for entry in entries) for _, _, entries in blocks)
    return [(_block(entries, width, height), (title, note)) for title, note, entries in blocks]


def _rank(below: float | None) -> str:
    return NONE_HELD_OUT if below is None else f"{below:.0%} of held-out ID images have less"


def _height(entry: Entry) -> int:
    return LINE_HEIGHT + GAP + (LINE_HEIGHT if entry.below else 0)


def _block(entries: Sequence[Entry], width: int, height: int) -> Image.Image:
    made = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(SIZE)
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
    return made
