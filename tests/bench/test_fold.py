"""Folding results: means and spreads by hand, what is missing and why, whose images they are."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench_samples import run_suite, write_suite

from lsncli.bench import costs, measured_view
from lsncli.bench.measured_table import Cell, _cell, is_published_set, measure_table
from lsncli.bench.measured_view import print_table
from lsncli.bench.results import mean_and_spread
from lsncli.bench.suite_toml import load_suite


def test_mean_and_spread_are_those_of_a_sample() -> None:
    assert mean_and_spread([0.2, 0.4, 0.9]) == (0.5, pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2)))
    assert mean_and_spread([0.3]) == (0.3, None)


def test_a_cell_is_the_mean_over_splits_and_seeds_in_percent() -> None:
    values = [{(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.6}]
    cell = _cell(values, 25.0, True, "", "")
    assert cell.mean == pytest.approx(30)
    assert cell.spread == pytest.approx(math.sqrt((400 + 100 + 0 + 900) / 3))
    assert (cell.n, cell.of) == (4, 4)
    assert (cell.published, cell.difference) == (25.0, pytest.approx(5))


def test_an_average_is_taken_over_groups_first_so_that_its_spread_is_over_seeds() -> None:
    values = [{(0, 0): 0.1, (0, 1): 0.3}, {(0, 0): 0.5, (0, 1): 0.1}]
    cell = _cell(values, None, True, "", "")
    assert cell.mean == pytest.approx(25)  # of 30 and 20
    assert cell.spread == pytest.approx(math.sqrt(50))
    assert (cell.n, cell.difference) == (2, None)


def test_an_average_over_groups_of_different_splits_weighs_groups_equally() -> None:
    cell = _cell([{(0, 0): 0.2, (1, 0): 0.4}, {(0, 0): 0.9}], None, True, "", "")
    assert cell.mean == pytest.approx(60)
    assert cell.spread is None


def test_an_average_without_one_of_its_groups_is_missing() -> None:
    cell = _cell([{(0, 0): 0.2}, {(0, 0): None}], 12.0, True, "not yet", "lsn bench")
    assert cell == Cell(of=2, published=12.0, why_missing="not yet", command="lsn bench")


def test_a_mean_over_some_of_the_splits_says_so() -> None:
    cell = _cell([{(0, 0): 0.2, (1, 0): None, (2, 0): 0.4}], None, True, "killed", "lsn bench")
    assert cell.mean == pytest.approx(30)
    assert cell.why_missing == "2 of 3 measured: killed"
    assert cell.command == "lsn bench"


def test_numbers_on_other_images_have_no_difference() -> None:
    assert _cell([{(0, 0): 0.2}], 25.0, False, "", "").difference is None


def test_stand_ins_are_told_from_the_papers_images() -> None:
    mini = load_suite("mini")
    assert is_published_set(mini, "cifar10-test")
    assert not is_published_set(mini, "plants-flowers")


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 8, 9, 10, 11])
def test_every_table_of_the_mini_suite_has_the_papers_rows_and_numbers(number: int, tmp_path: Path) -> None:
    mini = load_suite("mini")
    table, plan = measure_table(mini, mini.table(number), work=tmp_path, dry=True)
    assert table.published is not None
    assert [column.key for column in table.columns] == [one.key for one in table.published.columns]
    for row in table.published.rows:
        cells = table.rows[row.name]
        assert {
            key: cell.published for key, cell in cells.items() if cell.published is not None
        } == row.values
        assert all(cell.why_missing for cell in cells.values())
        assert all(bool(cell.command) != (row.name in plan.skipped) for cell in cells.values())
        assert (row.name in plan.skipped) == (row.name not in {one.row.name for one in plan.scores})


def test_the_later_table_compares_numbers_of_one_convention(tmp_path: Path) -> None:
    mini = load_suite("mini")
    table, _ = measure_table(mini, mini.table("later"), work=tmp_path, dry=True)
    assert table.published is not None
    assert [one.metric for one in table.columns[:3]] == ["fpr95", "fpr95_ood", "auroc"]
    printed = {row.name: row.values for row in table.published.rows}
    for name, cells in table.rows.items():
        found = {key: cell.published for key, cell in cells.items() if cell.published is not None}
        assert found == printed.get(name, {})
    rows, columns = measured_view.to_display_rows(table)
    titles = {column.key: column.title for column in columns}
    assert titles["fpr95/measured"] == "FPR95 ID+↓"
    assert titles["fpr95_ood/measured"] == "FPR95 OOD+↓"
    assert titles["auroc/published"] == "published"
    assert {row["row"] for row in rows} == set(table.rows)
    tidy = list(measured_view.to_rows(table))
    assert all(row["note"].startswith("reduced") for row in tidy if row["row"] == "NegLabel")
    assert all(not row["note"] for row in tidy if row["row"] == "MCM")


def test_only_table_3_of_the_mini_suite_is_on_the_papers_images(tmp_path: Path) -> None:
    mini = load_suite("mini")
    tables = {key: measure_table(mini, spec, work=tmp_path, dry=True)[0] for key, spec in mini.tables.items()}
    assert [key for key, table in tables.items() if not table.stand_in] == ["3"]


def test_what_people_see_fits_a_hundred_columns(tmp_path: Path, capsys) -> None:
    from lsncli.report.formats import render

    mini = load_suite("mini")
    for key, spec in mini.tables.items():
        table, plan = measure_table(mini, spec, work=tmp_path, dry=True)
        rows, columns = measured_view.to_display_rows(table)
        render(rows, columns, "table", title=measured_view.headline(table))
        slow = SimpleNamespace(images=lambda *_: 0.01, learning=lambda *_: 1e9, scoring=lambda *_: 1e9)
        render(costs.cost_rows_with_totals(costs.estimate_costs(plan, slow)), costs.FOR_PEOPLE, "table")
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= 100, key
        assert "…" not in shown, key


def test_csv_has_one_number_a_row_and_wide_has_every_column(tmp_path: Path) -> None:
    mini = load_suite("mini")
    table, _ = measure_table(mini, mini.table(1), work=tmp_path, dry=True)
    rows = list(measured_view.to_rows(table))
    assert len(rows) == len(table.rows) * len(table.columns)
    assert rows[0]["published"] == 18.13
    frame = measured_view.to_frame(table)
    assert (frame.columns[0], len(frame), frame["published"][0]) == ("suite", len(rows), 18.13)
    wide, columns = measured_view.to_wide_rows(table)
    assert [row["row"] for row in wide] == list(table.rows)
    assert wide[0]["Average/fpr95/published"] == 32.58
    assert columns[2].key == "Average/fpr95/measured"  # the average first
    assert {column.key for column in columns} == set(wide[0])


def test_a_cell_without_a_number_says_what_fills_it(tmp_path: Path, tiny_model: str) -> None:
    table, _ = run_suite(write_suite(tmp_path, tiny_model), tmp_path / "work", dry=True)
    lines = measured_view.footer(table)
    every = "MCM, MSP, broken, CoOp, CoOp + LSN (ours), two"
    assert lines[0] == f"{every}: not measured yet. Fill in with: lsn bench --table mine --suite noise"
    assert lines[1] == "elsewhere: There are no weights."
    command = table.rows["CoOp + LSN (ours)"]["Near/auroc"].command
    assert command == "lsn bench --table mine --suite noise --rows 'CoOp + LSN (ours)'"
    assert any(line.startswith("Measured on stand-ins. ID: three classes") for line in lines)


@pytest.mark.parametrize("format_name", ["table", "md", "tex", "csv", "json", "jsonl"])
@pytest.mark.parametrize("wide_rows", [False, True])
def test_every_format_shows_every_row(tmp_path: Path, format_name: str, wide_rows: bool) -> None:
    mini = load_suite("mini")
    table, _ = measure_table(mini, mini.table(1), work=tmp_path, dry=True)
    file = tmp_path / "out"
    print_table(table, format_name, file, wide_rows=wide_rows)
    text = file.read_text()
    assert all(name in text for name in ("MCM", "CoCoOp + LSN", "32.58"))
    if format_name in ("table", "md", "tex"):
        assert "Measured on stand-ins. ID: Imagenette" in " ".join(text.split())
    if format_name == "table":
        assert max(map(len, text.splitlines())) <= 100 or wide_rows
