"""Print a measured table with what belongs under it."""

import textwrap
from pathlib import Path

from lsncli.bench import view
from lsncli.bench.fold import MeasuredTable
from lsncli.console import printable
from lsncli.report.render import FORMATS, latex_text, markdown_text, target, width


def show(
    table: MeasuredTable, format_name: str, output: Path | None = None, *, wide_rows: bool = False
) -> None:
    """Write a measured table to stdout or to ``output``, in percent.

    ``table``, ``md`` and ``tex`` are for people: a row's average (with ``wide_rows`` every group of columns),
    and what numbers were measured on; in ``tex`` that is a comment. ``csv``, ``json`` and ``jsonl`` hold one
    number a row, or with ``wide_rows`` one row a row of the table. Raises LsnError if the file cannot be
    written.
    """
    if format_name in ("csv", "json", "jsonl"):
        rows, columns = view.wide(table) if wide_rows else (list(view.tidy(table)), view.TIDY)
    else:
        rows, columns = view.people(table, every=wide_rows)
    with target(output) as file:
        FORMATS[format_name](rows, columns, file, view.headline(table))
        for paragraph in map(printable, view.footer(table)):
            if format_name == "table":
                file.write(textwrap.fill(paragraph, width(), break_long_words=False) + "\n")
            elif format_name == "md":
                file.write("\n" + markdown_text(paragraph).replace("*", "\\*") + "\n")
            elif format_name == "tex":
                file.write(f"% {latex_text(paragraph)}\n")
