"""A published table in every output format: for people in blocks that fit, for programs row by row."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from lsncli.console import out, printable
from lsncli.reference.published import (
    MARKS,
    METRICS,
    MISSING,
    NUMBERS,
    SOURCE,
    PublishedColumn,
    PublishedRow,
    PublishedTable,
    load_table,
)
from lsncli.registry import load
from lsncli.report import formats as rows_of
from lsncli.report.formats import (
    FORMATS,
    latex_line,
    latex_text,
    markdown_line,
    markdown_paragraph,
    markdown_text,
    target,
    width,
)

DIGITS = 2
"""Digits after the point of every number in the paper."""

Record = dict[str, Any]


def format_value(row: PublishedRow, column: PublishedColumn) -> str:
    """A number with the paper's digits, or the paper's dash where the row has none."""
    value = row.values.get(column.key)
    return MISSING if value is None else f"{value:.{DIGITS}f}"


def groups(columns: tuple[PublishedColumn, ...]) -> list[tuple[str, tuple[PublishedColumn, ...]]]:
    """Neighbouring columns of one group, with its name."""
    return [(name, tuple(inside)) for name, inside in groupby(columns, lambda one: one.group)]


def sections(rows: tuple[PublishedRow, ...]) -> list[tuple[PublishedRow, ...]]:
    """Neighbouring rows of one section."""
    return [tuple(inside) for _, inside in groupby(rows, lambda one: one.section)]


def to_rows(table: PublishedTable) -> Iterator[Record]:
    """One number a row, in percent; numbers that the paper leaves out have none."""
    for row in table.rows:
        for column in table.columns:
            if column.key in row.values:
                yield {
                    "table": table.number,
                    "row": row.name,
                    "marks": " ".join(row.marks),
                    "section": row.section,
                    "group": column.group,
                    "metric": column.metric,
                    "value": row.values[column.key],
                }


def to_wide_rows(table: PublishedTable) -> Iterator[Record]:
    """One row a row of the table, in percent; None where the paper leaves a number out."""
    for row in table.rows:
        yield {
            "table": table.number,
            "row": row.name,
            "marks": " ".join(row.marks),
            "section": row.section,
            **{column.key: row.values.get(column.key) for column in table.columns},
        }


def to_record(table: PublishedTable) -> Record:
    """The whole table as one JSON object; ``values`` in percent, None where the paper leaves a number out."""
    return {
        "table": table.number,
        "title": table.title,
        "id_set": table.id_set,
        "backbone": table.backbone,
        "unit": "percent",
        "source": SOURCE,
        "marks": MARKS if any(row.marks for row in table.rows) else {},
        "notes": list(table.notes),
        "columns": [{"key": one.key, "group": one.group, "metric": one.metric} for one in table.columns],
        "rows": [
            {
                "name": row.name,
                "marks": list(row.marks),
                "section": row.section,
                "values": {column.key: row.values.get(column.key) for column in table.columns},
                "bold": [column.key for column in table.columns if column.key in row.bold],
            }
            for row in table.rows
        ],
    }


def headline(table: PublishedTable) -> str:
    """The caption with the table's number."""
    return f"Table {table.number}: {table.title}"


def footer(table: PublishedTable) -> list[str]:
    """What a reader must know, a paragraph each: data, directions, meaning of marks, notes, source."""
    metrics = [METRICS[key] for key in dict.fromkeys(one.metric for one in table.columns)]
    higher = ", ".join(one.title for one in metrics if one.higher_is_better)
    lower = ", ".join(one.title for one in metrics if not one.higher_is_better)
    block = " and block of rows" if len(sections(table.rows)) > 1 else ""
    signs = [mark for mark in MARKS if any(mark in row.marks for row in table.rows)]
    return [
        f"Published numbers, in percent. ID: {table.id_set}. Backbone: {table.backbone}.",
        f"Lower is better: {lower}. Higher is better: {higher}. Bold: best of its column{block}.",
        *(f"{sign} {MARKS[sign]}." for sign in signs),
        *table.notes,
        f"Source: {SOURCE}, Table {table.number}.",
    ]


def list_tables() -> Iterator[Record]:
    """What tables there are."""
    for number in NUMBERS:
        one = load_table(number)
        yield {
            "table": number,
            "title": one.title,
            "id_set": one.id_set,
            "backbone": one.backbone,
            "rows": len(one.rows),
        }


NAMES = "Methods"
GAP = 2
Group = tuple[str, tuple[PublishedColumn, ...]]


def print_table(
    table: PublishedTable, format_name: str, output: Path | None = None, *, wide_rows: bool = False
) -> None:
    """Write a table to stdout or to ``output``.

    A format lays the table out in its own way (``Format.published``), or writes it as rows: for people a line
    for each row, with the footer below; for programs one number a row, or with ``wide_rows`` one row a row of
    the table. Values are percent, with the paper's digits. Raises as ``report.formats.render``.
    """
    form = FORMATS[format_name]
    with target(output, format_name) as file:
        if form.published:
            load(form.published)(table, file)
        elif form.people:
            columns = [
                rows_of.Column(one.key, f"{one.group} {_arrowed(one)}".strip(), DIGITS)
                for one in table.columns
            ]
            rows = (
                {**one, "row": _name(row)} for one, row in zip(to_wide_rows(table), table.rows, strict=True)
            )
            form.write(rows, [rows_of.Column("row", NAMES), *columns], file, headline(table))
            file.writelines(form.paragraph(printable(paragraph)) for paragraph in footer(table))
        else:
            form.write(*_rows(table, form.typed, wide_rows), file, headline(table))


def has_rows(format_name: str) -> bool:
    """Whether a format writes a published table as rows, which can be wide or tidy."""
    form = FORMATS[format_name]
    return not form.people and not form.published


def _rows(
    table: PublishedTable, typed: bool, wide_rows: bool
) -> tuple[Iterable[Record], list[rows_of.Column]]:
    found: Iterable[Record] = to_wide_rows(table) if wide_rows else to_rows(table)
    if not typed:
        found = (
            {key: f"{value:.{DIGITS}f}" if isinstance(value, float) else value for key, value in one.items()}
            for one in found
        )
    numbers = [column.key for column in table.columns] if wide_rows else ["value"]
    texts = ["row", "marks", "section", *([] if wide_rows else ["group", "metric"])]
    return found, [
        rows_of.Column("table", "table", digits=0),
        *(rows_of.Column(key, key) for key in texts),
        *(rows_of.Column(key, key, DIGITS) for key in numbers),
    ]


def write_object(table: PublishedTable, file: TextIO) -> None:
    """Write a table as one JSON object with everything."""
    file.write(json.dumps(to_record(table), indent=1) + "\n")


def write_blocks(table: PublishedTable, file: TextIO) -> None:
    """Write a table in blocks that fit the width, with a footer."""
    live = file is out.file and out.is_terminal
    console = out if live else Console(file=file, width=width())
    console.print(Text(printable(headline(table)), style="italic"))
    for block in blocks(table, console.width):
        console.print()
        console.print(_grid(table, block))
    console.print()
    for paragraph in footer(table):
        console.print(Text(printable(paragraph)))


def blocks(table: PublishedTable, room: int) -> list[list[Group]]:
    """The column groups in runs that fit ``room`` columns beside the rows' names, at least one a run."""
    left = room - max(cell_len(text) for text in (NAMES, *map(_name, table.rows)))
    found: list[list[Group]] = [[]]
    used = 0
    for group in groups(table.columns):
        widths = _widths(group, table)
        needed = GAP + max(cell_len(printable(group[0])), sum(widths) + len(widths) - 1)
        if found[-1] and used + needed > left:
            found.append([])
            used = 0
        found[-1].append(group)
        used += needed
    return found


def _widths(group: Group, table: PublishedTable) -> list[int]:
    """Characters of each column of numbers; one stands between two of them."""
    return [
        max(len(METRICS[column.metric].title), *(len(format_value(row, column)) for row in table.rows))
        for column in group[1]
    ]


def _grid(table: PublishedTable, block: Sequence[Group]) -> Grid:
    """A block: every group is one column of the grid, so that its name stands over all of its numbers."""
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    grid.add_column(f"\n{NAMES}", overflow="fold")  # where even one group is too wide, names give way
    for group in block:
        titles = (METRICS[column.metric].title for column in group[1])
        below = " ".join(one.rjust(size) for one, size in zip(titles, _widths(group, table), strict=True))
        title = Text(f"{printable(group[0])}\n{below}", justify="center")
        grid.add_column(title, justify="right", no_wrap=True)
    for section in sections(table.rows):
        for row in section:
            grid.add_row(Text(_name(row)), *(_numbers(row, group, table) for group in block))
        grid.add_section()
    return grid


def _numbers(row: PublishedRow, group: Group, table: PublishedTable) -> Text:
    """The numbers of a row in a group, aligned, the best ones bold."""
    text = Text()
    for column, size in zip(group[1], _widths(group, table), strict=True):
        text.append(" " if text else "")
        text.append(format_value(row, column).rjust(size), style="bold" if column.key in row.bold else "")
    return text


def _name(row: PublishedRow) -> str:
    return printable(row.name) + "".join(row.marks)


def _arrowed(column: PublishedColumn) -> str:
    metric = METRICS[column.metric]
    return metric.title + ("↑" if metric.higher_is_better else "↓")


def write_markdown(table: PublishedTable, file: TextIO) -> None:
    """Write a table in Markdown, with a footer."""
    file.writelines(_markdown(table))


def write_latex(table: PublishedTable, file: TextIO) -> None:
    """Write a table in LaTeX, with the footer in its caption."""
    file.writelines(_latex(table))


def _markdown(table: PublishedTable) -> Iterator[str]:
    yield f"**{markdown_text(headline(table))}**\n\n"
    titles = (markdown_text(f"{one.group} {_arrowed(one)}".strip()) for one in table.columns)
    yield markdown_line([NAMES, *titles])
    yield "|---|" + "---:|" * len(table.columns) + "\n"
    for row in table.rows:
        cells = (
            f"**{format_value(row, one)}**" if one.key in row.bold else format_value(row, one)
            for one in table.columns
        )
        yield markdown_line([markdown_text(_name(row)), *cells])
    for paragraph in footer(table):
        yield markdown_paragraph(paragraph)


def _latex(table: PublishedTable) -> Iterator[str]:
    over = groups(table.columns)
    yield "% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n"
    yield f"\\caption{{{latex_text(' '.join([table.title, *footer(table)]))}}}\n"
    yield "\\small\n\\setlength{\\tabcolsep}{3pt}\n"
    yield "\\begin{tabular}{l" + "".join(" " + "r" * len(inside) for _, inside in over) + "}\n\\toprule\n"
    yield latex_line(
        ["", *(f"\\multicolumn{{{len(inside)}}}{{c}}{{{latex_text(name)}}}" for name, inside in over)]
    )
    yield "".join(_rules(over)) + "\n"
    yield latex_line([NAMES, *(latex_text(_arrowed(one)) for one in table.columns)])
    for section in sections(table.rows):
        yield "\\midrule\n"
        for row in section:
            cells = (
                f"\\textbf{{{format_value(row, one)}}}" if one.key in row.bold else format_value(row, one)
                for one in table.columns
            )
            name = latex_text(row.name) + "".join(
                f"\\textsuperscript{{{latex_text(mark)}}}" for mark in row.marks
            )
            yield latex_line([name, *cells])
    yield "\\bottomrule\n\\end{tabular}\n\\end{table}\n"


def _rules(over: Sequence[Group]) -> Iterator[str]:
    """A short rule under the name of each group; columns are counted from 1, and the names are the first."""
    first = 2
    for name, inside in over:
        if name:
            yield f"\\cmidrule(lr){{{first}-{first + len(inside) - 1}}}"
        first += len(inside)
