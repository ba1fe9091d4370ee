"""How a list file is laid out: its separator, whether its first row is a header, and which columns count."""

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

Row = tuple[int, list[str]]  # number of the line, and its cells
Exists = Callable[[str], bool]

SAMPLE = 500
"""Lines at the start of a list that are looked at."""

PLAIN, LAST_SPACE = "plain", "space"
"""Lines of a .txt: a path, or a path, a tab and a class; a path, and a class behind the last space."""
SEPARATORS = {
    "txt": (PLAIN, ",", ";", LAST_SPACE),
    "csv": (",", ";", "\t", ", ", "; "),
    "tsv": ("\t", ",", ";", ", ", "; "),
}
"""What may separate cells, by the kind of a list; the usual one first."""
SHOWN = {
    ",": "commas",
    ", ": "commas and spaces",
    ";": "semicolons",
    "; ": "semicolons and spaces",
    "\t": "tabs",
    LAST_SPACE: "spaces",
}


@dataclass(frozen=True)
class TableLayout:
    """The columns of paths and classes by number from 0, and the most cells that a row may have."""

    separator: str = PLAIN
    header: bool = False
    path: int = 0
    label: int | None = None
    width: int = 2
    remark: str = ""
    """What was recognised, for people; empty for a plain list of paths or of paths and classes."""

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
    """The cell in column ``at``; empty where a row is too short."""
    return cells[at] if at is not None and at < len(cells) else ""


def read_rows(lines: Iterable[str], separator: str) -> Iterator[Row]:
    """The rows that are neither blank nor a comment ('#'). Raises csv.Error for broken quotes."""
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


def detect_layout(kind: str, start: Sequence[str], exists: Exists, asked: Columns, where: str) -> TableLayout:
    """The layout of a list of a ``kind`` (a key of SEPARATORS) that begins with the lines ``start``.

    ``exists`` tells whether a cell is the path of an image. Raises UsageError where the columns cannot be
    told, and for columns that were asked for and are missing; csv.Error for broken quotes.
    """
    separator, rows = _separated(kind, start, exists)
    if not rows:
        return TableLayout(separator)
    first = rows[0][1]
    header = _is_header(rows, exists, asked)
    cells = [cells for _, cells in rows[int(header) :]]
    width = len(first) if header else max(len(row) for row in cells)
    names = first if header else None
    path = _path_column(names, cells, width, exists, asked, where)
    label = _label_column(names, cells, width, path, asked, where)
    several = header or asked.label or not asked.labelled  # else a third column is an error, row by row
    return TableLayout(
        separator,
        header,
        path,
        label,
        width if several else 2,
        _remark(separator, SEPARATORS[kind][0], names, path, label, asked),
    )


def _separated(kind: str, start: Sequence[str], exists: Exists) -> tuple[str, list[Row]]:
    """The separator that makes most rows name an image, and the rows of the sample."""
    usual, *others = SEPARATORS[kind]
    found: dict[str, list[Row]] = {}
    broken: csv.Error | None = None
    for separator in (usual, *others):
        try:
            found[separator] = _sample(start, separator)
        except csv.Error as error:
            broken = broken or error
    if not found:
        assert broken is not None
        raise broken
    if kind == "txt" and any("\t" in line for line in start):
        return PLAIN, found[PLAIN]

    def fit(separator: str) -> tuple[int, bool, bool]:
        rows = [cells for _, cells in found[separator]]
        hits = max(_hits(rows, exists), default=0)
        names = len(rows) > 0 and len(rows[0]) > 1 and any(map(is_path_name, rows[0]))
        even = kind != "txt" and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
        return hits, names and separator != LAST_SPACE, even

    best = max(found, key=fit)  # of equals the first, which is the usual one
    return best, found[best]


def _sample(start: Sequence[str], separator: str) -> list[Row]:
    rows: list[Row] = []
    try:
        for row in read_rows(start, separator):
            rows.append(row)
    except csv.Error:
        if len(start) < SAMPLE or not rows:  # else the sample may end within quotes
            raise
    return rows


def _hits(rows: Sequence[Sequence[str]], exists: Exists) -> list[int]:
    """How many cells of each column are paths of images."""
    width = max(map(len, rows), default=0)
    return [sum(exists(row[at]) for row in rows if at < len(row) and row[at]) for at in range(width)]


def _is_header(rows: Sequence[Row], exists: Exists, asked: Columns) -> bool:
    first = rows[0][1]
    if any(exists(cell) or is_image(cell.strip()) for cell in first if cell):
        return False
    if any(name and not name.isdecimal() and name != NO_LABEL for name in (asked.path, asked.label)):
        return True
    if any(map(is_path_name, first)):
        return True
    if any("/" in cell for cell in first):  # the path of an image that is missing
        return False
    hits = _hits([cells for _, cells in rows[1:]], exists)
    named = any(cell.strip() and count for cell, count in zip(first, hits, strict=False))
    return named or any(map(is_label_name, first[1:]))


def _path_column(
    names: Sequence[str] | None,
    cells: Sequence[Sequence[str]],
    width: int,
    exists: Exists,
    asked: Columns,
    where: str,
) -> int:
    if asked.path:
        return column_index(asked.path, names, width, where, PATH_OPTION)
    hits = _hits(cells, exists)
    if not any(hits):  # no image exists: the names of columns and of files are left
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
    asked: Columns,
    where: str,
) -> int | None:
    if not asked.labelled:
        return None
    others = [at for at in range(width) if at != path]
    if names is not None:

        def distinct(at: int) -> bool:
            values = [cell_at(row, at) for row in cells]
            return len(values) > MANY and len(set(values)) == len(values)

        return label_index(asked.label, names, others, where, distinct)
    if asked.label == NO_LABEL:
        return None
    if asked.label:
        return column_index(asked.label, None, width, where, LABEL_OPTION)
    return others[0] if others else None


def _remark(
    separator: str, usual: str, names: Sequence[str] | None, path: int, label: int | None, asked: Columns
) -> str:
    """What was recognised, in one line; "" if that is nothing but a path and a class a row."""
    if names is None and separator == usual and not asked.path and not asked.label:
        return ""

    def name(at: int) -> str:
        return f"column '{printable(names[at])[:60]}'" if names is not None else f"column {at + 1}"

    text = f"paths from {name(path)}"
    if label is not None:
        text += f", classes from {name(label)}"
    elif asked.labelled:
        text += ", no classes" + f" ({LABEL_OPTION} names a column)" * (names is not None and len(names) > 1)
    if separator != usual:
        text += f", separated by {SHOWN[separator]}"
    return f"{text}; line 1 is a header" if names is not None else text
