"""List the images that a list file names: one path per line (.txt, standard input) or row (.csv, .tsv),
optionally with a class."""

import codecs
import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, TextIO

from lsncli.credentials import mask_credentials, mask_query
from lsncli.errors import UsageError
from lsncli.images.columns import AUTOMATIC, Columns, parse_class
from lsncli.images.item import ImageItem, Problem, Source, UniqueNames, is_image, size_and_time
from lsncli.images.remote import Remote, as_url, fetch, strip_file_scheme
from lsncli.images.table_layout import SAMPLE, Row, TableLayout, cell_at, detect_layout, read_rows

MAX_LIST = 1 << 28
"""Bytes of a list behind a URL: millions of lines."""


def scan(path: Path, *, repeats: bool = False, columns: Columns = AUTOMATIC) -> Source:
    """List the images that a list file names; paths are relative to the folder of the list, or URLs.

    Blank lines and lines that start with '#' are skipped. Separator, header and columns are detected from the
    content unless ``columns`` names them. Missing files are listed, and fail when they are read. Raises
    UsageError for a path that is named twice; with ``repeats`` it becomes another image, with ``~2`` after
    its key.
    """
    try:
        with open(path, "rb") as raw, _text(raw) as file:
            return _source(file, _kind(path.name), str(path), path.parent, repeats, columns)
    except (OSError, csv.Error, UnicodeError) as error:
        raise UsageError(f"The list {path} cannot be read: {error}.") from error


def scan_url(url: str, *, repeats: bool = False, columns: Columns = AUTOMATIC) -> Source:
    """List the images that a list behind a URL names, as ``scan``; paths are relative to its folder there."""
    location = url.partition("?")[0]
    data = fetch(url, limit=MAX_LIST)
    try:
        with _text(io.BytesIO(data)) as file:
            folder = location.rpartition("/")[0]
            return _source(file, _kind(location), mask_credentials(url), folder, repeats, columns)
    except (csv.Error, UnicodeError) as error:
        raise UsageError(f"The list {url} cannot be read: {error}.") from error


def scan_stdin(*, repeats: bool = False, columns: Columns = AUTOMATIC) -> Source:
    """List the images that standard input names, as ``scan``; paths are relative to the working folder.

    The input has lines as a .txt list has, or any paths that each end in a NUL character (``find -print0``).
    """
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise UsageError("'-' means a list on standard input, but there is no standard input.")
    data: bytes = stream.read()
    where = "standard input"
    if b"\0" in data:
        rows = ((number, [os.fsdecode(name)]) for number, name in _split_at_nul(data) if name)
        return _read(rows, TableLayout(), where, Path(), repeats)
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", errors="surrogateescape", newline="\n")
    return _source(text, "txt", where, Path(), repeats, columns)


def _source(
    file: TextIO, kind: str, where: str, folder: Path | str, repeats: bool, columns: Columns
) -> Source:
    """List the images of an open list; paths are relative to ``folder``, a path or the text of a URL."""
    start = list(islice(file, SAMPLE))
    layout = detect_layout(kind, start, _exists(folder), columns, where)
    rows = read_rows(chain(start, file), layout.separator)
    return _read(islice(rows, int(layout.header), None), layout, where, folder, repeats)


def _read(rows: Iterable[Row], layout: TableLayout, where: str, folder: Path | str, repeats: bool) -> Source:
    source = Source([], ordered=True)
    seen: dict[str, int] = {}
    unique = UniqueNames()
    classes: dict[str, str | None] = {}  # all images of a class share one string, to save memory
    for line, cells in rows:
        layout.check_width(line, cells, where)
        raw = cell_at(cells, layout.path)
        if "\0" in raw:
            raise UsageError(f"{where}, line {line}: a path cannot hold a NUL character.")
        if not raw.strip():
            source.problems.append(Problem(f"line {line}", "no path in this row", f"{where}:{line}"))
            continue
        raw = strip_file_scheme(raw)
        url = as_url(raw)
        name = url or os.path.normpath(raw).replace(os.sep, "/")
        if name in seen and not repeats:
            raise UsageError(f"{where}, line {line} names '{raw}' again (first on line {seen[name]}).")
        seen[name] = line
        # Keys are stored, so they contain no credentials; ``Remote`` keeps these.
        key = unique(mask_credentials(url) if url else mask_query(name) if isinstance(folder, str) else name)
        text = cell_at(cells, layout.label)
        if text not in classes:
            try:
                label = parse_class(text)
                classes[text] = None if label is None else str(label)  # a number is a name, too
            except ValueError as error:
                classes[text] = None
                source.problems.append(Problem(f"line {line}", str(error), f"{where}:{line}"))
        if isinstance(folder, str):
            url = url or f"{folder}/{raw}"
        if url is not None:
            source.items.append(
                ImageItem(key, mask_credentials(url), 0, None, Remote(url), folder=classes[text])
            )
            continue
        path = os.path.join(folder, raw) if folder != Path() else raw
        size, mtime = size_and_time(path)
        source.items.append(ImageItem(key, path, None, size, mtime=mtime, folder=classes[text]))
    source.notes += [layout.remark] * bool(layout.remark)
    return source


def _text(file: IO[bytes]) -> TextIO:
    """Open a list as text: UTF-8, or UTF-16 with a byte order mark as Excel writes it."""
    start = file.read(2)
    file.seek(0)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return io.TextIOWrapper(file, "utf-16", newline="")
    return io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")


def _kind(name: str) -> str:
    """Return the kind of a list by its name, a key of SEPARATORS."""
    return name.lower()[-3:]


def _exists(folder: Path | str) -> Callable[[str], bool]:
    """Return a function that tells whether a cell is the path of an image.

    Behind a URL its name decides: nothing is fetched.
    """

    def exists(cell: str) -> bool:
        if as_url(strip_file_scheme(cell)):
            return True
        if isinstance(folder, str):
            return is_image(cell)
        return "\0" not in cell and os.path.isfile(os.path.join(folder, strip_file_scheme(cell)))

    return exists


def _split_at_nul(data: bytes) -> Iterator[tuple[int, bytes]]:
    start, number = 0, 1
    while start < len(data):
        end = data.find(b"\0", start)
        end = len(data) if end < 0 else end
        yield number, data[start:end]
        start, number = end + 1, number + 1
