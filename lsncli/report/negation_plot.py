"""A plot per class of how many images choose "a photo of a [class]" and "not a photo of a [class]"."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsncli.report import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lsncli.evaluation.negation import ChoiceCounts

NAMED = 50
"""With more classes than this, bars have no names and form one area."""


def plot(path: Path, choices: "ChoiceCounts", yes: str, no: str) -> list[Path]:
    """Draw the counts to ``path`` and write them beside it as csv; return both paths.

    Raises LsnError if a file cannot be written.
    """
    order = np.argsort(-choices.no, kind="stable")
    with plots.drawing():
        few = len(order) <= NAMED
        figure = plots.figure(7.0, 1.6 + 0.24 * len(order)) if few else plots.figure(9.0, 4.0)
        axes = figure.subplots()
        (_named if few else _area)(axes, choices, order)
        share = choices.no.sum() / (choices.images * len(order))
        axes.set_title(f'"not" is chosen in {share:.1%} of all choices', loc="left", fontsize=10)
        handles = axes.get_legend_handles_labels()[0]
        texts = [plots.label(text.replace("{}", "[class]"), 60) for text in (yes, no)]
        figure.legend(handles, texts, loc="outside lower left", ncols=2)
        plots.save(figure, path)
    numbers = path.with_suffix(".csv")
    columns = (choices.yes, choices.no, choices.own_yes, choices.own_no, choices.other_yes, choices.other_no)
    plots.save_numbers(
        numbers,
        ("class", "yes", "no", "own_yes", "own_no", "other_yes", "other_no"),
        ([choices.classes[at], *(int(column[at]) for column in columns)] for at in order),
    )
    return [path, numbers]


def _named(axes: "Axes", choices: "ChoiceCounts", order: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
    """Draw a pair of horizontal bars per class, with its name."""
    positions = np.arange(len(order))
    axes.barh(positions - 0.2, choices.yes[order], 0.4, color=plots.BLUE, label="yes")
    axes.barh(positions + 0.2, choices.no[order], 0.4, color=plots.ORANGE, label="no")
    axes.set_yticks(positions, [plots.label(choices.classes[at]) for at in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel("Images")


def _area(axes: "Axes", choices: "ChoiceCounts", order: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
    """Draw a step per class: the positive description below, "not" above, together all images."""
    edges = np.arange(len(order) + 1)
    axes.stairs(choices.yes[order], edges, fill=True, color=plots.BLUE, label="yes")
    total = np.full(len(order), choices.images)
    axes.stairs(total, edges, baseline=choices.yes[order], fill=True, color=plots.ORANGE, label="no")
    axes.set_xlim(0, len(order))
    axes.set_ylim(0, choices.images)
    axes.set_xlabel('Classes, those most often "not" first')
    axes.set_ylabel("Images")
