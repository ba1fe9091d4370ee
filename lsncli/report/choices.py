"""Figures 3, 4 and 8: images beside pairs of texts, with the probability that the model gives to each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from lsncli.report import plots

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 224
"""The longer side of a picture in pixels, at most."""
LIGHT = "#c8c8c8"
KEYS = (
    "path",
    "class",
    "question",
    "text_1",
    "text_2",
    "cosine_1",
    "cosine_2",
    "probability_1",
    "probability_2",
)


@dataclass(frozen=True)
class Pair:
    """A question, its two texts and their probabilities."""

    question: str
    texts: tuple[str, str]
    likely: tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """An image, its class and what it was asked; None where the picture is not at hand."""

    name: str
    picture: "Image | None"
    pairs: tuple[Pair, ...]


def draw(paths: Sequence[Path], panels: Sequence[Panel], title: str) -> None:
    """A row an image, a column a question. Raises LsnError if a file cannot be written."""
    across = len(panels[0].pairs)
    with plots.drawing():
        made: Any = plots.figure(1.9 + 3.4 * across, 0.7 + 1.5 * len(panels))
        made.suptitle(plots.label(title, 40 + 50 * across), x=0.01, ha="left", fontsize=10)
        grid = made.subplots(len(panels), 1 + across, squeeze=False, width_ratios=[1.0, *[2.2] * across])
        for panel, axes in zip(panels, grid, strict=True):
            _picture(axes[0], panel)
            for pair, one in zip(panel.pairs, axes[1:], strict=True):
                _bars(one, pair)
        for pair, one in zip(panels[0].pairs, grid[0][1:], strict=True):
            one.set_title(fill(pair.question, 44), loc="left", fontsize=9)
        plots.save(made, *paths)


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """The numbers of all images as csv."""
    plots.save_numbers(path, KEYS, ([row[key] for key in KEYS] for row in rows))


def _picture(axes: Any, panel: Panel) -> None:
    axes.set_axis_off()
    if panel.picture is None:
        axes.text(0.5, 0.5, fill(plots.label(panel.name), 14), ha="center", va="center")
        return
    small = panel.picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    axes.imshow(small)
    axes.set_title(plots.label(panel.name, 24), fontsize=8, color=plots.GREY, pad=2)


def _bars(axes: Any, pair: Pair) -> None:
    """Each text above its bar; the chosen one is coloured and bold."""
    chosen = int(pair.likely[1] > pair.likely[0])
    for at, (text, likely) in enumerate(zip(pair.texts, pair.likely, strict=True)):
        won = at == chosen
        axes.barh(at, 1.0, 0.34, color="#f2f2f2")
        axes.barh(at, likely, 0.34, color=plots.ORANGE if won else LIGHT)
        weight = "bold" if won else "normal"
        axes.text(0.0, at - 0.26, f'"{plots.label(text, 46)}"', fontsize=8, weight=weight)
        axes.text(1.02, at, f"{likely:.0%}", fontsize=8, weight=weight, va="center")
    axes.set(xlim=(0, 1.15), ylim=(1.35, -0.6))
    axes.set_axis_off()
