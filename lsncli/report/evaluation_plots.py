"""Figures of an evaluation: histograms of scores with the threshold of FPR95, ROC and OSCR curves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from lsncli.console import ProgressCallback, short_labels, silent
from lsncli.metrics import auroc, counts, summary, threshold_id_positive
from lsncli.open_set import oscr
from lsncli.report import plots
from lsncli.report.rank_plot import can_rank, draw_ranks
from lsncli.types import Float64Array

if TYPE_CHECKING:
    from lsncli.evaluation.evaluate import Evaluation
    from lsncli.methods.prepared import PreparedMethod

BINS = 60
TAIL = 0.001
"""Fraction of the scores on each side beyond the edges; the outermost bins include them."""

OscrCurves = Mapping[str, tuple[Float64Array, Float64Array]]
"""FPR and CCR (``open_set.oscr``) by OOD set."""
NO_CURVES: OscrCurves = MappingProxyType({})
RANKS = "ranks"
"""The file name of the figure of ranks."""
POINTS = 1000
"""Most points of a ROC or OSCR curve that are drawn and written."""


@dataclass(frozen=True)
class Curves:
    """One ID split against one OOD split; fractions.

    ``inside`` and ``outside`` are the fractions of ID and OOD images in each bin between ``edges`` (the
    outermost bins are open); ``accepted`` and ``kept`` are the false- and true-positive rates from the
    highest threshold to the lowest; ``gamma`` accepts ``fpr95`` of the OOD images.
    """

    edges: Float64Array
    inside: Float64Array
    outside: Float64Array
    accepted: Float64Array
    kept: Float64Array
    gamma: float
    fpr95: float
    auroc: float


def curves(inside: Float64Array, outside: Float64Array, edges: Float64Array) -> Curves:
    """Return the curves of two score arrays, higher = more ID. Raises LsnError as the metrics do."""
    tails = counts(inside, outside)
    measured = summary(tails)
    steps = np.unique(np.linspace(0, len(tails.ids) - 1, POINTS).astype(int))[::-1]
    return Curves(
        edges=edges,
        inside=_fractions(inside, edges),
        outside=_fractions(outside, edges),
        accepted=1 - tails.oods[steps] / tails.oods[-1],
        kept=1 - tails.ids[steps] / tails.ids[-1],
        gamma=threshold_id_positive(inside, outside),
        fpr95=measured.fpr95,
        auroc=measured.auroc,
    )


def edges_of(scores: Sequence[Float64Array]) -> Float64Array:
    """Return the edges (BINS + 1,) of equal bins for several score arrays without their tails."""
    ends = [np.quantile(values, [TAIL, 1 - TAIL]) for values in scores]
    low, high = min(float(end[0]) for end in ends), max(float(end[1]) for end in ends)
    if not low < high:  # all scores are equal
        low, high = low - 0.5, low + 0.5
    return np.linspace(low, high, BINS + 1)


def draw_evaluation(
    folder: Path, evaluation: "Evaluation", ood_splits: Sequence[str], progress: ProgressCallback = silent
) -> list[Path]:
    """Draw every method of an evaluation into ``folder``: NAME.png, NAME.svg, and the numbers as csv.

    Three or more methods on two or more OOD sets get a figure of their ranks (``RANKS``). Returns the png
    files in the order of the methods, that of the ranks last; ``progress`` counts methods. Raises LsnError if
    a file cannot be written.
    """
    names, labelled = [RANKS], evaluation.labelled  # no method takes the name of the ranks
    for result, correct in zip(evaluation.methods, evaluation.correct, strict=True):
        names.append(plots.unique_stem(str(result.method), names))
        title = f"{_title(result.resolved.label, str(result.method))}, ID: {evaluation.id_split}"
        outside = {split: result.scores[split] for split in ood_splits}
        inside = result.scores[evaluation.id_split]
        classified = (
            {split: oscr(inside[labelled], correct[labelled], scores) for split, scores in outside.items()}
            if labelled.any()
            else {}
        )
        draw_scores(folder, names[-1], title, evaluation.id_split, inside, outside, classified)
        progress(1, str(result.method))
    files = [folder / f"{name}.png" for name in names[1:]]
    methods = evaluation.methods
    if can_rank(len(methods), len(ood_splits)):
        aurocs = np.array(
            [
                [auroc(each.scores[evaluation.id_split], each.scores[split]) for split in ood_splits]
                for each in methods
            ]
        )
        labels = _told_apart(methods)
        files.append(draw_ranks(folder, RANKS, labels, ood_splits, aurocs, evaluation.id_split))
    return files


def _told_apart(methods: "Sequence[PreparedMethod]") -> list[str]:
    """Return the short label of each method, or its name where another method has the same label."""
    labels = [each.resolved.label for each in methods]
    short, same = short_labels(labels), Counter(labels)
    return [
        short[label] if same[label] == 1 else str(each.method)
        for label, each in zip(labels, methods, strict=True)
    ]


def draw_scores(
    folder: Path,
    name: str,
    title: str,
    id_name: str,
    inside: Float64Array,
    outside: Mapping[str, Float64Array],
    classified: OscrCurves = NO_CURVES,
) -> Path:
    """Draw the scores of one method, higher = more ID: ``inside`` against those of every OOD set.

    ``classified`` are OSCR curves, drawn as thin lines. Writes NAME.png, which is returned, NAME.svg,
    NAME-histogram.csv, NAME-roc.csv and, with curves, NAME-oscr.csv. Raises LsnError if a file cannot be
    written.
    """
    edges = edges_of([inside, *outside.values()])
    curves_by_split = {split: curves(inside, scores, edges) for split, scores in outside.items()}
    with plots.drawing():
        figure = _figure(title, curves_by_split, classified)
        plots.save(figure, folder / f"{name}.png", folder / f"{name}.svg")
    _write_numbers(folder, name, id_name, curves_by_split)
    if classified:
        rows = [
            [id_name, split, *pair]
            for split, curve in classified.items()
            for pair in zip(*(side.tolist() for side in _thinned(curve)), strict=True)
        ]
        plots.save_numbers(folder / f"{name}-oscr.csv", ("id", "ood", "fpr", "ccr"), rows)
    return folder / f"{name}.png"


def _thinned(curve: tuple[Float64Array, Float64Array]) -> tuple[Float64Array, Float64Array]:
    """Return at most ``POINTS`` points of a curve, the first and the last among them."""
    steps = np.unique(np.linspace(0, len(curve[0]) - 1, POINTS).astype(int))
    return curve[0][steps], curve[1][steps]


def _title(label: str, method: str) -> str:
    return method if label == method else f"{label} ({method})"


def _fractions(scores: Float64Array, edges: Float64Array) -> Float64Array:
    numbers = np.histogram(np.clip(scores, edges[0], edges[-1]), bins=edges)[0]
    return numbers / len(scores)


def _figure(
    title: str,
    curves_by_split: Mapping[str, Curves],
    classified: OscrCurves = NO_CURVES,
) -> Any:
    """Return histograms on the left, an OOD split per panel on one scale, and all ROC curves on the right."""
    figure: Any = plots.figure(10.0, max(3.8, 0.9 + 1.45 * len(curves_by_split)))
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    figure.suptitle(plots.label(title, 110), x=0.01, ha="left", fontsize=10)
    panels = left.subplots(len(curves_by_split), 1, sharex=True, squeeze=False)[:, 0]
    axes = right.subplots()
    for at, (panel, (split, curve)) in enumerate(zip(panels, curves_by_split.items(), strict=True)):
        _histogram(panel, split, curve)
        axes.plot(
            curve.accepted,
            curve.kept,
            color=plots.CYCLE[at % len(plots.CYCLE)],
            linestyle=plots.DASHES[at % len(plots.DASHES)],
            label=f"{plots.label(split, 24)}: AUROC {curve.auroc:.1%}",
        )
        if split in classified:
            axes.plot(
                *_thinned(classified[split]),
                color=plots.CYCLE[at % len(plots.CYCLE)],
                linestyle=plots.DASHES[at % len(plots.DASHES)],
                linewidth=0.7,
            )
    panels[-1].set_xlabel("Score (higher = more ID)")
    axes.plot([0, 1], [0, 1], color=plots.GREY, linewidth=0.6, zorder=0)
    axes.axhline(0.95, color=plots.GREY, linewidth=0.6, linestyle=":", zorder=0)
    axes.set(
        xlabel="OOD images accepted (FPR)",
        ylabel="ID images kept (TPR)" + ("; thin: and classified right (CCR)" if classified else ""),
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axes.legend(loc="lower right")
    return figure


def _histogram(panel: Any, split: str, curve: Curves) -> None:
    panel.stairs(curve.inside, curve.edges, fill=True, alpha=0.45, color=plots.BLUE, label="ID")
    panel.stairs(
        curve.outside, curve.edges, fill=True, alpha=0.45, color=plots.ORANGE, label=plots.label(split, 24)
    )
    # Outlines keep the two distinct where they overlap, and in grey.
    panel.stairs(curve.inside, curve.edges, color=plots.BLUE, linewidth=1.0)
    panel.stairs(curve.outside, curve.edges, color=plots.ORANGE, linewidth=1.0, linestyle="--")
    panel.axvline(curve.gamma, color=plots.GREY, linewidth=1.0)
    panel.set_title(
        f"FPR95 {curve.fpr95:.1%}: the line keeps 95 % of ID", loc="left", fontsize=8, color=plots.GREY
    )
    panel.spines["left"].set_visible(False)
    panel.set_yticks([])  # only the shape matters
    panel.set_ylim(bottom=0)
    panel.legend(loc="upper right", fontsize=8, handlelength=1.2)


def _write_numbers(folder: Path, name: str, id_split: str, curves_by_split: Mapping[str, Curves]) -> None:
    """Write NAME-histogram.csv and NAME-roc.csv."""
    histogram: list[list[object]] = []
    roc: list[list[object]] = []
    for split, curve in curves_by_split.items():
        bins = zip(curve.edges[:-1].tolist(), curve.edges[1:].tolist(), strict=True)
        fractions = zip(curve.inside.tolist(), curve.outside.tolist(), strict=True)
        for (low, high), (inside, outside) in zip(bins, fractions, strict=True):
            histogram.append([id_split, split, low, high, inside, outside, curve.gamma])
        rates = zip(curve.accepted.tolist(), curve.kept.tolist(), strict=True)
        roc += [[id_split, split, accepted, kept] for accepted, kept in rates]
    header = ("id", "ood", "low", "high", "id_fraction", "ood_fraction", "gamma_fpr95")
    plots.save_numbers(folder / f"{name}-histogram.csv", header, histogram)
    plots.save_numbers(folder / f"{name}-roc.csv", ("id", "ood", "fpr", "tpr"), roc)
