"""Read labels of imported features: choose their column in a table, and read files of labels."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lsncli import validation
from lsncli.console import printable
from lsncli.errors import LsnError, UsageError
from lsncli.images.columns import (
    LABEL_OPTION,
    MANY,
    column_index,
    is_label_name,
    is_path_name,
    label_index,
    label_text,
    preferred_path,
)
from lsncli.images.table_layout import SEPARATORS, cell_at
from lsncli.interchange.tables import READERS, checked_read, load_array

TEXTS = (".csv", ".tsv")


def label_texts(path: Path, name: str, values: Iterable[Any]) -> tuple[str, ...]:
    """Return a column of labels as texts, "" for rows without one. Raises LsnError that names the row."""
    texts: list[str] = []
    for row, value in enumerate(values):
        try:
            texts.append(label_text(value))
        except ValueError as error:
            raise LsnError(f"{path}, labels '{name}', row {row}: {error}.") from error
    return tuple(texts)


def choose_label_column(
    path: Path, names: Sequence[str], requested: str, values: Callable[[str], Sequence[Any]]
) -> str | None:
    """Return the column in ``names`` that holds labels; None if there is none or "none" is requested.

    Raises UsageError if the column is ambiguous, or the requested one is missing.
    """

    def distinct(at: int) -> bool:
        column = values(names[at])
        return len(column) > MANY and len(set(map(str, column))) == len(column)

    index = label_index(requested, names, range(len(names)), str(path), distinct)
    return None if index is None else names[index]


def read_labels(
    path: Path, column: str, keys: tuple[str, ...] | None, rows: int
) -> tuple[tuple[str, ...], str]:
    """Read one label for each of ``rows`` features, and return them with a note on the columns used.

    The file is .npy (1-dimensional), .json (a list), .csv or .tsv, or text with one label per line; an empty
    one means no class. A .csv with a column of keys is joined by ``keys``. Raises LsnError for invalid labels
    and for other keys, UsageError for a column that is missing or ambiguous.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        values = checked_read(path, lambda: load_array(path))
        if values.ndim != 1:
            raise LsnError(f"{path}: expected one dimension of labels, found the shape {values.shape}.")
        return label_texts(path, path.name, values.tolist()), ""
    if suffix in READERS and suffix not in TEXTS:
        raise UsageError(f"{path}: expected labels as .npy, .json, .csv, .tsv or text, found '{suffix}'.")
    text = checked_read(path, lambda: path.read_text(encoding="utf-8-sig", errors="surrogateescape"))
    if suffix == ".json":
        values = checked_read(path, lambda: validation.parse_json(text))
        if not isinstance(values, list):
            raise LsnError(f"{path}: expected a JSON list of labels.")
        return label_texts(path, path.name, values), ""
    if suffix in TEXTS:
        cells = _read_cells(path, text)
        if any(len(row) > 1 for row in cells):
            return _from_cells(path, [row for row in cells if any(row)], column, keys)
        return _from_lines(path, [row[0].strip() if row else "" for row in cells], column, rows)
    return _from_lines(path, [line.strip() for line in text.split("\n")], column, rows)


def _read_cells(path: Path, text: str) -> list[list[str]]:
    """Return the rows of a .csv or .tsv, split by the separator that gives them equal lengths."""

    def rows(separator: str) -> list[list[str]]:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator[0]))

    tried = [checked_read(path, partial(rows, by)) for by in SEPARATORS[path.suffix.lower()[1:]]]
    widths = [{len(row) for row in cells if row} for cells in tried]
    even = [cells for cells, width in zip(tried, widths, strict=True) if len(width) == 1 and width != {1}]
    return next(iter(even), tried[0])


def _from_lines(path: Path, lines: list[str], column: str, rows: int) -> tuple[tuple[str, ...], str]:
    """Return labels from lines; some may be empty, also after the last row."""
    note = ""
    filled = [line for line in lines if line]
    if len(filled) == rows + 1 and (is_label_name(filled[0]) or filled[0] == column):
        note = f"{path.name}: line 1, '{printable(filled[0])}', is a header"
        lines, filled = lines[lines.index(filled[0]) + 1 :], filled[1:]
    if len(filled) == rows:
        return tuple(filled), note
    while len(lines) > rows and not lines[-1]:
        lines.pop()
    return tuple(lines), note


def _from_cells(
    path: Path, cells: list[list[str]], column: str, keys: tuple[str, ...] | None
) -> tuple[tuple[str, ...], str]:
    """Return the labels in a table, in the order of rows or joined by a column of keys."""
    names = cells[0]
    header = any(is_label_name(name) or is_path_name(name) or (column and name == column) for name in names)
    if not header and not column:
        raise UsageError(
            f"{path}: expected one label per line or a header, found {len(names)} columns without a header.",
            f"Name the column of labels: {LABEL_OPTION} NUMBER.",
        )
    if not header:
        label = column_index(column, None, len(names), str(path), LABEL_OPTION)
        return tuple(
            cell_at(row, label).strip() for row in cells
        ), f"{path.name}: labels from column {column}"
    body = cells[1:]
    chosen = choose_label_column(
        path, names, column, lambda name: [cell_at(row, names.index(name)) for row in body]
    )
    if chosen is None:
        raise UsageError(f"{path} has no column of labels.", f"Name one with {LABEL_OPTION}.")
    label = names.index(chosen)
    labels = tuple(cell_at(row, label).strip() for row in body)
    note = f"{path.name}: labels from column '{printable(chosen)}'"
    key = preferred_path(names, [at for at in range(len(names)) if at != label])
    if keys is None or key is None:
        return labels, note
    by_key = {cell_at(row, key): text for row, text in zip(body, labels, strict=True)}
    missing = [name for name in keys if name not in by_key]
    if missing or len(by_key) != len(keys) or len(body) != len(keys):
        first = f"'{printable(missing[0])}' is missing" if missing else "some are repeated or of no row"
        raise LsnError(
            f"{path}, column '{printable(names[key])}': expected the keys of the {len(keys)} features, each "
            f"once, but {first}.",
            "Give the labels only, one per line, if they are in the order of the features.",
        )
    return tuple(by_key[name] for name in keys), f"{note}, joined by '{printable(names[key])}'"
