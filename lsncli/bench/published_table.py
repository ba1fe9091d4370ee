"""Published tables in every output format: blocks that fit the terminal for people, rows for programs."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len
from rich.text import Text

from lsncli.console import printable
from lsncli.reference.published import (
    MARKS,
    METRICS,
    MISSING,
    SOURCE,
    TABLES,
    PublishedColumn,
    PublishedRow,
    PublishedTable,
    load_table,
)
from lsncli.registry import load
from lsncli.report.formats import (
    FORMATS,
    Column,
    latex_line,
    latex_text,
    markdown_line,
    markdown_paragraph,
    markdown_text,
    target,
)
from lsncli.report.text_table import TIGHT, TextColumn, console_for, print_columns, width_of

DIGITS = 2
"""Digits after the decimal point, as in the paper."""

Record = dict[str, Any]


def format_value(row: PublishedRow, column: PublishedColumn) -> str:
    """Return a number with the paper's digits, or the paper's dash for a missing one."""
    value = row.values.get(column.key)
    return MISSING if value is None else f"{value:.{DIGITS}f}"


def groups(columns: tuple[PublishedColumn, ...]) -> list[tuple[str, tuple[PublishedColumn, ...]]]:
    """Return the name and the columns of each group of neighbouring columns."""
    return [(name, tuple(inside)) for name, inside in groupby(columns, lambda column: column.group)]


def sections(rows: tuple[PublishedRow, ...]) -> list[tuple[PublishedRow, ...]]:
    """Return the rows of each section of neighbouring rows."""
    return [tuple(inside) for _, inside in groupby(rows, lambda row: row.section)]


def to_rows(table: PublishedTable) -> Iterator[Record]:
    """Yield a tidy row for each published number, in percent; missing numbers are left out."""
    for row in table.rows:
        for column in table.columns:
            if column.key in row.values:
                yield {
                    **_facts(table, row),
                    "group": column.group,
                    "metric": column.metric,
                    "value": row.values[column.key],
                }


def to_wide_rows(table: PublishedTable) -> Iterator[Record]:
    """Yield a row for each row of the table, in percent; missing numbers are None."""
    for row in table.rows:
        yield _facts(table, row) | {column.key: row.values.get(column.key) for column in table.columns}


def _facts(table: PublishedTable, row: PublishedRow) -> Record:
    """The text columns of a row; only a table of several sources has one for the source."""
    facts = {"table": table.key, "row": row.name, "marks": " ".join(row.marks), "section": row.section}
    return facts if table.of_the_paper else facts | {"source": row.source}


def to_record(table: PublishedTable) -> Record:
    """Return the table as one JSON object; ``values`` are in percent, missing numbers are None."""
    return {
        "table": table.key,
        "title": table.title,
        "id_set": table.id_set,
        "backbone": table.backbone,
        "unit": "percent",
        "source": SOURCE if table.of_the_paper else "the source of each row",
        "marks": MARKS if any(row.marks for row in table.rows) else {},
        "notes": list(table.notes),
        "columns": [
            {"key": column.key, "group": column.group, "metric": column.metric} for column in table.columns
        ],
        "rows": [
            {
                "name": row.name,
                "marks": list(row.marks),
                "section": row.section,
                "source": row.source,
                "values": {column.key: row.values.get(column.key) for column in table.columns},
                "bold": [column.key for column in table.columns if column.key in row.bold],
            }
            for row in table.rows
        ],
    }


def headline(table: PublishedTable) -> str:
    """Return the number and the caption of the table."""
    return f"Table {table.key}: {table.title}"


def footer(table: PublishedTable) -> list[str]:
    """Return the paragraphs below the table: data, score directions, marks, notes and source."""
    metrics = dict.fromkeys(column.metric for column in table.columns)
    higher = ", ".join(table.title_of(key) for key in metrics if METRICS[key].higher_is_better)
    lower = ", ".join(table.title_of(key) for key in metrics if not METRICS[key].higher_is_better)
    block = " and block of rows" if len(sections(table.rows)) > 1 else ""
    signs = [mark for mark in MARKS if any(mark in row.marks for row in table.rows)]
    return [
        f"Published numbers, in percent. ID: {table.id_set}. Backbone: {table.backbone}.",
        f"Lower is better: {lower}. Higher is better: {higher}. Bold: best of its column{block}.",
        *(f"{sign} {MARKS[sign]}." for sign in signs),
        *table.notes,
        *_sources(table),
    ]


def _sources(table: PublishedTable) -> list[str]:
    """A paragraph for each source, with its rows."""
    if table.of_the_paper:
        return [f"Source: {SOURCE}, Table {table.key}."]
    names: dict[str, list[str]] = {}
    for row in table.rows:
        names.setdefault(row.source, []).append(row.name)
    return [f"{', '.join(rows)}: {source}." for source, rows in names.items()]


def list_tables() -> Iterator[Record]:
    """Yield a row for each published table: key, title, ID set, backbone and number of rows."""
    for key in TABLES:
        table = load_table(key)
        yield {
            "table": key,
            "title": table.title,
            "id_set": table.id_set,
            "backbone": table.backbone,
            "rows": len(table.rows),
        }


NAMES = "Methods"
Group = tuple[str, tuple[PublishedColumn, ...]]


def print_table(
    table: PublishedTable, format_name: str, output: Path | None = None, *, wide_rows: bool = False
) -> None:
    """Write a table to stdout or to ``output``.

    A format either has a layout of its own (``Format.published``) or writes rows: a line for each row with
    the footer below for people; for programs a row for each number, or with ``wide_rows`` a row for each row
    of the table. Values are percent, with the paper's digits. Raises as ``report.formats.render``.
    """
    form = FORMATS[format_name]
    with target(output, format_name) as file:
        if form.published:
            load(form.published)(table, file)
        elif form.people:
            columns = [Column(column.key, _heading(table, column), DIGITS) for column in table.columns]
            rows = (
                {**record, "row": _name(row)}
                for record, row in zip(to_wide_rows(table), table.rows, strict=True)
            )
            form.write(rows, [Column("row", NAMES), *columns], file, headline(table))
            file.writelines(form.paragraph(printable(paragraph)) for paragraph in footer(table))
        else:
            form.write(*_rows(table, form.typed, wide_rows), file, headline(table))


def has_rows(format_name: str) -> bool:
    """Return whether a format writes a published table as rows, wide or tidy."""
    form = FORMATS[format_name]
    return not form.people and not form.published


def _rows(table: PublishedTable, typed: bool, wide_rows: bool) -> tuple[Iterable[Record], list[Column]]:
    """Return the rows for programs with their columns; an untyped format gets numbers as text."""
    records: Iterable[Record] = to_wide_rows(table) if wide_rows else to_rows(table)
    if not typed:
        records = (
            {
                key: f"{value:.{DIGITS}f}" if isinstance(value, float) else value
                for key, value in record.items()
            }
            for record in records
        )
    numbers = [column.key for column in table.columns] if wide_rows else ["value"]
    texts = [*_facts(table, table.rows[0]), *([] if wide_rows else ["group", "metric"])]
    return records, [
        *(Column(key, key) for key in texts),
        *(Column(key, key, DIGITS) for key in numbers),
    ]


def write_object(table: PublishedTable, file: TextIO) -> None:
    """Write a table as one JSON object (``to_record``)."""
    file.write(json.dumps(to_record(table), indent=1) + "\n")


def write_blocks(table: PublishedTable, file: TextIO) -> None:
    """Write a table in blocks that fit the width of the output, with a footer."""
    console = console_for(file)
    console.print(Text(printable(headline(table)), style="italic"))
    console.print()
    last_rows = [end - 1 for end in accumulate(map(len, sections(table.rows)))]
    print_columns(console, text_columns(table), last_rows)
    console.print()
    for paragraph in footer(table):
        console.print(Text(printable(paragraph)))


def text_columns(table: PublishedTable) -> list[TextColumn]:
    """Return the names of the rows and a column for each group, so that its name spans all its numbers."""
    names = [Text(_name(row)) for row in table.rows]
    longest = width_of([NAMES, *(name.plain for name in names)])
    words = width_of(word for text in (NAMES, *map(_name, table.rows)) for word in text.split())
    return [
        TextColumn(Text(f"\n{NAMES}"), names, longest, min(words, TIGHT)),
        *(_group_column(group, table) for group in groups(table.columns)),
    ]


def _group_column(group: Group, table: PublishedTable) -> TextColumn:
    titles = (table.title_of(column.metric) for column in group[1])
    below = " ".join(text.rjust(size) for text, size in zip(titles, _widths(group, table), strict=True))
    title = Text(f"{printable(group[0])}\n{below}", justify="center")
    cells = [_numbers(row, group, table) for row in table.rows]
    needed = max(cell_len(printable(group[0])), cell_len(below))
    return TextColumn(title, cells, needed, needed, right=True)


def _widths(group: Group, table: PublishedTable) -> list[int]:
    """Return the width of each column of numbers in characters, without the space between columns."""
    return [
        max(len(table.title_of(column.metric)), *(len(format_value(row, column)) for row in table.rows))
        for column in group[1]
    ]


def _numbers(row: PublishedRow, group: Group, table: PublishedTable) -> Text:
    """Return the aligned numbers of a row in a group, with the best ones in bold."""
    text = Text()
    for column, size in zip(group[1], _widths(group, table), strict=True):
        text.append(" " if text else "")
        text.append(format_value(row, column).rjust(size), style="bold" if column.key in row.bold else "")
    return text


def _name(row: PublishedRow) -> str:
    return printable(row.name) + "".join(row.marks)


def _arrowed(table: PublishedTable, column: PublishedColumn) -> str:
    return table.title_of(column.metric) + ("↑" if METRICS[column.metric].higher_is_better else "↓")


def _heading(table: PublishedTable, column: PublishedColumn) -> str:
    """Return the group of a column, the title of its metric and the arrow of its direction."""
    return f"{column.group} {_arrowed(table, column)}".strip()


def write_markdown(table: PublishedTable, file: TextIO) -> None:
    """Write a table in Markdown, with a footer."""
    file.writelines(_markdown(table))


def write_latex(table: PublishedTable, file: TextIO) -> None:
    """Write a table in LaTeX, with the footer in its caption."""
    file.writelines(_latex(table))


def _markdown(table: PublishedTable) -> Iterator[str]:
    yield f"**{markdown_text(headline(table))}**\n\n"
    titles = (markdown_text(_heading(table, column)) for column in table.columns)
    yield markdown_line([NAMES, *titles])
    yield "|---|" + "---:|" * len(table.columns) + "\n"
    for row in table.rows:
        cells = (
            f"**{format_value(row, column)}**" if column.key in row.bold else format_value(row, column)
            for column in table.columns
        )
        yield markdown_line([markdown_text(_name(row)), *cells])
    for paragraph in footer(table):
        yield markdown_paragraph(paragraph)


def _latex(table: PublishedTable) -> Iterator[str]:
    header = groups(table.columns)
    yield "% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n"
    yield f"\\caption{{{latex_text(' '.join([table.title, *footer(table)]))}}}\n"
    yield "\\small\n\\setlength{\\tabcolsep}{3pt}\n"
    yield ("\\begin{tabular}{l" + "".join(" " + "r" * len(inside) for _, inside in header) + "}\n\\toprule\n")
    yield latex_line(
        [
            "",
            *(f"\\multicolumn{{{len(inside)}}}{{c}}{{{latex_text(name)}}}" for name, inside in header),
        ]
    )
    yield "".join(_rules(header)) + "\n"
    yield latex_line([NAMES, *(latex_text(_arrowed(table, column)) for column in table.columns)])
    for section in sections(table.rows):
        yield "\\midrule\n"
        for row in section:
            cells = (
                f"\\textbf{{{format_value(row, column)}}}"
                if column.key in row.bold
                else format_value(row, column)
                for column in table.columns
            )
            name = latex_text(row.name) + "".join(
                f"\\textsuperscript{{{latex_text(mark)}}}" for mark in row.marks
            )
            yield latex_line([name, *cells])
    yield "\\bottomrule\n\\end{tabular}\n\\end{table}\n"


def _rules(header: Sequence[Group]) -> Iterator[str]:
    """Yield a rule under the name of each group. Columns count from 1, and column 1 has the row names."""
    first = 2
    for name, inside in header:
        if name:
            yield f"\\cmidrule(lr){{{first}-{first + len(inside) - 1}}}"
        first += len(inside)
