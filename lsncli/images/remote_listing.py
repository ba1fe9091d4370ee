"""What a URL stands for: an image, a folder, a pattern, a list, a tar or a Parquet file behind it."""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, cast

from lsncli.credentials import masked
from lsncli.errors import LsnError, UsageError
from lsncli.images import tar
from lsncli.images.budget import Unfetchable
from lsncli.images.folder import MAGIC, Pattern, check_matched, parse_pattern
from lsncli.images.item import (
    OTHER_ARCHIVES,
    Found,
    Problem,
    Scan,
    Source,
    by_folder,
    is_hidden,
    is_image,
    is_system,
)
from lsncli.images.remote import (
    BLOCK,
    DENIED,
    NO_SUCH_FILE,
    RangeFile,
    Remote,
    list_folder,
    object_info,
    object_size,
    open_file_system,
)
from lsncli.images.source_kinds import ListingOptions, find_kind, source_suffixes, split_fragment
from lsncli.registry import load

COMPRESSED_BLOCK = 1 << 23
"""Bytes that are fetched at once of a compressed tar, which is read whole anyway."""
DEEPEST = 64
"""Folders within folders; a server may go on for ever."""
MOST_FOLDERS = 100_000
"""Folders of one source, for the same reason."""
LITERAL = re.compile(r"[^/]*//(?:[^/?#]*@[^/?#]*|\[[^/?#\]]*\][^/?#]*)(?=/|$)")
"""The start of a URL whose special characters make no pattern: credentials, or an IPv6 address."""


def find_sources(url: str, asked: ListingOptions) -> list[Scan]:
    """The sources that a URL stands for. Raises UsageError for one that is not there or cannot be a source,
    Unavailable without the package that its kind of URL needs, and LsnError if it is unavailable."""
    url, fragment = split_fragment(url)
    asked = replace(asked, fragment=fragment or asked.fragment)
    path = _parts(url)[1].partition("?")[0]  # in a URL, ? begins a query
    scans = _fitting(url, asked) if MAGIC.search(path) else [(_name(url), lambda: _scan(url, asked))]
    return [(name, partial(_shown, scan)) for name, scan in scans] if masked(url) != url else scans


def _parts(url: str) -> tuple[str, str]:
    """What of a URL is never part of a pattern, and what may be."""
    start = LITERAL.match(url)
    end = start.end() if start else url.index("://") + 3
    return url[:end], url[end:]


def _shown(scan: Callable[[], Source]) -> Source:
    """A source whose paths, which are shown and stored, hold no credentials; what reads its images does."""
    source = scan()
    source.found = [replace(one, path=masked(one.path)) for one in source.found]
    source.problems = [replace(one, path=masked(one.path)) for one in source.problems]
    return source


def _scan(url: str, asked: ListingOptions) -> Source:
    name = _name(url).lower()
    if name.endswith(OTHER_ARCHIVES):
        raise UsageError(f"'{url}' is an archive that cannot be read.", "Unpack it and give the folder.")
    try:
        if kind := find_kind(name):
            if not kind.remote:
                raise UsageError(
                    f"'{url}' lies behind a URL, where {kind.shown} cannot be read.", "Fetch it first."
                )
            source: Source = load(kind.remote)(url, asked)
            return source
        known = object_info(url)
        # A web server's folder is a page of links.
        page = str(known.get("mimetype")).startswith("text/html") and not is_image(name)
        return _folder(url, None) if page or known["type"] == "directory" else _image(url, known.get("size"))
    except Unfetchable as error:
        wrong = UsageError if error.message == NO_SUCH_FILE else LsnError
        raise wrong(f"'{url}' cannot be read: {error.message}.") from error


def _name(url: str) -> str:
    return posixpath.basename(masked(url).partition("?")[0].rstrip("/")) or "root"


def _below(url: str, key: str) -> str:
    return url + key if url.endswith("/") else f"{url}/{key}"


def _image(url: str, size: int | None) -> Source:
    return Source([Found(_name(url), None, url, 0, size, Remote(url, size))], single=True)


def scan_tar(url: str, asked: ListingOptions) -> Source:
    """List the images of a tar behind a URL; raises as ``tar.scan_file``."""
    size = object_size(url)
    block = BLOCK if _name(url).lower().endswith(".tar") else COMPRESSED_BLOCK
    return tar.scan_file(url, cast(IO[bytes], RangeFile(url, size, block)), Remote(url, size), asked.columns)


def _fitting(url: str, asked: ListingOptions) -> list[Scan]:
    """What fits a pattern: packs and lists as sources of their own, or images as one."""
    start, path = _parts(url)
    pattern = parse_pattern(Path(path.lstrip("/")))
    assert pattern is not None  # it holds a special character
    base = f"{start}{'/' * path.startswith('/')}{'/'.join(pattern.base.parts)}"
    if not find_kind(url):

        def scan() -> Source:
            source = _folder(base, pattern)
            check_matched(bool(source.found or source.problems), url)
            return source

        return [(_name(base), scan)]
    files = sorted(key for key, _ in _files(base, pattern, source_suffixes(), Source([])))
    check_matched(bool(files), url)
    return [one for key in files for one in find_sources(_below(base, key), asked)]


def _folder(url: str, pattern: Pattern | None) -> Source:
    """The images below a URL, labelled as those of a folder are."""
    source = Source([])
    entries = list(_files(url, pattern, None, source))
    folders = by_folder([key for key, _ in entries])
    for (key, size), folder in zip(entries, folders, strict=True):
        one = _below(url, key)
        source.found.append(Found(key, folder, one, 0, size, Remote(one, size)))
    return source


def _files(
    url: str, pattern: Pattern | None, endings: tuple[str, ...] | None, source: Source
) -> Iterator[tuple[str, int | None]]:
    """Key and size of every file below a URL that fits ``pattern`` and has one of the ``endings`` (None = of
    images). Into ``source`` goes what could not be listed, and how many files were skipped.

    Raises LsnError if the network fails for good: a listing with a hole would pass for a whole one.
    """
    system, root = open_file_system(url)
    todo, folders = [(root, "")], 0
    while todo:
        folder, prefix = todo.pop()
        folders += 1
        if folders > MOST_FOLDERS:
            raise LsnError(f"'{url}' has more than {MOST_FOLDERS:,} folders.", "Name fewer of them.")
        try:
            listed = list_folder(system, folder)
        except Unfetchable as error:
            if not error.message.startswith(DENIED) or not prefix:
                raise LsnError(f"'{_below(url, prefix)}' cannot be listed: {error.message}.") from error
            reason = f"unreadable folder: {error.message}"
            source.problems.append(Problem(prefix, reason, _below(url, prefix)))
            continue
        for entry in listed:
            path = str(entry["name"]).rstrip("/")
            name = posixpath.basename(path)
            key = prefix + name
            # Some list a folder within itself, and a web page may lead anywhere.
            if path == folder.rstrip("/") or posixpath.dirname(path).rstrip("/") != folder.rstrip("/"):
                continue
            is_folder = entry.get("type") == "directory"
            if is_hidden(name):
                source.ignored += 1
                source.system |= {name} if is_system(name) else set()
            elif pattern is not None and not (
                pattern.may_contain(key) if is_folder else pattern.matches(key)
            ):
                continue
            elif is_folder:
                if key.count("/") < DEEPEST:
                    todo.append((path, key + "/"))
            elif name.lower().endswith(endings) if endings else is_image(name):
                yield key, entry.get("size")
            else:
                source.ignored += 1
    # What file systems remember of a million files would stay in memory.
    system.invalidate_cache()
