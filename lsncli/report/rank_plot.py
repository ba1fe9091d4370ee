"""Figure of the ranks of methods over OOD sets, with the tests of Friedman and Nemenyi (Demsar, 2006)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.comparison import RankTest, rank_test
from lsncli.report import plots
from lsncli.types import Float64Array

FEW_SETS = 5
"""With fewer OOD sets, the figure says that the tests have little power."""


def can_rank(methods: int, sets: int) -> bool:
    """Return whether there are enough methods and OOD sets to test their ranks."""
    return methods > 2 and sets > 1


def draw_ranks(
    folder: Path,
    name: str,
    methods: Sequence[str],
    ood_splits: Sequence[str],
    aurocs: Float64Array,
    id_name: str,
) -> Path:
    """Draw the ranks of each method by ``aurocs`` (methods, sets), 1 = best, and which differ from the best.

    Mean ranks that are further apart than the critical difference, drawn as a bar, differ by Nemenyi's test;
    those in the shaded range do not differ from the best. Writes NAME.png, which is returned, NAME.svg and
    NAME.csv. Raises LsnError if a file cannot be written, and as ``rank_test`` does.
    """
    test = rank_test(aurocs)
    order = np.lexsort((np.arange(len(methods)), test.means))
    with plots.drawing():
        figure = _figure([methods[at] for at in order], ood_splits, test, order, id_name)
        plots.save(figure, folder / f"{name}.png", folder / f"{name}.svg")
    rows = [
        [methods[at], test.means[at], *test.ranks[at].tolist(), test.critical, test.p_value] for at in order
    ]
    header = ("method", "mean_rank", *ood_splits, "critical_difference", "friedman_p")
    plots.save_numbers(folder / f"{name}.csv", header, rows)
    return folder / f"{name}.png"


def caption(test: RankTest) -> str:
    """Return what the tests say, and how much they can."""
    methods, sets = test.ranks.shape
    p = "p < 0.001" if test.p_value < 0.001 else f"p = {test.p_value:.3f}"
    text = f"Friedman: {p}, {sets} OOD sets. Nemenyi: critical difference {test.critical:.1f} (5 %)."
    if test.critical > methods - 1:
        return f"{text}\nNo two methods can differ by this test: it needs more OOD sets."
    if sets < FEW_SETS:
        return f"{text}\nWith {sets} OOD sets these tests have little power."
    return text


def _figure(
    methods: Sequence[str], ood_splits: Sequence[str], test: RankTest, order: NDArray[np.intp], id_name: str
) -> Any:
    figure: Any = plots.figure(5.6, 2.0 + 0.24 * len(methods))
    axes = figure.subplots()
    rows, means = np.arange(len(methods)), test.means[order]
    reach = means[0] + test.critical
    axes.axvspan(means[0], min(reach, len(methods) + 0.5), color=plots.BLUE, alpha=0.1, linewidth=0)
    for at, split in enumerate(ood_splits):
        axes.plot(
            test.ranks[order, at],
            rows,
            linestyle="",
            marker=MARKERS[at % len(MARKERS)],
            markersize=4,
            markerfacecolor="none",
            markeredgecolor=plots.GREY,
            markeredgewidth=0.7,
            label=plots.label(split, 20),
        )
    for alike, colour in ((True, plots.BLUE), (False, plots.ORANGE)):
        chosen = (means <= reach) == alike
        axes.plot(means[chosen], rows[chosen], linestyle="", marker="o", markersize=6, color=colour, zorder=3)
    axes.plot([means[0], reach], [-0.9, -0.9], color=plots.BLUE, marker="|", clip_on=True)
    axes.set_yticks(rows, [plots.label(method, 28) for method in methods])
    axes.set_ylim(len(methods) - 0.4, -1.4)  # the best method is on top
    axes.set_xlim(0.5, len(methods) + 0.5)
    axes.set_xlabel("Rank by AUROC, 1 = best; filled: mean")
    axes.grid(axis="x", color=plots.GREY, alpha=0.15, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    title = plots.label(f"Ranks over OOD sets, ID: {id_name}", 70)
    note = f"{caption(test)}\nShaded: less than the critical difference (the bar) from the best."
    figure.suptitle(f"{title}\n{note}", x=0.01, ha="left", fontsize=8.5)
    figure.legend(loc="outside lower left", ncols=3, fontsize=8, handletextpad=0.2, columnspacing=1.2)
    return figure


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
