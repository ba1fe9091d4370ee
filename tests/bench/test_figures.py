"""The figures of a suite: measured, drawn, and no number made up. A small suite on images of noise."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bench_samples import run_suite, write_images, write_suite

from lsncli.bench import figures
from lsncli.bench.figures import choices, shots
from lsncli.bench.figures.request import FigureResult, Request, draw_rows, load_pictures, spread_rows
from lsncli.bench.measured_table import measure_table
from lsncli.bench.runner import waiting_later
from lsncli.bench.suite_toml import load_suite
from lsncli.errors import LsnError, UsageError
from lsncli.evaluation import negation
from lsncli.images.dataset_layouts import FolderLayout
from lsncli.reference import published
from lsncli.reference.classes import class_list
from lsncli.store.format import Split

pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")


@pytest.fixture(scope="module")
def bench(tmp_path_factory, tiny_model) -> SimpleNamespace:
    """A suite whose table has the paper's columns of Figures 9 and 10, and its images."""
    folder = tmp_path_factory.mktemp("figures")
    data, suite = write_images(folder / "data"), write_suite(folder, tiny_model)
    text = suite.read_text().replace('Near = "near"', 'iNaturalist = "near"')
    suite.write_text(text.replace('Far = "far"', 'Places = "far"'))
    return SimpleNamespace(folder=folder, data=data, suite=suite)


def ask(bench: SimpleNamespace, number: int, to: Path | None = None, **given: object) -> FigureResult:
    suite = load_suite(str(bench.suite))
    options = {"work": bench.folder / "work", "data": bench.data, "device": "cpu"}
    options |= given.pop("options", {})
    made = Request(
        suite, to or bench.folder / "out", str(bench.suite), options, suite.table("mine"), quiet=True, **given
    )
    return figures.draw_figure(number, made)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_figure_has_a_function_that_says_what_it_draws() -> None:
    for number, name in figures.FIGURES.items():
        module, _, function = name.partition(":")
        made = __import__(module, fromlist=[function])
        assert getattr(made, function).__doc__
        assert made.__doc__.startswith("Figure"), number


@pytest.mark.parametrize("number", [0, 1, 6, 13])
def test_what_is_no_computable_figure_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match="2, 3, 4, 5, 7, 8, 9, 10, 11, 12"):
        figures.check_number(number)


# Figure 7


@pytest.fixture(scope="module")
def over_shots(bench) -> FigureResult:
    return ask(bench, 7, shots=(4, 2), rows=("MCM", "MSP", "coop+lsn"))


def test_figure_7_has_a_point_for_each_number_of_images(over_shots) -> None:
    points = [(row["row"], row["shots"]) for row in over_shots.rows]
    assert points == [
        ("MCM", None),
        *[("MSP", shots) for shots in (2, 4)],
        *[("CoOp + LSN (ours)", shots) for shots in (2, 4)],
    ]
    assert all(0 <= row["fpr95"] <= 100 and 0 <= row["auroc"] <= 100 for row in over_shots.rows)
    assert [path.suffix for path in over_shots.files] == [".png", ".svg", ".csv"]
    written = rows_of(over_shots.files[2])
    assert [float(row["auroc"]) for row in written] == [row["auroc"] for row in over_shots.rows]


def test_figure_7_measures_what_the_table_measures_from_as_many_images(bench, over_shots) -> None:
    table, _ = run_suite(bench.suite, bench.folder / "work", bench.data, rows=["MSP"])  # shots = 4
    point = next(row for row in over_shots.rows if row["row"] == "MSP" and row["shots"] == 4)
    cells = table.rows["MSP"]
    groups = [f"{name}/auroc" for name in ("iNaturalist", "Places")]
    assert point["auroc"] == pytest.approx(np.mean([cells[key].mean for key in groups]))


def test_the_time_left_of_figure_7_covers_all_numbers_of_images(bench, monkeypatch, tmp_path) -> None:
    plans, later = [], []

    def measure(*given, dry, **more):
        table, plan = measure_table(*given, dry=dry, **more)
        if dry:
            plans.append(plan)
        else:
            later.append(more["later"])
        return table, plan

    monkeypatch.setattr("lsncli.bench.figures.request.measure_table", measure)
    ask(bench, 7, tmp_path, shots=(3, 5), rows=("MSP",))
    assert later == [plans[1:], []]
    left = waiting_later(plans[0], plans[1:])
    assert len(left) == len(plans[1].trainings) + len(plans[1].waiting) > 0
    assert waiting_later(plans[0], plans[:1]) == []


def test_figure_7_drawn_again_measures_nothing(bench, over_shots, monkeypatch, tmp_path) -> None:
    def measure(*args, **kwargs):
        raise AssertionError("it was measured again")

    monkeypatch.setattr("lsncli.bench.runner.measure", measure)
    again = ask(bench, 7, tmp_path, shots=(4, 2), rows=("MCM", "MSP", "CoOp + LSN"))
    assert again.rows == over_shots.rows
    assert [path.read_bytes() for path in again.files] == [path.read_bytes() for path in over_shots.files]


def test_figure_7_says_why_a_point_is_missing_and_draws_the_others(bench, tmp_path) -> None:
    found = ask(bench, 7, tmp_path, shots=(2,), rows=("MSP", "broken"))
    missing = next(row for row in found.rows if row["row"] == "broken")
    assert missing["auroc"] is None
    assert "90" in missing["why_missing"]
    assert any("lsn bench --figure 7 --suite" in note and "--shots 2" in note for note in found.notes)
    assert all(path.is_file() for path in found.files)


def test_figure_7_of_rows_that_learn_nothing_is_refused(bench) -> None:
    with pytest.raises(UsageError, match="no row that learns"):
        ask(bench, 7, rows=("MCM",))


def test_a_dry_run_of_figure_7_lists_the_jobs_of_each_number(bench, tmp_path) -> None:
    found = ask(bench, 7, tmp_path, shots=(3, 5), rows=("MSP",), dry=True)
    assert {row["shots"] for row in found.rows} == {3, 5}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["paper", "mini"])
def test_figure_7_of_the_papers_tables_is_about_positive_and_negative_prompts(name: str) -> None:
    request = Request(load_suite(name), Path(), name, {})
    spec, rows = shots._rows(request)
    assert [group.name for group in spec.groups] == ["iNaturalist", "SUN", "Places", "Textures"]
    assert [one.title for one in rows] == [title for _, _, title in shots.USUAL]
    assert [one.learns for one in rows] == [False, True, True, True]
    listed = list(shots._published_rows(rows))
    assert listed[1]["auroc"] == published.load_table(5).rows[1].values["Average/auroc"] == 97.06
    assert listed[3]["fpr95"] == 8.56


def test_the_usual_numbers_of_images_end_with_all_that_are_not_held_out() -> None:
    request = Request(load_suite("mini"), Path(), "mini", {})
    _, rows = shots._rows(request)
    assert shots._usual_shots(request.suite, rows) == (1, 2, 4, 8, 16, 32, 51)  # 64 less a fifth
    assert shots._usual_shots(request.suite, rows[:1]) == shots.SHOTS


# Figures 9 to 12


def test_figures_9_and_10_count_the_choices_of_their_own_set(bench) -> None:
    for number, images in ((9, 4), (10, 5)):
        found = ask(bench, number)
        (row,) = found.rows
        names = class_list("imagenet1k").names
        assert (row["images"], row["classes"]) == (images, len(names))
        assert row["yes"] + row["no"] == images * len(names)
        written = rows_of(found.files[2])
        assert {one["class"] for one in written} == set(names)
        assert sum(int(one["no"]) for one in written) == row["no"]
        assert all(path.is_file() for path in found.files)


def test_a_suite_without_the_set_of_a_figure_says_so(bench) -> None:
    with pytest.raises(UsageError, match=r"Figure 11 is about SUN.*iNaturalist, Places"):
        ask(bench, 11)


def test_a_set_whose_images_are_nowhere_says_so(bench, tmp_path) -> None:
    with pytest.raises(LsnError, match="no --data DIR"):
        ask(bench, 9, tmp_path, options={"data": None, "work": tmp_path / "empty"})


def test_a_suite_without_table_1_asks_for_one(bench) -> None:
    suite = load_suite(str(bench.suite))
    with pytest.raises(UsageError, match="no table 1") as caught:
        Request(suite, Path(), "x", {}).table("1")
    assert "mine" in caught.value.hint


# Figures 3, 4 and 8


@pytest.mark.parametrize("number", [3, 4, 8])
def test_choices_are_those_of_the_cosines(bench, number: int) -> None:
    found = ask(bench, number)
    assert all(path.is_file() for path in found.files)
    rows = rows_of(found.files[2])
    assert len(rows) == 9 * len(found.rows)
    for row in rows:
        first, second = float(row["probability_1"]), float(row["probability_2"])
        assert first + second == pytest.approx(1)
        assert (second > first) == (float(row["cosine_2"]) > float(row["cosine_1"]))
    for summary in found.rows:
        own = [row for row in rows if row["question"] == summary["question"]]
        second = np.mean([float(row["cosine_2"]) > float(row["cosine_1"]) for row in own])
        assert summary["chosen"] in (pytest.approx(second), pytest.approx(1 - second))


def test_texts_name_the_right_classes(bench) -> None:
    for row in rows_of(ask(bench, 3).files[2]):
        assert row["text_1"] == negation.NO.replace("{}", row["class"])
        assert row["class"] not in row["text_2"]
    for row in rows_of(ask(bench, 4).files[2]):
        assert row["class"] not in row["text_1"] + row["text_2"]
    before = [row for row in rows_of(ask(bench, 4).files[2]) if row["question"].startswith("Before")]
    assert all(float(row["cosine_1"]) >= float(row["cosine_2"]) for row in before)


def test_other_classes_are_never_the_images_own_nor_the_same() -> None:
    labels = np.arange(300) % 3
    other, third = choices._others(labels, 3)
    assert all({a, b, c} == {0, 1, 2} for a, b, c in zip(labels, other, third, strict=True))
    assert len({tuple(pair) for pair in zip(labels, other, strict=True)}) == 6  # every pair occurs


def test_probabilities_are_the_softmax_and_do_not_overflow() -> None:
    cosine = np.array([[0.30, 0.31], [1.0, -1.0], [-1.0, 1.0]])
    exact = np.exp(100 * cosine[0]) / np.exp(100 * cosine[0]).sum()
    found = choices._probabilities(cosine, 100.0)
    np.testing.assert_allclose(found[0], exact)
    assert np.isfinite(choices._probabilities(cosine, 1e9)).all()


def test_choices_of_two_classes_are_refused(bench) -> None:
    suite = load_suite(str(bench.suite))
    spec = suite.table("mine")
    rows = tuple(row for row in spec.rows if row.name == "two")
    request = Request(
        suite,
        bench.folder / "out",
        "x",
        {"work": bench.folder / "work", "data": bench.data, "device": "cpu"},
        type(spec)(spec.key, "", spec.groups, rows),
        quiet=True,
    )
    with pytest.raises(LsnError, match="three classes, found 2"):
        figures.draw_figure(3, request)


# Figure 2


def test_figure_2_learns_and_looks(bench) -> None:
    found = ask(bench, 2)
    prompts = [row["prompt"] for row in found.rows if row["class"] == "class 0"]
    assert prompts[:2] == ["positive", "negative 1"]
    assert {row["class"] for row in found.rows} == {"class 0", "class 1", "class 2"}
    assert all(path.is_file() for path in found.files)
    assert len(rows_of(found.files[2])) == len(found.rows)


def once_dry(*args, dry: bool, **given):
    """``measure_table``, where nothing may be learned."""
    assert dry
    return measure_table(*args, dry=dry, **given)


def test_figure_2_needs_images_before_it_learns_and_fixed_prompts(bench, tmp_path, monkeypatch) -> None:
    ask(bench, 2)
    with pytest.raises(LsnError, match="there is no --data DIR"):
        ask(bench, 2, tmp_path, options={"data": None})
    monkeypatch.setattr("lsncli.bench.figures.request.measure_table", once_dry)
    with pytest.raises(LsnError, match=r"no .*in-test\.tar or folder"):
        ask(bench, 2, tmp_path, options={"data": tmp_path})
    with pytest.raises(UsageError, match="by CoOp"):
        ask(bench, 2, tmp_path, rows=("MSP",))


# Histograms and ROC of a table


def test_every_measured_row_of_a_table_is_drawn_from_the_scores_it_was_measured_by(bench, tmp_path) -> None:
    table, plan = run_suite(bench.suite, bench.folder / "work", bench.data)
    files = draw_rows(plan, tmp_path, quiet=True)
    measured = [name for name, cells in table.rows.items() if cells["Places/auroc"].mean is not None]
    assert len(files) == len(measured) == 5
    assert {path.name for path in files} >= {"MCM-on-three-classes.png", "two-on-two-of-them.png"}
    roc = rows_of(tmp_path / "MCM-on-three-classes-roc.csv")
    far = [row for row in roc if row["ood"] == "Places"]
    area = np.trapezoid([float(row["tpr"]) for row in far], [float(row["fpr"]) for row in far])
    assert 100 * area == pytest.approx(table.rows["MCM"]["Places/auroc"].mean)
    assert (tmp_path / "MCM-on-three-classes.svg").is_file()


# What figures share


def test_rows_are_spread_over_the_classes() -> None:
    labels = np.repeat(np.arange(10), 2).astype(np.int32)
    split = Split("s", np.ones((20, 2), np.float16), labels, tuple(map(str, range(20))), tuple("abcdefghij"))
    assert spread_rows(split, 4) == [0, 6, 12, 18]
    assert spread_rows(split, 99) == list(range(0, 20, 2))


def test_pictures_that_are_broken_or_gone_are_left_out(bench) -> None:
    source = bench.data / "in-test"
    (source / "class_0" / "broken.png").write_bytes(b"no image")
    try:
        found = load_pictures(
            FolderLayout(source), ["class_0/0.png", "class_0/broken.png", "class_0/gone.png"]
        )
    finally:
        (source / "class_0" / "broken.png").unlink()
    assert list(found) == ["class_0/0.png"]
    assert load_pictures(None, ["x"]) == {}
