"""Images named by a list: one path per line (.txt, or standard input) or row (.csv, .tsv), optionally a class
beside it."""

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from lsncli.errors import UsageError
from lsncli.images.fetch import fetch
from lsncli.images.found import Found, Source, Unique, size_and_time
from lsncli.images.remote import Remote
from lsncli.images.urls import as_url, without_scheme

HEADERS = frozenset({"path", "file", "filename", "image", "key"})

Row = tuple[int, list[str]]  # number of the line, and its cells


def scan(path: Path, *, repeats: bool = False) -> Source:
    """List the images that a list file names; relative paths are relative to the list's own folder, and URLs
    are taken as they are.

    Blank lines, lines that start with '#' and a header row (``path,class``) are skipped. A named file that
    is not there is kept: it fails, visibly, when it is read. Raises UsageError for a path named twice, unless
    ``repeats`` are wanted: then it is another image, with ``~2`` behind its key.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return _source(_rows(file, path.name), str(path), path.parent, repeats)
    except (OSError, csv.Error) as error:
        raise UsageError(f"The list {path} cannot be read: {error}.") from error


def scan_url(url: str, *, repeats: bool = False) -> Source:
    """The same for a list behind a URL: paths are relative to its folder there."""
    text = io.TextIOWrapper(
        io.BytesIO(fetch(url)), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
    try:
        return _source(_rows(text, url), url, url.rpartition("/")[0], repeats)
    except csv.Error as error:
        raise UsageError(f"The list {url} cannot be read: {error}.") from error


def scan_stdin(*, repeats: bool = False) -> Source:
    """The same for standard input, relative to the working folder: lines as in a .txt list, or paths alone,
    each ended by a NUL character (``find -print0``), which may hold anything."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise UsageError("'-' stands for a list on standard input, but there is no standard input.")
    data: bytes = stream.read()
    if b"\0" in data:
        rows: Iterator[Row] = ((number, [os.fsdecode(name)]) for number, name in _until_nul(data) if name)
    else:
        text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", errors="surrogateescape", newline="\n")
        rows = _named(enumerate(_cells(text), start=1))
    return _source(rows, "standard input", Path(), repeats)


def _source(rows: Iterator[Row], where: str, folder: Path | str, repeats: bool) -> Source:
    """``folder`` is what paths are relative to; a text is that of a URL."""
    found: list[Found] = []
    seen: dict[str, int] = {}
    unique = Unique()
    labels: dict[str, str] = {}  # one string a class, not one an image
    for line, cells in rows:
        raw = cells[0]
        if "\0" in raw:
            raise UsageError(f"{where}, line {line}: a path cannot hold a NUL character.")
        if len(cells) > 2:
            raise UsageError(
                f"{where}, line {line}: expected a path and at most one class, found {len(cells)} columns.",
                'A path that holds the separator must be in "double quotes" in a .csv or .tsv.',
            )
        raw = without_scheme(raw)
        url = as_url(raw)
        key = url or os.path.normpath(raw).replace(os.sep, "/")
        if key in seen and not repeats:
            raise UsageError(f"{where}, line {line} names '{raw}' again (first on line {seen[key]}).")
        key = unique(key)
        seen[key] = line
        label = cells[1].strip() if len(cells) == 2 else ""
        label = labels.setdefault(label, label)
        if isinstance(folder, str):
            url = url or f"{folder}/{raw}"
        if url is not None:
            found.append(Found(key, label or None, url, 0, None, Remote(url)))
            continue
        path = os.path.join(folder, raw) if folder != Path() else raw
        size, mtime = size_and_time(path)
        found.append(Found(key, label or None, path, None, size, mtime=mtime))
    return Source(found, ordered=True)


def _rows(file: TextIO, name: str) -> Iterator[Row]:
    """Every row of a list file that names an image."""
    if name.lower().endswith(".txt"):
        yield from _named(enumerate(_cells(file), start=1))
    else:
        separator = "\t" if name.lower().endswith(".tsv") else ","
        reader = csv.reader(file, delimiter=separator, strict=True)
        yield from _named((reader.line_num, row) for row in reader)


def _cells(lines: Iterable[str]) -> Iterator[list[str]]:
    return (line.rstrip("\r\n").split("\t") for line in lines)


def _named(rows: Iterator[Row]) -> Iterator[Row]:
    first = True
    for line, cells in rows:
        if not cells or not cells[0].strip() or cells[0].startswith("#"):
            continue
        if first and cells[0].strip().lower() in HEADERS:
            first = False
            continue
        first = False
        yield line, cells


def _until_nul(data: bytes) -> Iterator[tuple[int, bytes]]:
    start, number = 0, 1
    while start < len(data):
        end = data.find(b"\0", start)
        end = len(data) if end < 0 else end
        yield number, data[start:end]
        start, number = end + 1, number + 1
