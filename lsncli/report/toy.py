"""Figure 5: the images of the toy example, what each prompt looks for, and the scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsncli.report import plots
from lsncli.types import Float64Array


def draw(
    paths: Sequence[Path],
    images: Sequence[tuple[str, str]],
    figures: str,
    prompts: Mapping[str, Float64Array],
    scores: Mapping[str, Float64Array],
    title: str,
) -> None:
    """Draw ``images`` (name, figures; the last one is OOD), ``prompts`` (weight of each figure), ``scores``.

    Raises LsnError if a file cannot be written.
    """
    with plots.drawing():
        made: Any = plots.figure(11.0, 4.0)
        made.suptitle(plots.label(title, 110), x=0.01, ha="left", fontsize=10)
        left, middle, right = made.subfigures(1, 3, width_ratios=(1.0, 1.5, 1.7))
        _images(left.subplots(), images)
        _prompts(middle.subplots(), figures, prompts)
        axes = right.subplots(1, len(scores), sharex=True, sharey=True)
        for one, (name, values) in zip(axes, scores.items(), strict=True):
            _scores(one, name, values, [name for name, _ in images])
        plots.save(made, *paths)


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """The numbers as csv, a line an image."""
    plots.save_numbers(path, list(rows[0]), (list(row.values()) for row in rows))


def _images(axes: Any, images: Sequence[tuple[str, str]]) -> None:
    axes.set_title("Images and their figures", loc="left", fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(images) - 0.4, -0.6))
    axes.set_axis_off()
    for at, (name, figures) in enumerate(images):
        colour = plots.ORANGE if at == len(images) - 1 else "black"
        axes.text(0.0, at, name, fontsize=9, va="center", color=colour)
        axes.text(0.5, at, "  ".join(figures), fontsize=13, va="center", color=colour)


def _prompts(axes: Any, figures: str, prompts: Mapping[str, Float64Array]) -> None:
    weights = np.array(list(prompts.values()))
    axes.set_title("What each prompt looks for (darker: more)", loc="left", fontsize=9)
    axes.imshow(weights, cmap="Greys", vmin=0, aspect="auto")
    axes.set_xticks(range(len(figures)), list(figures), fontsize=11)
    axes.set_yticks(range(len(prompts)), list(prompts))
    axes.tick_params(length=0)
    for row, column in enumerate(weights.argmax(axis=1)):
        axes.plot(column, row, "o", markersize=4, color=plots.ORANGE)


def _scores(axes: Any, name: str, values: Float64Array, images: Sequence[str]) -> None:
    """ID images are circles, the OOD image a cross; the line is the lowest ID score."""
    places = np.arange(len(values))
    axes.plot(values[:-1], places[:-1], "o", color=plots.BLUE, label="ID")
    axes.plot(values[-1:], places[-1:], "X", color=plots.ORANGE, markersize=8, label="OOD")
    axes.axvline(values[:-1].min(), color=plots.GREY, linewidth=0.8, linestyle=":")
    axes.set_title(name, loc="left", fontsize=9)
    axes.set_yticks(places, images)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlabel("Score (higher = more ID)")
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)
