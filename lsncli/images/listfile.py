"""Images named by a list: one path per line (.txt) or row (.csv, .tsv), optionally a class beside it."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from lsncli.errors import UsageError
from lsncli.images.found import Found, Source, file_size

HEADERS = frozenset({"path", "file", "filename", "image", "key"})


def scan(path: Path) -> Source:
    """List the images that a list file names; relative paths are relative to the list's own folder.

    Blank lines, lines that start with '#' and a header row (``path,class``) are skipped. A named file that
    is not there is kept: it fails, visibly, when it is read. Raises UsageError for a path named twice.
    """
    found: list[Found] = []
    seen: dict[str, int] = {}
    for line, cells in _rows(path):
        raw = cells[0]
        if "\0" in raw:
            raise UsageError(f"{path}, line {line}: a path cannot hold a NUL character.")
        if len(cells) > 2:
            raise UsageError(
                f"{path}, line {line}: expected a path and at most one class, found {len(cells)} columns.",
                'A path that holds the separator must be in "double quotes" in a .csv or .tsv.',
            )
        key = os.path.normpath(raw).replace(os.sep, "/")
        if key in seen:
            raise UsageError(f"{path}, line {line} names '{raw}' again (first on line {seen[key]}).")
        seen[key] = line
        file = path.parent / raw
        folder = cells[1].strip() if len(cells) == 2 else ""
        found.append(Found(key, folder or None, os.fspath(file), None, file_size(file)))
    return Source(tuple(found))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that names an image."""
    suffix = path.suffix.lower()
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if suffix == ".txt":
                rows: Iterator[list[str]] = (line.rstrip("\r\n").split("\t") for line in file)
                yield from _named(enumerate(rows, start=1))
            else:
                reader = csv.reader(file, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
                yield from _named((reader.line_num, row) for row in reader)
    except (OSError, csv.Error) as error:
        raise UsageError(f"The list {path} cannot be read: {error}.") from error


def _named(rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    first = True
    for line, cells in rows:
        if not cells or not cells[0].strip() or cells[0].startswith("#"):
            continue
        if first and cells[0].strip().lower() in HEADERS:
            first = False
            continue
        first = False
        yield line, cells
