"""Histograms and ROC curves say what the metrics say."""

import csv

import numpy as np
import pytest

from lsncli.metrics import auroc, fpr_id_positive
from lsncli.report import evaluation_plots, plots
from lsncli.report.evaluation_plots import curves, edges_of


def two(rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    return random.normal(1.0, 1.0, rows), random.normal(0.0, 1.0, rows // 2)


def test_the_threshold_accepts_exactly_fpr95() -> None:
    inside, outside = two()
    found = curves(inside, outside, edges_of([inside, outside]))
    assert found.fpr95 == fpr_id_positive(inside, outside) == np.mean(outside >= found.gamma)
    assert abs(np.mean(inside >= found.gamma) - 0.95) <= 1 / len(inside)
    assert found.auroc == auroc(inside, outside)


def test_the_curve_runs_from_corner_to_corner_and_holds_the_auroc() -> None:
    inside, outside = two()
    found = curves(inside, outside, edges_of([inside, outside]))
    assert (found.accepted[0], found.kept[0], found.accepted[-1], found.kept[-1]) == (0, 0, 1, 1)
    assert (np.diff(found.accepted) >= 0).all()
    assert (np.diff(found.kept) >= 0).all()
    assert np.trapezoid(found.kept, found.accepted) == pytest.approx(found.auroc, abs=1e-12)


def test_many_scores_are_thinned_without_losing_the_curve() -> None:
    inside, outside = two(20_000)
    found = curves(inside, outside, edges_of([inside, outside]))
    assert len(found.kept) <= evaluation_plots.POINTS
    assert np.trapezoid(found.kept, found.accepted) == pytest.approx(found.auroc, abs=1e-4)


def test_every_score_is_in_a_bin_even_those_far_away() -> None:
    inside, outside = two(5000)
    inside[0], outside[0] = 1e9, -1e9
    edges = edges_of([inside, outside])
    assert edges[0] > -10
    assert edges[-1] < 10
    found = curves(inside, outside, edges)
    assert found.inside.sum() == pytest.approx(1)
    assert found.outside.sum() == pytest.approx(1)


def test_equal_scores_can_be_drawn() -> None:
    same = np.full(5, 3.0)
    edges = edges_of([same, same])
    assert (edges[0], edges[-1]) == (2.5, 3.5)
    assert curves(same, same, edges).auroc == 0.5


def test_a_figure_of_many_splits_has_a_panel_each_and_one_roc(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    inside, outside = two()
    edges = edges_of([inside, outside])
    drawn = {f"split {at} $x$": curves(inside, outside - at / 3, edges) for at in range(9)}
    with plots.drawing():
        made = evaluation_plots._figure("a $ title", drawn)
        plots.save(made, tmp_path / "x.png")
    left, right = made.subfigs
    assert len(left.axes) == 9
    assert len(right.axes) == 1
    styles = {(line.get_color(), line.get_linestyle()) for line in right.axes[0].lines[:9]}
    assert len(styles) == 9  # told apart by more than colour


def test_numbers_are_those_drawn(tmp_path) -> None:
    inside, outside = two()
    one = curves(inside, outside, edges_of([inside, outside]))
    evaluation_plots._write_numbers(tmp_path, "m", "test", {"far": one})
    with (tmp_path / "m-histogram.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["id_fraction"]) for row in rows] == one.inside.tolist()
    assert {(row["id"], row["ood"], float(row["gamma_fpr95"])) for row in rows} == {
        ("test", "far", one.gamma)
    }
    with (tmp_path / "m-roc.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["tpr"]) for row in rows] == one.kept.tolist()
