"""The pictures of the paper's figures: what is missing is left out, what is odd is drawn, equal is equal."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsncli.bench.figures import choices, saliency, shots, toy
from lsncli.report import plots

pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")


def point(name: str, number: int | None, value: float | None, spread: float | None = None, **more) -> dict:
    numbers = {"fpr95": value, "auroc": value, "fpr95_spread": spread, "auroc_spread": spread}
    return {"row": name, "source": "measured", "shots": number, **numbers, **more}


ROWS = [
    point("nothing learned", None, 50.0),
    point("with $x$ and spread", 1, 60.0, 2.0),
    point("with $x$ and spread", 16, 70.0, 1.0),
    point("one seed", 1, 65.0),
    point("one seed", 16, None),
    point("one seed", None, 90.0, source="paper, Table 5"),
]


def drawn(rows: list[dict], monkeypatch) -> list:
    """The axes that ``shots.plot`` makes, without a file."""
    made = []
    monkeypatch.setattr(plots, "save", lambda figure, *paths: made.append(figure))
    shots.plot((), rows, "title")
    return made[0].axes


def test_lines_are_the_points_and_levels_are_what_learns_nothing(monkeypatch) -> None:
    left, right = drawn(ROWS, monkeypatch)
    for axes in (left, right):
        lines = {line.get_label(): line for line in axes.lines}
        np.testing.assert_array_equal(lines["nothing learned"].get_ydata(), [50.0, 50.0])
        np.testing.assert_array_equal(lines["one seed (paper)"].get_ydata(), [90.0, 90.0])
        bars = {one.get_label(): one for one in axes.containers}
        measured = bars["with \\$x\\$ and spread"]
        np.testing.assert_array_equal(measured.lines[0].get_xdata(), [1, 16])
        np.testing.assert_array_equal(measured.lines[0].get_ydata(), [60.0, 70.0])
        assert measured.has_yerr
        assert not bars["one seed"].has_yerr  # a single seed has no spread to show
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "16"]


def test_nothing_measured_is_still_a_picture(tmp_path) -> None:
    rows = [point("one", 4, None), point("one", None, 80.0, source="paper, Table 5")]
    shots.plot((tmp_path / "a.png", tmp_path / "a.svg"), rows, "title")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_equal_numbers_give_equal_files(tmp_path) -> None:
    for name in ("a", "b"):
        shots.plot((tmp_path / f"{name}.svg",), ROWS, "title")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_missing_numbers_are_empty_in_csv(tmp_path) -> None:
    shots.write_numbers(tmp_path / "a.csv", ["row", "shots", "auroc"], ROWS)
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"row": "nothing learned", "shots": "", "auroc": "50.0"}
    assert rows[4] == {"row": "one seed", "shots": "16", "auroc": ""}


@pytest.mark.parametrize("picture", [None, Image.new("RGB", (900, 300), "red")])
def test_choices_are_drawn_with_and_without_pictures(tmp_path, picture) -> None:
    pairs = (choices.Pair("a $ question", ("a photo of a $ é", "not a photo of a b"), (0.25, 0.75)),)
    panels = [choices.Panel("class " * 20, picture, pairs)] * 2
    choices.plot((tmp_path / "a.png", tmp_path / "a.svg"), panels, "title")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "75%" in text
    assert "not a photo of a b" in text
    assert "$ é" in text
    assert picture is None or picture.size == (900, 300)


def test_maps_of_different_counts_share_a_sheet(tmp_path: Path) -> None:
    seen = np.full((8, 8, 3), 128, np.uint8)
    some, nothing = np.full((2, 2), 0.25), np.zeros((2, 2))
    panels = [
        saliency.MapPanel("two", seen, (("positive", some), ("negative 1", nothing))),
        saliency.MapPanel("one", seen, (("positive", some),)),
    ]
    saliency.plot((tmp_path / "a.svg",), panels, "title")
    assert "negative 1: nothing" in (tmp_path / "a.svg").read_text()


def test_the_toy_example_marks_what_each_prompt_looks_for_most(tmp_path) -> None:
    prompts = {"class 1": np.array([1.0, 0.1]), "not class 1": np.array([0.0, 1.0])}
    images = [("ID, class 1", "●"), ("OOD", "✖")]
    scores = {"MCM": np.array([0.9, 0.5]), "LSN": np.array([0.8, 0.1])}
    toy.plot((tmp_path / "a.png", tmp_path / "a.svg"), images, "●✖", prompts, scores, "title")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "not class 1" in text
    assert text.count("●") == 2  # the image, and the axis
