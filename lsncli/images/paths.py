"""What a path stands for: one source, or several that a pattern or braces name."""

import os
import stat
from dataclasses import replace
from pathlib import Path

from lsncli.errors import UsageError
from lsncli.images import braces, folder, listfile, online, table, tar
from lsncli.images.columns import Columns
from lsncli.images.found import (
    LISTS,
    OTHER_ARCHIVES,
    PACKS,
    TABLES,
    TARS,
    Found,
    Scan,
    Source,
    column_of,
    size_and_time,
)
from lsncli.images.patterns import Pattern, as_pattern, check_fits, matching_files
from lsncli.images.urls import as_url, without_scheme

STDIN = Path("-")
WANTED = (
    "Give folders, images, 'patterns/**/*.jpg', lists (.txt, .csv, .tsv), tars (plain, .gz, .bz2, .xz), "
    ".parquet files, URLs of any of these, or - for a list on standard input."
)


def what_it_names(path: Path, repeats: bool, follow_links: bool, columns: Columns) -> list[Scan]:
    """The sources that a path stands for: one, those that braces name, or the lists and tars that fit a
    pattern. Raises UsageError for a path that cannot be one."""
    if path == STDIN:
        return [("stdin", lambda: listfile.scan_stdin(repeats=repeats, columns=columns))]
    path = Path(without_scheme(str(path)))
    if not os.path.lexists(path):
        if (names := braces.expanded(str(path))) != [str(path)]:
            return [
                one for name in names for one in what_it_names(Path(name), repeats, follow_links, columns)
            ]
        if (url := as_url(path)) is not None:
            return online.what_it_names(url, repeats, columns)
        name, column = column_of(str(path))
        if (pattern := as_pattern(Path(name))) is not None:
            return _fitting(Path(name), column, pattern, repeats, follow_links, columns)
        path, columns = Path(name), columns.with_path(column)
    if path.name.lower().endswith(TABLES) and not path.is_dir():
        return [(path.name, lambda: table.scan(str(path), columns))]
    shown = path.name or path.resolve().name or "root"
    return [(shown, lambda: _scan(path, repeats, follow_links, columns))]


def _fitting(
    path: Path, column: str, pattern: Pattern, repeats: bool, follow_links: bool, columns: Columns
) -> list[Scan]:
    """What fits a pattern: packs and lists as sources of their own, or images as one."""
    if not pattern.base.is_dir():
        raise UsageError(f"There is no folder '{pattern.base}'.", WANTED)
    if path.name.lower().endswith(PACKS):
        files = matching_files(pattern, PACKS)
        check_fits(bool(files), str(path))
        asked = columns.with_path(column)
        return [one for file in files for one in what_it_names(file, repeats, follow_links, asked)]

    def scan() -> Source:
        source = folder.scan(pattern.base, follow_links=follow_links, pattern=pattern)
        check_fits(bool(source.found or source.problems), str(path))
        return source

    return [(pattern.base.name or "images", scan)]


def _scan(path: Path, repeats: bool, follow_links: bool, columns: Columns) -> Source:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if not os.path.lexists(path):
            reason = "" if isinstance(error, FileNotFoundError) else f" that can be read: {error}"
            raise UsageError(f"There is no '{path}'{reason}.", WANTED) from error
        mode = stat.S_IFREG  # a link to nothing: it is listed, and fails when it is read
    name = path.name.lower()
    if stat.S_ISDIR(mode):
        return folder.scan(path, follow_links=follow_links)
    if name.endswith(OTHER_ARCHIVES):
        raise UsageError(f"'{path}' is an archive that cannot be read.", "Unpack it and give the folder.")
    if name.endswith(LISTS + TARS) and not stat.S_ISREG(mode):
        raise UsageError(f"'{path}' is not a regular file.", "Pipe a list into `-` instead.")
    if name.endswith(LISTS):
        return listfile.scan(path, repeats=repeats, columns=columns)
    if name.endswith(TARS):
        return tar.scan(str(path), columns)
    size, mtime = size_and_time(path)
    return Source([Found(path.name, None, str(path), None, size, mtime=mtime)], single=True)


def behind(name: str, source: Source) -> Source:
    """A source as one of several: its keys come behind its name."""

    def key(old: str) -> str:
        return name if source.single else f"{name}/{old}"

    source.found = [replace(one, key=key(one.key)) for one in source.found]
    source.problems = [replace(one, key=f"{name}/{one.key}") for one in source.problems]
    return source
