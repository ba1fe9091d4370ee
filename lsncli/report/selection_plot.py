"""A plot of a selection: AUROC of each method on both axes, and its margin over the default."""

from pathlib import Path

import numpy as np

from lsncli.report import plots
from lsncli.selection.choose import Choice


def plot(path: Path, choice: Choice) -> list[Path]:
    """Draw a row per method, the best first, to ``path`` and write the numbers beside it; return both paths.

    Raises LsnError if a file cannot be written.
    """
    rows = choice.compared
    places = np.arange(len(rows))
    with plots.drawing():
        figure = plots.figure(8.0, 1.6 + 0.24 * len(rows))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        near = [[100 * value for value in row.near.values()] for row in rows]
        left.plot([np.mean(each) for each in near], places, "o", color=plots.BLUE, label="classes left out")
        left.hlines(places, [min(each) for each in near], [max(each) for each in near], color=plots.BLUE)
        for number, name in enumerate(rows[0].far):
            left.plot(
                [100 * row.far[name] for row in rows],
                places,
                "sDv^"[number % 4],
                color=plots.CYCLE[number % len(plots.CYCLE)],
                markerfacecolor="none",
                label=plots.label(name),
            )
        left.set_xlabel("AUROC, %")
        left.set_yticks(places, [plots.label(row.method) for row in rows])
        left.set_ylim(len(rows) - 0.5, -0.5)
        margins = np.array(
            [[row.over_default.low, row.over_default.value, row.over_default.high] for row in rows]
        )
        low, value, high = 100 * margins.T
        colours = [plots.ORANGE if row.method == choice.method else plots.GREY for row in rows]
        right.axvline(0, color=plots.GREY, linewidth=0.8)
        right.hlines(places, low, high, color=colours)
        right.scatter(value, places, color=colours, s=18)
        right.set_xlabel(f"AUROC points over {plots.label(choice.default)}, 90 %")
        outcome = f"{choice.method} is chosen" if choice.verdict == "chosen" else f"{choice.default} is kept"
        left.set_title(plots.label(f"Without OOD images: {outcome}", 60), loc="left", fontsize=10)
        figure.legend(loc="outside lower left", ncols=4)
        plots.save(figure, path)
    numbers = path.with_suffix(".csv")
    kinds, splits = tuple(rows[0].near), tuple(rows[0].far)
    plots.save_numbers(
        numbers,
        ("method", *kinds, *splits, "mean", "over_default", "low", "high"),
        (
            [
                *(row.method, *row.near.values(), *(row.far[name] for name in splits), row.mean),
                *(row.over_default.value, row.over_default.low, row.over_default.high),
            ]
            for row in rows
        ),
    )
    return [path, numbers]
