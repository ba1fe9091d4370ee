"""Resolve a path into the sources it names: one, or several by a pattern or by braces.

``shards/{000..127}.tar`` expands to 128 names whether or not they exist, so a missing shard is an error; a
pattern with ``*`` would skip it.
"""

import itertools
import os
import re
import stat
from dataclasses import replace
from pathlib import Path

from lsncli.errors import UsageError
from lsncli.images import folder, listfile, remote_listing
from lsncli.images.folder import Pattern, check_matched, find_files, parse_pattern
from lsncli.images.item import OTHER_ARCHIVES, ImageItem, Scan, Source, size_and_time
from lsncli.images.remote import as_url, strip_file_scheme
from lsncli.images.source_kinds import (
    ListingOptions,
    find_kind,
    source_suffixes,
    sources_hint,
    split_fragment,
)
from lsncli.registry import load

GROUP = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")
MOST = 1_000_000
"""Names that one text may expand to."""


def expand_braces(text: str) -> list[str]:
    """Return the names that the braces in ``text`` expand to, in order; ``text`` alone if it has none.

    ``{8..11}`` counts up or down, with leading zeros if a bound has any; ``{a,b}`` lists names. Raises
    UsageError for more than MOST names.
    """
    pieces, choices, at, count = [], [], 0, 1
    for group in GROUP.finditer(text):
        pieces.append(text[at : group.start()])
        at = group.end()
        low, high, names = group.groups()
        # Count a group before it is expanded: it may be very long.
        count *= abs(int(high) - int(low)) + 1 if names is None else names.count(",") + 1
        if count > MOST:
            raise UsageError(f"'{text}' expands to more than {MOST:,} names.", "Write fewer in the {...}.")
        choices.append(_count(low, high) if names is None else names.split(","))
    rest = text[at:]
    return [
        "".join(itertools.chain(*zip(pieces, combination, strict=True), [rest]))
        for combination in itertools.product(*choices)
    ]


def _count(low: str, high: str) -> list[str]:
    """Return the numbers from ``low`` to ``high``, which may be the smaller one."""
    padded = low.startswith("0") or high.startswith("0")
    width = max(len(low), len(high)) if padded else 0
    first, last = int(low), int(high)
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


STDIN = Path("-")


def find_sources(path: Path, options: ListingOptions, follow_links: bool) -> list[Scan]:
    """Return the sources that a path names: itself, those of its braces, or what matches its pattern.

    Raises UsageError for a path that is no source.
    """
    if path == STDIN:
        return [("stdin", lambda: listfile.scan_stdin(repeats=options.repeats, columns=options.columns))]
    path = Path(strip_file_scheme(str(path)))
    if not os.path.lexists(path):
        if (names := expand_braces(str(path))) != [str(path)]:
            return [scan for name in names for scan in find_sources(Path(name), options, follow_links)]
        if (url := as_url(path)) is not None:
            return remote_listing.find_sources(url, options)
        file, fragment = split_fragment(str(path))
        path, options = Path(file), replace(options, fragment=fragment)
        if (pattern := parse_pattern(path)) is not None:
            return _match(path, pattern, options, follow_links)
    name = path.name or path.resolve().name or "root"
    return [(name, lambda: _scan(path, options, follow_links))]


def _match(path: Path, pattern: Pattern, options: ListingOptions, follow_links: bool) -> list[Scan]:
    """Return what matches a pattern: each archive, table or list as a source, all images as one source."""
    if not pattern.base.is_dir():
        raise UsageError(f"There is no folder '{pattern.base}'.", sources_hint())
    if find_kind(path.name):
        files = find_files(pattern, source_suffixes())
        check_matched(bool(files), str(path))
        return [scan for file in files for scan in find_sources(file, options, follow_links)]

    def scan() -> Source:
        source = folder.scan(pattern.base, follow_links=follow_links, pattern=pattern)
        check_matched(bool(source.items or source.problems), str(path))
        return source

    return [(pattern.base.name or "images", scan)]


def _scan(path: Path, options: ListingOptions, follow_links: bool) -> Source:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if not os.path.lexists(path):
            reason = "" if isinstance(error, FileNotFoundError) else f" that can be read: {error}"
            raise UsageError(f"There is no '{path}'{reason}.", sources_hint()) from error
        mode = stat.S_IFREG  # a broken link: it is listed, and fails when it is read
    name = path.name.lower()
    if stat.S_ISDIR(mode):
        return folder.scan(path, follow_links=follow_links)
    if name.endswith(OTHER_ARCHIVES):
        raise UsageError(f"'{path}' is an archive that cannot be read.", "Unpack it and give the folder.")
    kind = find_kind(name)
    if kind and not stat.S_ISREG(mode):
        raise UsageError(f"'{path}' is not a regular file.", "Pipe a list into `-` instead.")
    if kind:
        source: Source = load(kind.scan)(str(path), options)
        return source
    size, mtime = size_and_time(path)
    return Source([ImageItem(path.name, str(path), None, size, mtime=mtime)], single=True)


def with_prefix(name: str, source: Source) -> Source:
    """Put the name of a source before its keys, so that they are unique among several sources."""

    def key(old: str) -> str:
        return name if source.single else f"{name}/{old}"

    source.items = [replace(item, key=key(item.key)) for item in source.items]
    source.problems = [replace(problem, key=f"{name}/{problem.key}") for problem in source.problems]
    return source
