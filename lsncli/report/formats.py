"""Output formats of rows: tables for people, files for programs, Markdown and LaTeX for papers.

A new format is a function that writes rows, in a file of its own, and a row in ``FORMATS``.
"""

import csv
import json
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO

from lsncli import registry
from lsncli.console import out, printable
from lsncli.errors import LsnError, UsageError
from lsncli.files import is_temporary, open_atomic, open_atomic_text

Row = Mapping[str, Any]

WIDTH = 100
"""Width in characters of a table for a file or a pipe, unless COLUMNS is set."""


@dataclass(frozen=True)
class Column:
    """A field of the rows: its key, which csv and json show, and how people see it."""

    key: str
    title: str
    digits: int | None = None
    """Digits after the decimal point; None for a value that is no number."""
    percent: bool = False
    """People see a fraction as percent; programs get the fraction."""
    wide: bool = False
    """Long texts, such as paths: their words are folded before a table that is too wide is."""
    flag: bool = False
    """Holds yes or no."""
    optional: bool = False
    """Omitted from formats for people if no row has a value."""
    detail: bool = False
    """Formats for people show it only if asked for details (--wide)."""
    identifies: bool = False
    """Repeated in each block of a table that is too wide; the first column if there is none."""
    words: Mapping[Any, str] = field(default_factory=dict)
    """What people see in place of some values."""
    styles: Mapping[Any, str] = field(default_factory=dict)
    """The style of some values on a terminal."""

    def shown(self, value: Any) -> str:
        """Return a value for people: escaped, rounded, empty for None and NaN."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if self.words and value in self.words:
            return self.words[value]
        if isinstance(value, bool):
            return "yes" if value else "no"
        if self.digits is not None:
            return f"{value * (100 if self.percent else 1):.{self.digits}f}"
        return printable(str(value))

    def style_of(self, value: Any) -> str:
        """Return the style of a value on a terminal."""
        return self.styles.get(value, "") if self.styles else ""


def render(
    rows: Iterable[Row],
    columns: Sequence[Column],
    format_name: str,
    output: Path | None = None,
    title: str = "",
    *,
    wide: bool = False,
) -> None:
    """Write rows to stdout or to ``output`` in one of ``FORMATS``, for people with details only if ``wide``.

    Raises LsnError if the file cannot be written, and as ``check``.
    """
    form = FORMATS[format_name]
    if form.people and not wide:
        columns = [column for column in columns if not column.detail]
    with target(output, format_name) as file:
        form.write(rows, columns, file, title)
        if form.narrow and output is None and out.is_terminal:
            file.write("\n")  # between the table and remarks


def columns_with_values(rows: Sequence[Row], columns: Sequence[Column]) -> list[Column]:
    """Return the columns without the optional ones that have no value in any of ``rows``."""
    return [c for c in columns if not c.optional or any(row.get(c.key) for row in rows)]


def width() -> int:
    """Return the width for files and pipes: COLUMNS, else ``WIDTH``."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else WIDTH


def write_csv(rows: Iterable[Row], columns: Sequence[Column], file: TextIO, _title: str) -> None:
    """Write comma-separated values that are safe to open in a spreadsheet."""
    _write_separated(rows, columns, file, ",")


def write_tsv(rows: Iterable[Row], columns: Sequence[Column], file: TextIO, _title: str) -> None:
    """Write tab-separated values that are safe to open in a spreadsheet."""
    _write_separated(rows, columns, file, "\t")


def _write_separated(rows: Iterable[Row], columns: Sequence[Column], file: TextIO, delimiter: str) -> None:
    writer = csv.writer(file, lineterminator="\n", delimiter=delimiter)
    quoting = csv.writer(file, lineterminator="\n", delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow([column.key for column in columns])
    for row in rows:
        cells = [plain(row.get(column.key)) for column in columns]
        if file.isatty():  # programs get names as they are, a terminal must not
            cells = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
        cells = [inert(cell) if isinstance(cell, str) else cell for cell in cells]
        bare = any(SPLITTING & set(cell) for cell in cells if isinstance(cell, str))
        (quoting if bare else writer).writerow(cells)
        file.flush()


FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""A cell with this start is a formula in some spreadsheet."""
SPLITTING = frozenset("\r\t;")
"""Characters that end a cell in spreadsheets of some countries. Python before 3.13 does not quote a carriage
return, and reads it as the end of the row."""


def inert(cell: str) -> str:
    """Return ``cell`` with a ' before it if a spreadsheet would compute it; plain numbers do not change."""
    return f"'{cell}" if cell.startswith(FORMULA) and not NUMBER.fullmatch(cell) else cell


NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", re.ASCII)


def write_jsonl(rows: Iterable[Row], columns: Sequence[Column], file: TextIO, _title: str) -> None:
    """Write one JSON object per line."""
    for row in rows:
        file.write(json.dumps(_record(row, columns)) + "\n")
        file.flush()


def write_json(rows: Iterable[Row], columns: Sequence[Column], file: TextIO, _title: str) -> None:
    """Write a JSON array of objects."""
    file.write(json.dumps([_record(row, columns) for row in rows], indent=1) + "\n")


def write_markdown(rows: Iterable[Row], columns: Sequence[Column], file: TextIO, _title: str) -> None:
    """Write a Markdown table."""

    rows = list(rows)
    columns = columns_with_values(rows, columns)

    def line(cells: Iterable[str]) -> str:
        return markdown_line(markdown_text(cell) for cell in cells)

    text = line(column.title for column in columns)
    text += "|" + "|".join("---:" if column.digits is not None else "---" for column in columns) + "|\n"
    text += "".join(line(column.shown(row.get(column.key)) for column in columns) for row in rows)
    file.write(text)


MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$]|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)
"""Characters with a meaning within a line of Markdown: code, emphasis, links, HTML, entities, cells,
formulas, addresses that become links."""
BLOCK = re.compile(r"(\d{0,9})([-+#=.)])")
"""The start of a list, a heading or a rule at the start of a line."""


def markdown_text(text: str) -> str:
    """Return ``text`` escaped for a line of Markdown, such as a cell of a table."""
    return MARKDOWN.sub(r"\\\g<0>", printable(text))


def markdown_paragraph(text: str) -> str:
    """Return ``text`` as a paragraph of Markdown, with the empty line before it."""
    line = markdown_text(text).strip()
    block = BLOCK.match(line)
    return f"\n{line if block is None else block[1] + chr(92) + line[block.end(1) :]}\n"


def markdown_line(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table; the cells are Markdown."""
    return "| " + " | ".join(cells) + " |\n"


def write_latex(rows: Iterable[Row], columns: Sequence[Column], file: TextIO, _title: str) -> None:
    """Write a LaTeX table with the rules of booktabs."""

    rows = list(rows)
    columns = columns_with_values(rows, columns)

    def line(cells: Iterable[str]) -> str:
        return latex_line(latex_text(cell) for cell in cells)

    text = (
        "\\begin{tabular}{"
        + "".join("r" if c.digits is not None else "l" for c in columns)
        + "}\n\\toprule\n"
    )
    text += line(column.title for column in columns) + "\\midrule\n"
    text += "".join(line(column.shown(row.get(column.key)) for column in columns) for row in rows)
    file.write(text + "\\bottomrule\n\\end{tabular}\n")


LATEX = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    # At the start of a row, \\\\ before it would take these for its own.
    "[": "{[}",
    "*": "{*}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "↓": "$\\downarrow$",
    "↑": "$\\uparrow$",
    "⋆": "$\\star$",
}


def latex_text(text: str) -> str:
    """Return ``text`` escaped for LaTeX."""
    return "".join(LATEX.get(c, c) for c in printable(text))


def latex_line(cells: Iterable[str]) -> str:
    """Return a row of a LaTeX table; the cells are LaTeX."""
    return " & ".join(cells) + " \\\\\n"


@dataclass(frozen=True)
class Format:
    """An output format: its writer, and the properties that commands use."""

    writer: str
    """``module:function``, called with the rows, their columns, an open file and a title."""
    people: bool = False
    """For people: commands select columns and add sentences. A format for programs gets every column."""
    narrow: bool = False
    """A row must fit the width of a terminal."""
    streams: bool = False
    """Each row is written before the next is read."""
    typed: bool = False
    """Numbers stay numbers; other formats write a published number as text with the paper's digits."""
    binary: bool = False
    """The file is binary: it needs ``--output``, and is written atomically."""
    needs: str = ""
    """``module:function`` that raises Unavailable if the writer's package is missing; empty for none."""
    heading: Callable[[str], str] | None = None
    """Title before a table, for several tables in one file; None if the writer writes it."""
    paragraph: Callable[[str], str] = lambda text: textwrap.fill(text, width(), break_long_words=False) + "\n"
    """Paragraph under a table, for people."""
    published: str = ""
    """``module:function`` that writes a published table, called with it and an open file; empty to write it
    as rows."""

    def write(self, rows: Iterable[Row], columns: Sequence[Column], file: IO[Any], title: str) -> None:
        """Write rows into an open file."""
        registry.load(self.writer)(rows, columns, file, title)


FORMATS: dict[str, Format] = {
    "table": Format(
        "lsncli.report.text_table:write_table",
        people=True,
        narrow=True,
        published="lsncli.bench.published_table:write_blocks",
    ),
    "csv": Format("lsncli.report.formats:write_csv", streams=True),
    "tsv": Format("lsncli.report.formats:write_tsv", streams=True),
    "json": Format(
        "lsncli.report.formats:write_json", typed=True, published="lsncli.bench.published_table:write_object"
    ),
    "jsonl": Format("lsncli.report.formats:write_jsonl", streams=True, typed=True),
    "md": Format(
        "lsncli.report.formats:write_markdown",
        people=True,
        heading=lambda title: f"**{markdown_text(title).strip()}**\n\n",
        paragraph=markdown_paragraph,
        published="lsncli.bench.published_table:write_markdown",
    ),
    "tex": Format(
        "lsncli.report.formats:write_latex",
        people=True,
        heading=lambda title: "",
        paragraph=lambda text: f"% {latex_text(text)}\n",
        published="lsncli.bench.published_table:write_latex",
    ),
    "parquet": Format(
        "lsncli.report.parquet:write_parquet",
        typed=True,
        binary=True,
        needs="lsncli.report.parquet:check_available",
    ),
}


def check(format_name: str, output: Path | None) -> None:
    """Check that a format can be written to ``output``; commands do it before the work.

    Raises UsageError for a binary format without a file, Unavailable (exit code 5) without its package.
    """
    form = FORMATS[format_name]
    # A device, such as /dev/null, would be replaced by the file.
    if form.binary and (output is None or (os.path.exists(output) and not os.path.isfile(output))):
        raise UsageError(
            f"--format {format_name} is not for a terminal or a pipe.", "Name a file with --output."
        )
    if form.needs:
        registry.load(form.needs)()


def _record(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    return {column.key: plain(row.get(column.key)) for column in columns}


def plain(value: Any) -> Any:
    """Return a value for programs.

    None for NaN and infinity, which JSON lacks, and an escape for a lone surrogate of a file name, which
    UTF-8 lacks.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@contextmanager
def target(output: Path | None, format_name: str) -> Iterator[IO[Any]]:
    """Open stdout, or the file ``output`` with its folders, for a format.

    Raises LsnError if it cannot be written, and as ``check``.
    """
    check(format_name, output)
    try:
        if output is None:
            yield out.file
            out.file.flush()
            return
        opened = open_atomic(output) if FORMATS[format_name].binary else open_atomic_text(output)
        with opened as file:
            yield file
    except BrokenPipeError:  # the reader closed the pipe
        raise
    except OSError as error:
        # A full disk names no file; an error that names another file comes from elsewhere.
        if error.filename is not None and (output is None or not _is_within(error.filename, output)):
            raise
        where = "The output" if output is None else f"--output {output}"
        raise LsnError(
            f"{where} cannot be written: {error.strerror or error}.", "Name another file."
        ) from error


def _is_within(name: str | bytes | int, output: Path) -> bool:
    """Return whether ``name`` is the file ``output``, its temporary file, or one of its folders."""
    if isinstance(name, int):
        return False
    path = Path(os.fsdecode(name))
    return path in (output, *output.parents) or is_temporary(path.name, output.name)
