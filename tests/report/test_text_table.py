"""Tables for people at any width: every title, text and number stays whole, and no line is too long."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from table_reader import WIDTHS, check_table

from lsncli.report import formats, text_table
from lsncli.report.formats import Column, render
from lsncli.report.text_table import fold, print_columns, text_column, write_table

COLUMNS = [
    Column("path", "Path", wide=True),
    Column("class", "Predicted class"),
    Column("score", "Score", digits=6),
    Column("share", "Held-out ID below it, %", digits=1, percent=True),
    Column("is_ood", "Verdict", words={True: "OOD", False: "ID"}, styles={True: "bold red", False: "green"}),
]
ROWS = [
    {"path": "deep/" * 12 + "photo.jpg", "class": "three-toed woodpecker", "score": 0.25, "is_ood": True},
    {"path": "a.jpg", "class": "n01440764_tench_and_more", "score": -12.5, "share": 1.0, "is_ood": False},
]


@pytest.mark.parametrize("width", [*WIDTHS, 50, 40, 30])
def test_nothing_is_lost_at_any_width(monkeypatch, width: int) -> None:
    assert "OOD" in check_table(ROWS, COLUMNS, width, monkeypatch)


texts = st.text(st.sampled_from("abcdefghij 鳥犬/-_[é"), max_size=40)
numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(
    st.lists(st.tuples(texts, texts, numbers, numbers), max_size=4),
    st.lists(st.tuples(st.text("ABC -", min_size=1, max_size=30), st.booleans()), min_size=4, max_size=4),
    st.integers(12, 120),
)
def test_nothing_is_lost_whatever_the_texts(values, heads, width: int) -> None:
    columns = [
        Column(str(index), f"{index}{title}", digits=2 if index > 1 else None, wide=wide, identifies=wide)
        for index, (title, wide) in enumerate(heads)
    ]
    rows = [{str(index): value for index, value in enumerate(one)} for one in values]
    with pytest.MonkeyPatch.context() as patch:
        check_table(rows, columns, width, patch)


def shown(rows, columns, width: int, monkeypatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    screen = io.StringIO()
    write_table(rows, columns, screen, "")
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_texts_wrap_at_words_before_titles_do_and_numbers_never(monkeypatch) -> None:
    columns = [Column("text", "Text"), Column("n", "Number of images", digits=0)]
    rows = [{"text": "three words here", "n": 123456789}]
    assert shown(rows, columns, 40, monkeypatch) == [
        "Text              Number of images",
        "───────────────── ────────────────",
        "three words here         123456789",
    ]
    assert shown(rows, columns, 25, monkeypatch) == [
        "                Number of",
        "Text               images",
        "─────────────── ─────────",
        "three words     123456789",
        "here",
    ]


def test_blocks_repeat_the_columns_that_identify_a_row(monkeypatch) -> None:
    columns = [
        Column("a", "First", identifies=True),
        Column("n", "A number", digits=0),
        Column("b", "Second", identifies=True),
        *(Column(f"n{i}", f"N{i}", digits=3) for i in range(3)),
    ]
    rows = [{"a": "one", "b": "two", "n": 7} | {f"n{i}": 1.0 + i for i in range(3)}]
    assert shown(rows, columns, 30, monkeypatch) == [
        "First  Second  A number     N0",
        "────── ─────── ───────── ─────",
        "one    two            7  1.000",
        "",
        "First  Second     N1     N2",
        "────── ─────── ────── ─────",
        "one    two     2.000  3.000",
    ]


def test_a_line_per_field_where_no_column_fits_beside_the_first(monkeypatch) -> None:
    columns = [Column("a", "Name"), Column("n", "Number", digits=6), Column("b", "Empty")]
    rows = [{"a": "first of all", "n": 0.5}, {"a": "second", "n": 123.25}]
    assert shown(rows, columns, 14, monkeypatch) == [
        "Name: first of",
        "all",
        "Number:",
        "0.500000",
        "",
        "Name: second",
        "Number:",
        "123.250000",
    ]


def test_a_table_that_fits_is_in_one_block_as_wide_as_its_texts() -> None:
    (block,) = fold([text_column(column, ROWS) for column in COLUMNS], 200)
    assert [size for _, size in block] == [69, 24, 10, 23, 7]


@pytest.mark.parametrize(("no_color", "ood"), [(False, "\x1b[1;31mOOD"), (True, "\x1b[1mOOD")])
def test_styles_are_for_terminals(monkeypatch, no_color: bool, ood: str) -> None:
    screen = Console(
        file=io.StringIO(), force_terminal=True, width=100, color_system="standard", no_color=no_color
    )
    monkeypatch.setattr(text_table, "out", screen)
    write_table(ROWS, COLUMNS, screen.file, "")  # type: ignore[arg-type]
    coloured = screen.file.getvalue()  # type: ignore[attr-defined]
    assert ood in coloured
    assert ("\x1b[32mID" in coloured) == (not no_color)
    monkeypatch.setenv("COLUMNS", "100")
    plain = io.StringIO()
    write_table(ROWS, COLUMNS, plain, "")
    assert "\x1b" not in plain.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_an_empty_line_separates_a_table_from_remarks_on_a_terminal(monkeypatch, terminal) -> None:
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    monkeypatch.setattr(formats, "out", screen)
    monkeypatch.setattr(text_table, "out", screen)
    render(ROWS, COLUMNS, "table")
    assert screen.file.getvalue().endswith("\n\n") == terminal  # type: ignore[attr-defined]


def printed(columns, width: int, sections=()) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, color_system=None)
    print_columns(screen, [text_column(column, ROWS) for column in columns], sections)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_an_empty_line_follows_the_last_row_of_a_section_but_the_last() -> None:
    for sections, gap in (([0, 1], [""]), ([0], [""]), ([1], [])):
        lines = printed(COLUMNS[1:3], 80, sections)
        assert [line[:5] for line in lines] == ["Predi", "─────", "three", *gap, "n0144"]


def test_a_table_is_folded_before_words_are() -> None:
    least = sum(text_column(column, ROWS).least for column in COLUMNS) + 2 * (len(COLUMNS) - 1)
    laid = [text_column(column, ROWS) for column in COLUMNS]
    assert len(fold(laid, least)) == 1
    narrower = fold(laid, least - 1)
    assert len(narrower) == 2
    assert all(size >= column.least for block in narrower for column, size in block)
