"""Figure 7: FPR95 and AUROC over the number of images of each class that prompts are learned from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsncli.report import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {"fpr95": "FPR95 (%), lower is better", "auroc": "AUROC (%), higher is better"}
MARKERS = "os^Dv"

Row = Mapping[str, Any]


def draw(paths: Sequence[Path], rows: Sequence[Row], title: str) -> None:
    """Draw ``rows``: ``row`` (its name), ``source``, ``shots``, both metrics and their spreads in percent.

    Measured rows are lines with their spread over seeds; without ``shots`` they are level, as nothing is
    learned. Other sources are dotted levels. Raises LsnError if a file cannot be written.
    """
    names = list(dict.fromkeys(row["row"] for row in rows))
    with plots.drawing():
        made: Any = plots.figure(9.0, 4.2)
        made.suptitle(plots.label(title, 110), x=0.01, ha="left", fontsize=10)
        panels = made.subplots(1, 2)
        for axes, (metric, label) in zip(panels, PANELS.items(), strict=True):
            for at, name in enumerate(names):
                _line(axes, at, [row for row in rows if row["row"] == name], metric)
            _scale(axes, sorted({row["shots"] for row in rows if row["shots"]}))
            axes.set_ylabel(label)
        made.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        plots.save(made, *paths)


def write(path: Path, keys: Sequence[str], rows: Sequence[Row]) -> None:
    """The numbers as csv, one line a row and number of images; what is missing is empty."""
    plots.save_numbers(path, keys, ([row[key] for key in keys] for row in rows))


def _line(axes: "Axes", at: int, rows: Sequence[Row], metric: str) -> None:
    """One row of the table: its measured points, or its level."""
    learns = any(row["shots"] for row in rows)
    colour = plots.CYCLE[at % len(plots.CYCLE)] if learns else plots.GREY
    measured = [row for row in rows if row["source"] == "measured" and row[metric] is not None]
    for row in rows:
        if row["source"] != "measured" and row[metric] is not None:
            axes.axhline(
                row[metric],
                color=colour,
                linestyle=":",
                linewidth=1.0,
                label=f"{plots.label(row['row'])} (paper)",
            )
    points = [row for row in measured if row["shots"]]
    spreads = [row[f"{metric}_spread"] for row in points]
    if points:
        axes.errorbar(
            [row["shots"] for row in points],
            [row[metric] for row in points],
            yerr=[one or 0.0 for one in spreads] if any(spreads) else None,
            color=colour,
            marker=MARKERS[at % len(MARKERS)],
            markersize=4,
            capsize=2,
            linestyle=plots.DASHES[at % len(plots.DASHES)],
            label=plots.label(points[0]["row"]),
        )
    elif measured:
        level = measured[0]
        axes.axhline(level[metric], color=colour, linewidth=1.2, label=plots.label(level["row"]))


def _scale(axes: "Axes", shots: Sequence[int]) -> None:
    """Doublings are equally far apart; every number that was measured is named."""
    axes.set_xscale("log", base=2)
    if shots:
        axes.set_xlim(shots[0] / 1.2, shots[-1] * 1.2)
    axes.set_xticks(shots, [str(one) for one in shots])
    axes.minorticks_off()
    axes.set_xlabel("Training images of each class")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
