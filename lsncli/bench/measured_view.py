"""A measured table in every output format: measured beside published numbers, with footnotes for people."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsncli.bench.measured_table import AVERAGE, Cell, MeasuredTable
from lsncli.console import printable
from lsncli.reference.published import METRICS
from lsncli.report.formats import FORMATS, Column, target

if TYPE_CHECKING:
    from pandas import DataFrame

Record = dict[str, Any]

PARTS = ("measured", "spread", "published", "difference")
"""What a cell holds, in percent."""

TIDY = [
    Column("suite", "Suite"),
    Column("table", "Table"),
    Column("row", "Methods"),
    Column("group", "Data"),
    Column("metric", "Metric"),
    *(Column(part, part, digits=2) for part in PARTS),
    Column("n", "n", digits=0),
    Column("of", "of", digits=0),
    Column("why_missing", "Why missing", wide=True),
    Column("command", "Command", wide=True),
    Column("note", "Note", wide=True),
]
"""Columns of formats for programs: one number per row."""


def to_rows(table: MeasuredTable) -> Iterator[Record]:
    """Yield a row for each number, in percent; a missing number has the reason and the command to type."""
    for name, cells in table.rows.items():
        for column in table.columns:
            cell = cells[column.key]
            yield {
                "suite": table.suite,
                "table": table.key,
                "row": name,
                "group": column.group,
                "metric": column.metric,
                **_parts(cell),
                "n": cell.n,
                "of": cell.of,
                "why_missing": cell.why_missing,
                "command": cell.command,
                "note": table.row_notes.get(name, ""),
            }


def to_frame(table: MeasuredTable) -> "DataFrame":
    """Return a measured table as a DataFrame, one number per row in percent, with the columns of ``TIDY``."""
    from pandas import DataFrame

    return DataFrame(list(to_rows(table)), columns=[column.key for column in TIDY])


def to_wide_rows(table: MeasuredTable) -> tuple[list[Record], list[Column]]:
    """Return one row per row of the table: the average first, each column with its parts, in percent."""
    order = sorted(table.columns, key=lambda column: column.group != AVERAGE)
    columns = [
        Column(f"{each.key}/{part}", f"{each.key} {part}", digits=2) for each in order for part in PARTS
    ]
    rows = [
        {
            "table": table.key,
            "row": name,
            **{
                f"{each.key}/{part}": value
                for each in order
                for part, value in _parts(cells[each.key]).items()
            },
        }
        for name, cells in table.rows.items()
    ]
    return rows, [Column("table", "Table"), Column("row", "Methods"), *columns]


def to_display_rows(table: MeasuredTable, *, every: bool = False) -> tuple[list[Record], list[Column]]:
    """Return a line per row with its average, or per group with ``every`` or without an average."""
    groups = [name for name, _ in groupby(table.columns, lambda column: column.group) if name]
    if AVERAGE in groups:
        groups = [AVERAGE, *(name for name in groups if name != AVERAGE)] if every else [AVERAGE]
    metrics = list(dict.fromkeys(each.metric for each in table.columns if each.group or len(groups) == 1))
    rows: list[Record] = []
    for name, cells in table.rows.items():
        for group in groups:
            row: Record = {"row": name if group == groups[0] else "", "group": group, "n": 0}
            for metric in metrics:
                cell = cells.get(f"{group}/{metric}") or cells.get(metric) or Cell()
                row |= {f"{metric}/{part}": value for part, value in _parts(cell).items()}
                row["n"] = max(row["n"], cell.n)
            rows.append(row)
    columns = [Column("row", "Methods", wide=True)]
    columns += [Column("group", "Data")] if len(groups) > 1 else []
    for metric in metrics:
        columns += _metric_columns(table, metric, rows)
    return rows, [*columns, Column("n", "n", digits=0)]


def _metric_columns(table: MeasuredTable, metric: str, rows: list[Record]) -> list[Column]:
    """The columns of a metric that hold a number, and always the measured one."""
    printed = table.published
    name = printed.title_of(metric) if printed else METRICS[metric].title
    titles = {
        "measured": name + ("↑" if METRICS[metric].higher_is_better else "↓"),
        "spread": "±",
        "published": "published" if printed and not printed.of_the_paper else "paper",
        "difference": "diff",
    }
    return [
        Column(f"{metric}/{part}", title, digits=2 if part != "spread" else 1)
        for part, title in titles.items()
        if part == "measured" or any(row[f"{metric}/{part}"] is not None for row in rows)
    ]


def headline(table: MeasuredTable) -> str:
    """Return the title: table and suite, and the paper's caption unless images are stand-ins."""
    caption = f": {table.title}" if table.title and not table.stand_in else ""
    return f"Table {table.key} measured on the suite '{table.suite}'{caption}"


def footer(table: MeasuredTable) -> list[str]:
    """Return the paragraphs under a table: why numbers are missing, how to fill them in, footnotes."""
    reasons: dict[str, dict[str, str]] = {}
    for name, cells in table.rows.items():
        missing = [cell for cell in cells.values() if cell.why_missing]
        if missing:
            reasons.setdefault(missing[0].why_missing, {})[name] = missing[0].command
    return [_missing(why, rows) for why, rows in reasons.items()] + list(table.notes)


def _missing(why: str, rows: Mapping[str, str]) -> str:
    """A reason with its rows, and the command for the row or the whole table."""
    command = next(iter(rows.values()))
    if len(rows) > 1:
        command = command.partition(" --rows ")[0]
    filled = f" Fill in with: {command}" if command else ""
    return f"{', '.join(rows)}: {why.rstrip('.')}.{filled}"


def _parts(cell: Cell) -> dict[str, float | None]:
    return dict(zip(PARTS, (cell.mean, cell.spread, cell.published, cell.difference), strict=True))


def print_table(
    table: MeasuredTable, format_name: str, output: Path | None = None, *, wide_rows: bool = False
) -> None:
    """Write a measured table to stdout or to ``output``, in percent.

    Formats for people show a row's average (every group with ``wide_rows``), and footnotes. The others hold
    one number per row, or with ``wide_rows`` one row per row of the table. Raises as ``render``.
    """
    form = FORMATS[format_name]
    if form.people:
        rows, columns = to_display_rows(table, every=wide_rows)
    else:
        rows, columns = to_wide_rows(table) if wide_rows else (list(to_rows(table)), TIDY)
    with target(output, format_name) as file:
        form.write(rows, columns, file, headline(table))
        if form.people:
            for paragraph in map(printable, footer(table)):
                file.write(form.paragraph(paragraph))
