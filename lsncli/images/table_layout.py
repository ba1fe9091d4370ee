"""Detect the layout of a list file: its separator, its header, and the columns of paths and classes."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from lsncli.console import printable
from lsncli.errors import UsageError
from lsncli.images.columns import (
    LABEL_OPTION,
    MANY,
    NO_LABEL,
    PATH_OPTION,
    Columns,
    column_index,
    is_label_name,
    is_path_name,
    label_index,
    preferred_path,
    quote_names,
)
from lsncli.images.item import is_image

Row = tuple[int, list[str]]  # line number and cells
Exists = Callable[[str], bool]

SAMPLE = 500
"""Lines at the start of a list that decide on its layout."""

PLAIN, LAST_SPACE = "plain", "space"
"""Lines of a .txt: PLAIN is a path, or a path, a tab and a class; LAST_SPACE a path, a space and a class."""
SEPARATORS = {
    "txt": (PLAIN, ",", ";", LAST_SPACE),
    "csv": (",", ";", "\t", ", ", "; "),
    "tsv": ("\t", ",", ";", ", ", "; "),
}
"""Possible separators of cells by the kind of list, the usual one first."""
SEPARATOR_NAMES = {
    ",": "commas",
    ", ": "commas and spaces",
    ";": "semicolons",
    "; ": "semicolons and spaces",
    "\t": "tabs",
    LAST_SPACE: "spaces",
}


@dataclass(frozen=True)
class TableLayout:
    """The columns of paths and classes, from 0, and the number of cells that a row may have."""

    separator: str = PLAIN
    header: bool = False
    path: int = 0
    label: int | None = None
    width: int = 2
    remark: str = ""
    """What was detected, for users; empty for a plain list of paths or of paths and classes."""

    def check_width(self, line: int, cells: Sequence[str], where: str) -> None:
        """Raise UsageError for a row of more cells than there are columns."""
        if len(cells) <= self.width or not any(cell.strip() for cell in cells[self.width :]):
            return
        expected = f"{self.width} columns" if self.header else "a path and at most one class"
        raise UsageError(
            f"{where}, line {line}: expected {expected}, found {len(cells)} columns.",
            'A path that holds the separator must be in "double quotes" in a .csv or .tsv; '
            f"{LABEL_OPTION} NUMBER says which of several columns is the class.",
        )


def cell_at(cells: Sequence[str], at: int | None) -> str:
    """Return the cell in column ``at``; empty if the row is too short."""
    return cells[at] if at is not None and at < len(cells) else ""


def read_rows(lines: Iterable[str], separator: str) -> Iterator[Row]:
    """Yield the rows that are neither blank nor a comment ('#'). Raises csv.Error for broken quotes."""
    for line, cells in _split(lines, separator):
        if any(cell.strip() for cell in cells) and not cells[0].startswith("#"):
            yield line, cells


def _split(lines: Iterable[str], separator: str) -> Iterator[Row]:
    if separator not in (PLAIN, LAST_SPACE):
        reader = csv.reader(lines, delimiter=separator[0], skipinitialspace=len(separator) > 1, strict=True)
        for cells in reader:
            yield reader.line_num, cells
        return
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        yield number, text.split("\t") if separator == PLAIN else text.rsplit(None, 1) or [""]


def detect_layout(
    kind: str, start: Sequence[str], exists: Exists, options: Columns, where: str
) -> TableLayout:
    """Return the layout of a list of a ``kind`` (a key of SEPARATORS) that begins with the lines ``start``.

    ``exists`` tells whether a cell is the path of an image. Raises UsageError for columns that are ambiguous,
    or requested by ``options`` and missing; csv.Error for broken quotes.
    """
    separator, rows = _choose_separator(kind, start, exists)
    if not rows:
        return TableLayout(separator)
    first = rows[0][1]
    header = _is_header(rows, exists, options)
    cells = [cells for _, cells in rows[int(header) :]]
    width = len(first) if header else max(len(row) for row in cells)
    names = first if header else None
    path = _path_column(names, cells, width, exists, options, where)
    label = _label_column(names, cells, width, path, options, where)
    several = header or options.label or not options.labelled  # else a row of more columns is an error
    return TableLayout(
        separator,
        header,
        path,
        label,
        width if several else 2,
        _remark(separator, SEPARATORS[kind][0], names, path, label, options),
    )


def _choose_separator(kind: str, start: Sequence[str], exists: Exists) -> tuple[str, list[Row]]:
    """Return the separator by which most rows name an image, and the rows of the sample."""
    samples: dict[str, list[Row]] = {}
    first_error: csv.Error | None = None
    for separator in SEPARATORS[kind]:
        try:
            samples[separator] = _sample(start, separator)
        except csv.Error as error:
            first_error = first_error or error
    if not samples:
        assert first_error is not None
        raise first_error
    if kind == "txt" and any("\t" in line for line in start):
        return PLAIN, samples[PLAIN]

    def fit(separator: str) -> tuple[int, bool, bool]:
        rows = [cells for _, cells in samples[separator]]
        hits = max(_hits(rows, exists), default=0)
        names = len(rows) > 0 and len(rows[0]) > 1 and any(map(is_path_name, rows[0]))
        even = kind != "txt" and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
        return hits, names and separator != LAST_SPACE, even

    best = max(samples, key=fit)  # of equals the first, which is the usual one
    return best, samples[best]


def _sample(start: Sequence[str], separator: str) -> list[Row]:
    rows: list[Row] = []
    try:
        for row in read_rows(start, separator):
            rows.append(row)
    except csv.Error:
        if len(start) < SAMPLE or not rows:  # a cut sample may end inside quotes
            raise
    return rows


def _hits(rows: Sequence[Sequence[str]], exists: Exists) -> list[int]:
    """Count the cells of each column that are paths of images."""
    width = max(map(len, rows), default=0)
    return [sum(exists(row[at]) for row in rows if at < len(row) and row[at]) for at in range(width)]


def _is_header(rows: Sequence[Row], exists: Exists, options: Columns) -> bool:
    first = rows[0][1]
    if any(exists(cell) or is_image(cell.strip()) for cell in first if cell):
        return False
    if any(name and not name.isdecimal() and name != NO_LABEL for name in (options.path, options.label)):
        return True
    if any(map(is_path_name, first)):
        return True
    if any("/" in cell for cell in first):  # the path of a missing image
        return False
    hits = _hits([cells for _, cells in rows[1:]], exists)
    named = any(cell.strip() and count for cell, count in zip(first, hits, strict=False))
    return named or any(map(is_label_name, first[1:]))


def _path_column(
    names: Sequence[str] | None,
    cells: Sequence[Sequence[str]],
    width: int,
    exists: Exists,
    options: Columns,
    where: str,
) -> int:
    if options.path:
        return column_index(options.path, names, width, where, PATH_OPTION)
    hits = _hits(cells, exists)
    if not any(hits):  # no image exists: names of columns and files decide
        hits = _hits(cells, lambda cell: is_image(cell.strip()))
        if not any(hits) and names is not None:
            return preferred_path(names, range(width)) or 0
    named = None if names is None else preferred_path(names, [at for at, count in enumerate(hits) if count])
    if named is not None:
        return named
    good = [at for at, count in enumerate(hits) if count * 2 > max(hits)]
    if names is not None and len(good) > 1:
        raise UsageError(
            f"{where}: more than one column may hold the images: {quote_names([names[at] for at in good])}.",
            f"Choose one with {PATH_OPTION} NAME.",
        )
    return good[0] if good else 0


def _label_column(
    names: Sequence[str] | None,
    cells: Sequence[Sequence[str]],
    width: int,
    path: int,
    options: Columns,
    where: str,
) -> int | None:
    if not options.labelled:
        return None
    others = [at for at in range(width) if at != path]
    if names is not None:

        def distinct(at: int) -> bool:
            values = [cell_at(row, at) for row in cells]
            return len(values) > MANY and len(set(values)) == len(values)

        return label_index(options.label, names, others, where, distinct)
    if options.label == NO_LABEL:
        return None
    if options.label:
        return column_index(options.label, None, width, where, LABEL_OPTION)
    return others[0] if others else None


def _remark(
    separator: str, usual: str, names: Sequence[str] | None, path: int, label: int | None, options: Columns
) -> str:
    """Describe the layout in one line; "" for the usual one, a path and a class per row."""
    if names is None and separator == usual and not options.path and not options.label:
        return ""

    def name(at: int) -> str:
        return f"column '{printable(names[at])[:60]}'" if names is not None else f"column {at + 1}"

    text = f"paths from {name(path)}"
    if label is not None:
        text += f", classes from {name(label)}"
    elif options.labelled:
        text += ", no classes" + f" ({LABEL_OPTION} names a column)" * (names is not None and len(names) > 1)
    if separator != usual:
        text += f", separated by {SEPARATOR_NAMES[separator]}"
    return f"{text}; line 1 is a header" if names is not None else text
