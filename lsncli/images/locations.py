"""Resolve a path into sources: one, or several that a pattern or braces name.

``shards/{000..127}.tar`` stands for 128 names, which need not exist: a missing shard is an error, while a
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
from lsncli.images.item import OTHER_ARCHIVES, Found, Scan, Source, size_and_time
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
"""Names that are made of one text."""


def expand_braces(text: str) -> list[str]:
    """Every name that ``text`` stands for, in order; ``text`` alone if it has no braces to expand.

    ``{8..11}`` counts, with leading zeros if a bound has some (or from 3 down to 1), and ``{a,b}`` names
    each. Raises UsageError for more than MOST names.
    """
    pieces, choices, at, count = [], [], 0, 1
    for group in GROUP.finditer(text):
        pieces.append(text[at : group.start()])
        at = group.end()
        low, high, names = group.groups()
        # A group may be long: it is counted before it is written out.
        count *= abs(int(high) - int(low)) + 1 if names is None else names.count(",") + 1
        if count > MOST:
            raise UsageError(f"'{text}' stands for more than {MOST:,} names.", "Write fewer in the {...}.")
        choices.append(_counted(low, high) if names is None else names.split(","))
    rest = text[at:]
    return [
        "".join(itertools.chain(*zip(pieces, chosen, strict=True), [rest]))
        for chosen in itertools.product(*choices)
    ]


def _counted(low: str, high: str) -> list[str]:
    padded = low.startswith("0") or high.startswith("0")
    width = max(len(low), len(high)) if padded else 0
    first, last = int(low), int(high)
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


STDIN = Path("-")


def find_sources(path: Path, asked: ListingOptions, follow_links: bool) -> list[Scan]:
    """The sources that a path stands for: one, those that braces name, or the lists and tars that fit a
    pattern. Raises UsageError for a path that cannot be one."""
    if path == STDIN:
        return [("stdin", lambda: listfile.scan_stdin(repeats=asked.repeats, columns=asked.columns))]
    path = Path(strip_file_scheme(str(path)))
    if not os.path.lexists(path):
        if (names := expand_braces(str(path))) != [str(path)]:
            return [one for name in names for one in find_sources(Path(name), asked, follow_links)]
        if (url := as_url(path)) is not None:
            return remote_listing.find_sources(url, asked)
        name, fragment = split_fragment(str(path))
        path, asked = Path(name), replace(asked, fragment=fragment)
        if (pattern := parse_pattern(path)) is not None:
            return _fitting(path, pattern, asked, follow_links)
    shown = path.name or path.resolve().name or "root"
    return [(shown, lambda: _scan(path, asked, follow_links))]


def _fitting(path: Path, pattern: Pattern, asked: ListingOptions, follow_links: bool) -> list[Scan]:
    """What fits a pattern: packs and lists as sources of their own, or images as one."""
    if not pattern.base.is_dir():
        raise UsageError(f"There is no folder '{pattern.base}'.", sources_hint())
    if find_kind(path.name):
        files = find_files(pattern, source_suffixes())
        check_matched(bool(files), str(path))
        return [one for file in files for one in find_sources(file, asked, follow_links)]

    def scan() -> Source:
        source = folder.scan(pattern.base, follow_links=follow_links, pattern=pattern)
        check_matched(bool(source.found or source.problems), str(path))
        return source

    return [(pattern.base.name or "images", scan)]


def _scan(path: Path, asked: ListingOptions, follow_links: bool) -> Source:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if not os.path.lexists(path):
            reason = "" if isinstance(error, FileNotFoundError) else f" that can be read: {error}"
            raise UsageError(f"There is no '{path}'{reason}.", sources_hint()) from error
        mode = stat.S_IFREG  # a link to nothing: it is listed, and fails when it is read
    name = path.name.lower()
    if stat.S_ISDIR(mode):
        return folder.scan(path, follow_links=follow_links)
    if name.endswith(OTHER_ARCHIVES):
        raise UsageError(f"'{path}' is an archive that cannot be read.", "Unpack it and give the folder.")
    kind = find_kind(name)
    if kind and not stat.S_ISREG(mode):
        raise UsageError(f"'{path}' is not a regular file.", "Pipe a list into `-` instead.")
    if kind:
        source: Source = load(kind.scan)(str(path), asked)
        return source
    size, mtime = size_and_time(path)
    return Source([Found(path.name, None, str(path), None, size, mtime=mtime)], single=True)


def with_prefix(name: str, source: Source) -> Source:
    """A source as one of several: its keys come behind its name."""

    def key(old: str) -> str:
        return name if source.single else f"{name}/{old}"

    source.found = [replace(one, key=key(one.key)) for one in source.found]
    source.problems = [replace(one, key=f"{name}/{one.key}") for one in source.problems]
    return source
