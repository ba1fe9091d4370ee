"""A plot of a selection: AUROC of each method on both axes, and its margin over the default."""

from pathlib import Path

import numpy as np

from lsncli.report import plots
from lsncli.selection.choose import Choice

FAR = tuple(colour for colour in plots.CYCLE if colour != plots.BLUE)
"""The colours of the far axis; near is blue."""


def plot(path: Path, choice: Choice) -> list[Path]:
    """Draw a row per method, the best first, to ``path`` and write the numbers beside it; return both paths.

    Raises LsnError if a file cannot be written.
    """
    rows = choice.compared
    places = np.arange(len(rows))
    with plots.drawing():
        figure = plots.figure(6.5, 1.4 + 0.2 * len(rows))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        near = [[100 * value for value in row.near.values()] for row in rows]
        means = [np.mean(each) for each in near]
        left.plot(means, places, "o", color=plots.BLUE, markersize=5, label="near: classes left out")
        left.hlines(places, [min(each) for each in near], [max(each) for each in near], color=plots.BLUE)
        for number, name in enumerate(rows[0].far):
            left.plot(
                [100 * row.far[name] for row in rows],
                places,
                "sDv^"[number % 4],
                color=FAR[number % len(FAR)],
                markerfacecolor="none",
                markersize=5,
                label=plots.label(f"far: {name}", 30),
            )
        left.set_xlabel("AUROC, %")
        left.set_yticks(places, [plots.label(row.method) for row in rows])
        left.set_ylim(len(rows) - 0.5, -0.5)
        margins = np.array(
            [[row.over_default.low, row.over_default.value, row.over_default.high] for row in rows]
        )
        low, value, high = 100 * margins.T
        colours = [plots.ORANGE if row.method == choice.method else plots.GREY for row in rows]
        out = np.array([bool(row.why_not) for row in rows])
        right.axvline(0, color=plots.GREY, linewidth=0.8)
        right.hlines(places, low, high, color=colours)
        right.scatter(
            value, places, color=colours, s=20, facecolor=np.where(out, "white", colours).tolist(), zorder=3
        )
        if out.any():
            right.plot(
                [], [], "o", color=plots.GREY, markerfacecolor="white", markersize=5, label="not considered"
            )
        right.tick_params(axis="y", left=False)
        right.set_xlabel(f"points over {plots.label(choice.default)}, 90 % interval")
        outcome = f"{choice.method} is chosen" if choice.verdict == "chosen" else f"{choice.default} is kept"
        left.set_title(plots.label(f"Without OOD images: {outcome}", 60), loc="left", fontsize=10)
        figure.legend(loc="outside lower left", ncols=3)
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
