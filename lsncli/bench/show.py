"""Print a measured table with what belongs under it."""

from pathlib import Path

from lsncli.bench import view
from lsncli.bench.fold import MeasuredTable
from lsncli.console import printable
from lsncli.report.formats import FORMATS, target


def show(
    table: MeasuredTable, format_name: str, output: Path | None = None, *, wide_rows: bool = False
) -> None:
    """Write a measured table to stdout or to ``output``, in percent.

    Formats for people show a row's average (with ``wide_rows`` every group of columns), and under the table
    what numbers were measured on. The others hold one number a row, or with ``wide_rows`` one row a row of
    the table. Raises as ``render``.
    """
    form = FORMATS[format_name]
    if form.people:
        rows, columns = view.people(table, every=wide_rows)
    else:
        rows, columns = view.wide(table) if wide_rows else (list(view.tidy(table)), view.TIDY)
    with target(output, format_name) as file:
        form.write(rows, columns, file, view.headline(table))
        if form.people:
            for paragraph in map(printable, view.footer(table)):
                file.write(form.paragraph(paragraph))
