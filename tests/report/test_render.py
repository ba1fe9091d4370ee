"""Six formats, one truth: what programs parse is exact, what people read is safe."""

import csv
import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_reader import columns_in

from lsncli.errors import LsnError
from lsncli.report.formats import FORMATS, Column, inert, render
from lsncli.report.text_table import show_aside

COLUMNS = [
    Column("path", "Path", wide=True),
    Column("rate", "Rate↓", digits=1, percent=True),
    Column("count", "n", digits=0),
    Column("is_ood", "OOD"),
]
ROWS = [
    {"path": "a.jpg", "rate": 0.12345, "count": 3, "is_ood": True},
    {"path": "b.jpg", "rate": float("nan"), "count": None, "is_ood": False},
]
NASTY = [
    "two\nlines",
    "a,b",
    'say "hi"',
    "cr\rlf",
    "esc\x1b[31mred",
    "bell\x07 null\x00",
    "lone \udcff byte",
    "csi\x9b2J",
    "rtl\u202etxt",
    "[bold]markup[/]",
    "a|b\\c",
    "=1+1",
    "",
]


def rendered(
    rows, columns=COLUMNS, form: str = "table", tmp_path: Path | None = None, title: str = ""
) -> str:
    assert tmp_path is not None
    path = tmp_path / "out"
    render(rows, columns, form, path, title)
    return path.read_bytes().decode()


def test_every_format_goes_to_stdout_and_to_a_file_alike(tmp_path, capsys) -> None:
    for form in (name for name in FORMATS if not FORMATS[name].binary):
        render(ROWS, COLUMNS, form)
        assert capsys.readouterr().out == rendered(ROWS, form=form, tmp_path=tmp_path)


def test_csv_holds_fractions_and_leaves_out_what_is_missing(tmp_path) -> None:
    text = rendered(ROWS, form="csv", tmp_path=tmp_path)
    assert text == "path,rate,count,is_ood\na.jpg,0.12345,3,True\nb.jpg,,,False\n"


def test_csv_quotes_whatever_a_file_name_holds(tmp_path) -> None:
    text = rendered(
        [{"path": name, "count": i} for i, name in enumerate(NASTY)], form="csv", tmp_path=tmp_path
    )
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    shown = [name.replace("\udcff", "\\udcff").replace("=1+1", "'=1+1") for name in NASTY]
    assert [row["path"] for row in found] == shown
    assert [row["count"] for row in found] == [str(i) for i in range(len(NASTY))]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_csv_comes_back_whatever_the_text(tmp_path_factory, names) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = rendered([{"path": name} for name in names], form="csv", tmp_path=folder)
    assert [row["path"] for row in csv.DictReader(io.StringIO(text, newline=""))] == [*map(inert, names)]


@pytest.mark.parametrize("start", [*"=+-@\t\r\n＝＋－＠"])
def test_csv_holds_no_formula(tmp_path, start: str) -> None:
    name = f'{start}HYPERLINK("http://evil";A1).jpg'
    for form, expected in (("csv", "'" + name), ("jsonl", name), ("json", name)):
        text = rendered([{"path": name}], form=form, tmp_path=tmp_path)
        if form == "csv":
            assert next(csv.DictReader(io.StringIO(text, newline="")))["path"] == expected
        else:
            found = json.loads(text)
            assert (found[0] if form == "json" else found)["path"] == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_only_a_cell_that_could_be_a_formula_is_changed(text: str) -> None:
    shown = inert(text)
    assert shown in (text, "'" + text)
    if shown[0] in "=+-@\t\r\n＝＋－＠":
        float(shown)  # then it is a number


@pytest.mark.parametrize("text", ["-1", "+2.5", "-0.000123", "-1e-05", "a=1", "'=1", "./=1.jpg", ""])
def test_numbers_and_ordinary_texts_are_left_alone(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize("text", ["-1+1", "-", "-inf", "-１", "+cmd|' /C calc'!A0", "--5"])
def test_what_only_begins_like_a_number_is_not(text: str) -> None:
    assert inert(text) == "'" + text


def test_csv_quotes_what_spreadsheets_of_other_countries_split(tmp_path) -> None:
    text = rendered([{"path": "a;=1+1;.jpg"}, {"path": "a\t=1.jpg"}], form="csv", tmp_path=tmp_path)
    assert [line.startswith('"a') for line in text.splitlines()[1:]] == [True, True]


def test_csv_on_a_terminal_moves_no_cursor(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    FORMATS["csv"].write([{"path": name} for name in NASTY], COLUMNS, screen, "")
    assert all(character.isprintable() or character == "\n" for character in screen.getvalue())
    assert len(screen.getvalue().splitlines()) == 1 + len(NASTY)


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_is_strict_and_exact(tmp_path, form: str) -> None:
    rows = [*ROWS, {"path": "inf", "rate": -math.inf}, *({"path": name} for name in NASTY)]
    text = rendered(rows, form=form, tmp_path=tmp_path)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = (
        json.loads(text, parse_constant=refuse)
        if form == "json"
        else [json.loads(line, parse_constant=refuse) for line in text.split("\n")[:-1]]
    )
    assert found[0] == {"path": "a.jpg", "rate": 0.12345, "count": 3, "is_ood": True}
    assert found[1] == {"path": "b.jpg", "rate": None, "count": None, "is_ood": False}
    assert found[2]["rate"] is None
    assert [row["path"] for row in found[3:]] == [name.replace("\udcff", "\\udcff") for name in NASTY]


def test_lines_are_written_as_they_come_to_a_file_that_gets_its_name_at_the_end(tmp_path) -> None:
    path = tmp_path / "out"
    seen = []

    def rows():
        for row in ROWS:
            (unfinished,) = tmp_path.iterdir()
            assert unfinished != path
            seen.append(unfinished.read_text().count("\n"))
            yield row

    render(rows(), COLUMNS, "jsonl", path)
    assert seen == [0, 1]
    path.unlink()
    seen.clear()
    render(rows(), COLUMNS, "csv", path)
    assert seen[1] == 2  # the header and the first row


def test_people_see_rounded_percent_yes_no_and_blanks(tmp_path) -> None:
    assert rendered(ROWS, form="md", tmp_path=tmp_path) == (
        "| Path | Rate↓ | n | OOD |\n|---|---:|---:|---|\n| a.jpg | 12.3 | 3 | yes |\n| b.jpg |  |  | no |\n"
    )


def test_markdown_cells_stay_in_their_cell(tmp_path) -> None:
    lines = rendered([{"path": name} for name in NASTY], form="md", tmp_path=tmp_path).splitlines()
    assert len(lines) == 2 + len(NASTY)
    for line in lines[2:]:
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == len(COLUMNS) + 1
    assert lines[2 + NASTY.index("a|b\\c")].startswith("| a\\|b\\\\c |")


def test_latex_escapes_every_special_character(tmp_path) -> None:
    text = rendered([{"path": "50%_&$#{}~^\\ x", "rate": 0.5}], form="tex", tmp_path=tmp_path)
    assert "Path & Rate$\\downarrow$ & n & OOD \\\\" in text
    assert (
        "50\\%\\_\\&\\$\\#\\{\\}\\textasciitilde{}\\textasciicircum{}\\textbackslash{} x & 50.0 &  &  \\\\"
    ) in text
    assert text.startswith("\\begin{tabular}{lrrl}\n\\toprule\n")
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")


def test_a_table_emits_no_control_character_and_no_markup(tmp_path) -> None:
    text = rendered(
        [{"path": name} for name in NASTY], tmp_path=tmp_path, title="[red]title[/] \x1b[1m".rstrip()
    )
    assert all(character.isprintable() or character == "\n" for character in text.replace("\x1b[1m", ""))
    for shown in (
        "two\\nlines",
        "esc\\x1b[31mred",
        "csi\\x9b2J",
        "rtl\\u202etxt",
        "[bold]markup[/]",
        "lone \\udcff",
    ):
        assert shown in text
    assert "[red]title[/]" in text


@pytest.mark.parametrize("width", [40, 60, 120])
def test_a_table_is_as_wide_as_columns_says(tmp_path, monkeypatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = rendered([{"path": "folder/" * 30 + "name.jpg", "rate": 0.5}], tmp_path=tmp_path)
    widths = [len(line) for line in text.splitlines()]
    assert max(widths) == width
    assert columns_in(text)[:2] == [("Path", "folder/" * 30 + "name.jpg"), ("Rate↓", "50.0")]


@pytest.mark.parametrize("columns", [None, "", "0", "wide", "-5"])
def test_without_a_usable_columns_a_table_is_100_wide(tmp_path, monkeypatch, columns) -> None:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    text = rendered([{"path": "x" * 500}], tmp_path=tmp_path)
    assert max(len(line) for line in text.splitlines()) == 100


def test_a_table_aside_goes_to_stderr(capsys) -> None:
    show_aside(ROWS, COLUMNS)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "a.jpg" in shown.err


def test_no_rows_are_no_trouble(tmp_path) -> None:
    assert rendered([], form="csv", tmp_path=tmp_path) == "path,rate,count,is_ood\n"
    assert json.loads(rendered([], form="json", tmp_path=tmp_path)) == []
    assert rendered([], form="jsonl", tmp_path=tmp_path) == ""
    assert "Path" in rendered([], tmp_path=tmp_path)


def test_output_makes_its_folder_and_says_when_it_cannot(tmp_path, capsys) -> None:
    target = tmp_path / "a" / "b" / "rows.csv"
    render(ROWS, COLUMNS, "csv", target)
    assert target.read_text().startswith("path,")
    assert capsys.readouterr().out == ""
    with pytest.raises(LsnError, match=r"--output .* cannot be written: Is a directory"):
        render(ROWS, COLUMNS, "csv", tmp_path)
    with pytest.raises(LsnError, match="cannot be written"):
        render(ROWS, COLUMNS, "csv", target / "below-a-file")


def test_a_key_that_a_row_lacks_is_blank(tmp_path) -> None:
    assert rendered([{}], form="csv", tmp_path=tmp_path).splitlines()[1] == ",,,"
    assert json.loads(rendered([{}], form="jsonl", tmp_path=tmp_path)) == dict.fromkeys(
        ("path", "rate", "count", "is_ood")
    )


def test_an_optional_column_is_left_out_of_a_table_without_a_value(tmp_path) -> None:
    columns = [*COLUMNS, Column("error", "Because", optional=True)]
    for form in ("table", "md", "tex"):
        assert "Because" not in rendered(iter(ROWS), columns, form, tmp_path)
        assert "Because" in rendered([*ROWS, {"path": "c.jpg", "error": "gone"}], columns, form, tmp_path)
    assert ",error\n" in rendered(ROWS, columns, "csv", tmp_path)


def test_tsv_is_csv_with_tabs(tmp_path: Path) -> None:
    rows = [{"path": name, "rate": 0.25, "count": number} for number, name in enumerate(NASTY)]
    found = {
        form: list(
            csv.reader(io.StringIO(rendered(rows, form=form, tmp_path=tmp_path), newline=""), delimiter=mark)
        )
        for form, mark in (("csv", ","), ("tsv", "\t"))
    }
    assert found["tsv"] == found["csv"]
    assert len(found["tsv"]) == len(NASTY) + 1
    assert "\t0.25\t" in rendered(rows, form="tsv", tmp_path=tmp_path)


@pytest.mark.parametrize("form", ["table", "md", "tex", "csv", "json", "jsonl", "tsv"])
def test_people_see_details_only_if_asked(tmp_path, form: str) -> None:
    columns = [*COLUMNS, Column("more", "More", digits=3, detail=True)]
    rows = [row | {"more": 0.625} for row in ROWS]
    path = tmp_path / "out"
    shown = {}
    for wide in (False, True):
        render(rows, columns, form, path, wide=wide)
        shown[wide] = "0.625" in path.read_text()
    assert shown == {False: not FORMATS[form].people, True: True}
