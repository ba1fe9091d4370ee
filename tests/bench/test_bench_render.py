"""Tables as people and programs get them: they fit, they parse, and nothing is lost or made up on the way."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from lsncli.bench.published_table import (
    groups,
    headline,
    list_tables,
    print_table,
    sections,
    text_columns,
)
from lsncli.reference.published import (
    MARKS,
    METRICS,
    TABLES,
    PublishedColumn,
    PublishedRow,
    PublishedTable,
    load_table,
)
from lsncli.report import formats as report_render
from lsncli.report import text_table
from lsncli.report.text_table import fold

every_table = pytest.mark.parametrize("key", TABLES)


@pytest.fixture
def rendered(tmp_path: Path):
    """Call it with a table (or its number), a format and options for the text that is written."""

    def run(what: int | str | PublishedTable, form: str, **options: bool) -> str:
        path = tmp_path / "out"
        print_table(what if isinstance(what, PublishedTable) else load_table(what), form, path, **options)
        return path.read_text(encoding="utf-8")

    return run


def numbers(text: str) -> list[str]:
    """The numbers with two digits, in order."""
    return re.findall(r"(?<![\d.])\d+\.\d\d(?![\d.])", text)


def printed(found: PublishedTable) -> list[str]:
    """Every number of a table, line by line."""
    return [f"{row.values[c.key]:.2f}" for row in found.rows for c in found.columns if c.key in row.values]


@every_table
@pytest.mark.parametrize("columns", [100, 80, 60])
def test_tables_fit_the_terminal(rendered, monkeypatch, key: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = rendered(key, "table")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= columns
    assert "…" not in text
    body = text.split("Published numbers")[0]
    assert sorted(numbers(body)) == sorted(printed(load_table(key)))


@every_table
def test_every_table_is_in_one_piece_at_100_columns(rendered, key: str) -> None:
    assert len(fold(text_columns(load_table(key)), 100)) == 1
    body = rendered(key, "table").split("─\n")[1].split("\nPublished")[0]
    lines = [line for line in body.splitlines() if line.strip()]
    for row, line in zip(load_table(key).rows, lines, strict=True):
        name = row.name + "".join(row.marks)
        assert line.startswith(name + " ")
        cells = [f"{row.values[c.key]:.2f}" if c.key in row.values else "-" for c in load_table(key).columns]
        assert line.removeprefix(name).split() == cells


def test_narrow_terminals_get_the_groups_in_successive_blocks() -> None:
    found = load_table(1)
    names, *numbers = text_columns(found)
    assert len(numbers) == len(groups(found.columns))
    for room in range(25, 110, 5):
        folded = fold([names, *numbers], room)
        assert all(block[0][0] is names for block in folded)
        assert [column for block in folded for column, _ in block[1:]] == numbers
    assert [len(block) for block in fold([names, *numbers], 80)] == [5, 3]
    assert [len(block) for block in fold([names, *numbers], 25)] == [2] * 6


def test_where_even_one_group_is_too_wide_names_break_and_numbers_do_not(rendered, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    text = rendered(4, "table")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 30
    assert sorted(numbers(text.split("Published")[0])) == sorted(printed(load_table(4)))


def test_the_best_are_bold_on_a_terminal(monkeypatch) -> None:
    screen = Console(
        file=io.StringIO(), force_terminal=True, width=100, highlight=False, color_system="standard"
    )
    monkeypatch.setattr(text_table, "out", screen)
    monkeypatch.setattr(report_render, "out", screen)
    print_table(load_table(9), "table")
    bold = []
    for line in screen.file.getvalue().splitlines():  # type: ignore[attr-defined]
        text = Text.from_ansi(line)
        bold += [
            text.plain[span.start : span.end].strip()
            for span in text.spans
            if getattr(span.style, "bold", False)
        ]
    assert [one for one in bold if one in numbers(" ".join(bold))] == [
        f"{row.values[c.key]:.2f}"
        for row in load_table(9).rows
        for c in load_table(9).columns
        if c.key in row.bold
    ]


@every_table
@pytest.mark.parametrize("form", ["table", "md", "tex"])
def test_the_footer_says_what_a_reader_must_know(rendered, key: str, form: str) -> None:
    found = load_table(key)
    text = " ".join(rendered(key, form).split())
    assert found.title in text
    assert f"Published numbers, in percent. ID: {found.id_set}. Backbone: {found.backbone}." in text
    if found.of_the_paper:
        assert "Lower is better: FPR95. Higher is better: AUROC" in text
        assert f"ICLR 2024, Table {key}." in text
    else:
        assert "Lower is better: FPR95 ID+, FPR95 OOD+. Higher is better: AUROC" in text
        for row in found.rows:
            assert f"{row.source}." in text
    for note in found.notes:
        assert (report_render.latex_text(note) if form == "tex" else note) in text
    assert ("quoted from the method's own paper" in text) == any(row.marks for row in found.rows)
    assert ("block of rows" in text) == (key in ("5", "9", "11", "later"))


@every_table
def test_markdown_has_a_line_a_row_and_bold_cells(rendered, key: str) -> None:
    found = load_table(key)
    lines = [line for line in rendered(key, "md").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert {len(line) for line in cells} == {1 + len(found.columns)}
    assert cells[0][:2] == ["Methods", f"{found.columns[0].group} {found.title_of('fpr95')}↓"]
    assert "AUROC↑" in cells[0][-1] or "ID ACC↑" in cells[0][-1]
    assert cells[1] == ["---"] + ["---:"] * len(found.columns)
    for row, line in zip(found.rows, cells[2:], strict=True):
        assert line[0] == row.name + "\\*" * len(row.marks)
        for c, cell in zip(found.columns, line[1:], strict=True):
            plain = f"{row.values[c.key]:.2f}" if c.key in row.values else "-"
            assert cell == (f"**{plain}**" if c.key in row.bold else plain)


def logical_cells(line: str) -> int:
    """How many columns a line of a tabular fills."""
    spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans)


@every_table
def test_latex_is_balanced_and_every_line_fills_its_columns(rendered, key: str) -> None:
    found = load_table(key)
    text = rendered(key, "tex")
    assert re.findall(r"\\(begin|end)\{(\w+)\}", text) == [
        ("begin", "table"),
        ("begin", "tabular"),
        ("end", "tabular"),
        ("end", "table"),
    ]
    depth = 0
    for sign in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert text.isascii()
    assert not re.search(r"(?<!\\)[%#_~^]", text.split("\n", 1)[1])
    (spec,) = re.findall(r"\\begin\{tabular\}\{([lr ]+)\}", text)
    assert spec.replace(" ", "") == "l" + "r" * len(found.columns)
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 2 + len(found.rows)
    assert {logical_cells(line) for line in lines} == {1 + len(found.columns)}
    assert text.count(r"\midrule" + "\n") == len(sections(found.rows))
    spans = [(int(a), int(b)) for a, b in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", text)]
    two = [(first, first + 1) for first in range(2, 12, 2)]
    assert spans == (two if found.of_the_paper else [(2, 4)])
    bold = re.findall(r"\\textbf\{([\d.]+)\}", text)
    assert bold == [f"{r.values[c.key]:.2f}" for r in found.rows for c in found.columns if c.key in r.bold]


@every_table
def test_json_holds_the_whole_table(rendered, key: str) -> None:
    got = json.loads(rendered(key, "json"))
    again = PublishedTable(
        key=got["table"],
        title=got["title"],
        id_set=got["id_set"],
        backbone=got["backbone"],
        columns=tuple(PublishedColumn(one["group"], one["metric"], one["key"]) for one in got["columns"]),
        rows=tuple(
            PublishedRow(
                one["name"],
                tuple(one["marks"]),
                {key: value for key, value in one["values"].items() if value is not None},
                frozenset(one["bold"]),
                one["section"],
                one["source"],
            )
            for one in got["rows"]
        ),
        notes=tuple(got["notes"]),
    )
    assert again == load_table(key)
    assert got["unit"] == "percent"
    assert ("ICLR 2024" in got["source"]) == load_table(key).of_the_paper
    assert set(got["marks"]) == {mark for row in load_table(key).rows for mark in row.marks} <= set(MARKS)


def texts(found: PublishedTable) -> list[str]:
    """The columns of text before the numbers."""
    return ["table", "row", "marks", "section", *([] if found.of_the_paper else ["source"])]


@every_table
def test_csv_and_jsonl_hold_one_number_a_row(rendered, key: str) -> None:
    found = load_table(key)
    lines = list(csv.DictReader(io.StringIO(rendered(key, "csv"))))
    assert list(lines[0]) == [*texts(found), "group", "metric", "value"]
    assert [line["value"] for line in lines] == printed(found)
    assert {line["metric"] for line in lines} <= set(METRICS)
    records = [json.loads(line) for line in rendered(key, "jsonl").splitlines()]
    assert [record | {"value": f"{record['value']:.2f}"} for record in records] == lines
    assert all(isinstance(record["value"], float) for record in records)


@every_table
def test_wide_rows_hold_one_row_of_the_table_each(rendered, key: str) -> None:
    found = load_table(key)
    lines = list(csv.DictReader(io.StringIO(rendered(key, "csv", wide_rows=True))))
    assert list(lines[0]) == [*texts(found), *(one.key for one in found.columns)]
    assert [(line["row"], line["section"]) for line in lines] == [
        (row.name, row.section) for row in found.rows
    ]
    assert [line[c.key] for line in lines for c in found.columns if line[c.key]] == printed(found)
    records = [json.loads(line) for line in rendered(key, "jsonl", wide_rows=True).splitlines()]
    assert [{c.key: record[c.key] for c in found.columns} for record in records] == [
        {c.key: row.values.get(c.key) for c in found.columns} for row in found.rows
    ]


def test_names_from_anywhere_cannot_break_a_table(rendered) -> None:
    found = load_table(7)
    nasty = "a|b\\c & 50% [bold]x[/] \x1b[31mred\n*star*"
    broken = replace(found, rows=(replace(found.rows[0], name=nasty), *found.rows[1:]))
    plain = rendered(broken, "table")
    assert "\x1b" not in plain
    assert "[bold]x[/]" in plain
    lines = [line for line in rendered(broken, "md").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(found.rows)
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {3 + len(found.columns)}
    assert "\\*star\\*" in lines[2]
    (line,) = [line for line in rendered(broken, "tex").splitlines() if "bold" in line]
    assert logical_cells(line) == 1 + len(found.columns)
    assert r"50\%" in line
    assert next(csv.DictReader(io.StringIO(rendered(broken, "csv"))))["row"] == nasty


def test_stdout_and_a_file_get_the_same(rendered, capsys) -> None:
    for form in (name for name, one in report_render.FORMATS.items() if not one.binary):
        print_table(load_table(3), form)
        assert capsys.readouterr().out == rendered(3, form)


def test_the_listing_names_every_table() -> None:
    found = list(list_tables())
    assert [one["table"] for one in found] == list(TABLES)
    assert [f"Table {one['table']}: {one['title']}" for one in found] == [
        headline(load_table(key)) for key in TABLES
    ]
    assert [one["rows"] for one in found] == [len(load_table(key).rows) for key in TABLES]
