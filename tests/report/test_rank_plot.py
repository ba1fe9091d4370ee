"""The figure of ranks shows the numbers of the tests, and says what they can tell."""

import csv

import numpy as np
import pytest

from lsncli.comparison import rank_test
from lsncli.report import plots, rank_plot
from lsncli.report.rank_plot import can_rank, caption, draw_ranks

AUROCS = np.array([[0.7, 0.6], [0.9, 0.8], [0.8, 0.9], [0.5, 0.5]])
NAMES = ["low", "first", "second $x$", "last"]


def test_ranks_need_three_methods_and_two_sets() -> None:
    assert [can_rank(3, 2), can_rank(2, 9), can_rank(9, 1)] == [True, False, False]


def test_the_caption_says_how_much_the_tests_can_tell() -> None:
    random = np.random.default_rng(1)

    def text(methods: int, sets: int) -> str:
        return caption(rank_test(random.normal(size=(methods, sets))))

    assert "No two methods can differ by this test" in text(4, 2)
    assert text(5, 4).endswith("With 4 OOD sets these tests have little power.")
    assert "\n" not in text(5, 5)
    clear = rank_test(np.arange(4.0)[:, None] + np.zeros((4, 9)))
    assert caption(clear) == (
        f"Friedman: p < 0.001, 9 OOD sets. Nemenyi: critical difference {clear.critical:.1f} (5 %)."
    )


def test_the_numbers_are_the_ranks_best_first(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    assert draw_ranks(tmp_path, "ranks", NAMES, ["far", "near"], AUROCS, "test") == tmp_path / "ranks.png"
    with (tmp_path / "ranks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["first", "second $x$", "low", "last"]
    assert [(row["mean_rank"], row["far"], row["near"]) for row in rows] == [
        ("1.5", "1.0", "2.0"),
        ("1.5", "2.0", "1.0"),
        ("3.0", "3.0", "3.0"),
        ("4.0", "4.0", "4.0"),
    ]
    test = rank_test(AUROCS)
    assert {float(row["critical_difference"]) for row in rows} == {test.critical}
    assert {float(row["friedman_p"]) for row in rows} == {test.p_value}
    assert "second $x$" in (tmp_path / "ranks.svg").read_text()


def test_methods_that_differ_from_the_best_have_another_colour(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    values = np.arange(9.0, 0, -1)[:, None] + np.zeros((9, 20))
    test = rank_test(values)
    assert 1 < test.critical < 8
    with plots.drawing():
        made = rank_plot._figure([f"m{at}" for at in range(9)], ["a"] * 20, test, np.arange(9), "test")
        plots.save(made, tmp_path / "x.png")
    (axes,) = made.axes
    dots = {
        line.get_color(): line.get_xdata()
        for line in axes.lines
        if line.get_markersize() == 6 and len(line.get_xdata()) != 2
    }
    np.testing.assert_allclose(dots[plots.BLUE], np.arange(1, 1 + test.critical // 1 + 1))
    assert min(dots[plots.ORANGE]) > 1 + test.critical
    assert len(dots[plots.BLUE]) + len(dots[plots.ORANGE]) == 9


def test_each_row_has_the_mean_rank_of_its_name(tmp_path, monkeypatch) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, *paths: drawn.append(figure))
    draw_ranks(tmp_path, "ranks", NAMES, ["far", "near"], AUROCS, "test")
    (axes,) = drawn[0].axes
    labels = {tick.get_text(): row for row, tick in enumerate(axes.get_yticklabels())}
    dots = {
        float(row): float(rank)
        for line in axes.lines
        if line.get_marker() == "o" and line.get_markersize() == 6
        for rank, row in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    means = dict(zip(NAMES, rank_test(AUROCS).means, strict=True))
    assert {name.replace(r"\$", "$"): dots[row] for name, row in labels.items()} == means
