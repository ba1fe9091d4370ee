"""Resolve a URL into the sources it names: an image, a folder, a pattern, a list, a tar or a Parquet file."""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, cast

from lsncli.credentials import mask_credentials
from lsncli.errors import LsnError, UsageError
from lsncli.images import tar
from lsncli.images.budget import Unfetchable
from lsncli.images.folder import MAGIC, Pattern, check_matched, parse_pattern
from lsncli.images.item import (
    OTHER_ARCHIVES,
    ImageItem,
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
"""Bytes per request for a compressed tar, which is read whole anyway."""
DEEPEST = 64
"""Levels of nested folders; a server may generate them without end."""
MOST_FOLDERS = 100_000
"""Folders of one source, for the same reason."""
LITERAL = re.compile(r"[^/]*//(?:[^/?#]*@[^/?#]*|\[[^/?#\]]*\][^/?#]*)(?=/|$)")
"""The start of a URL in which special characters are no pattern: credentials, or an IPv6 address."""


def find_sources(url: str, options: ListingOptions) -> list[Scan]:
    """Return the sources that a URL names.

    Raises UsageError for a URL that does not exist or is no source, Unavailable without the package that its
    scheme needs, and LsnError for other errors of the network.
    """
    url, fragment = split_fragment(url)
    options = replace(options, fragment=fragment or options.fragment)
    path = _split(url)[1].partition("?")[0]  # in a URL, ? begins a query
    scans = _match(url, options) if MAGIC.search(path) else [(_name(url), lambda: _scan(url, options))]
    return [(name, partial(_mask, scan)) for name, scan in scans] if mask_credentials(url) != url else scans


def _split(url: str) -> tuple[str, str]:
    """Split a URL into its start, which is never part of a pattern, and the rest."""
    start = LITERAL.match(url)
    end = start.end() if start else url.index("://") + 3
    return url[:end], url[end:]


def _mask(scan: Callable[[], Source]) -> Source:
    """Remove credentials from the paths of a source, which are shown and stored; ``Remote`` keeps them."""
    source = scan()
    source.items = [replace(item, path=mask_credentials(item.path)) for item in source.items]
    source.problems = [replace(problem, path=mask_credentials(problem.path)) for problem in source.problems]
    return source


def _scan(url: str, options: ListingOptions) -> Source:
    name = _name(url).lower()
    if name.endswith(OTHER_ARCHIVES):
        raise UsageError(f"'{url}' is an archive that cannot be read.", "Unpack it and give the folder.")
    try:
        if kind := find_kind(name):
            if not kind.remote:
                raise UsageError(
                    f"'{url}' lies behind a URL, where {kind.shown} cannot be read.", "Fetch it first."
                )
            source: Source = load(kind.remote)(url, options)
            return source
        info = object_info(url)
        # A folder on a web server is a page of links.
        page = str(info.get("mimetype")).startswith("text/html") and not is_image(name)
        return _folder(url, None) if page or info["type"] == "directory" else _image(url, info.get("size"))
    except Unfetchable as error:
        wrong = UsageError if error.message == NO_SUCH_FILE else LsnError
        raise wrong(f"'{url}' cannot be read: {error.message}.") from error


def _name(url: str) -> str:
    return posixpath.basename(mask_credentials(url).partition("?")[0].rstrip("/")) or "root"


def _join(url: str, key: str) -> str:
    return url + key if url.endswith("/") else f"{url}/{key}"


def _image(url: str, size: int | None) -> Source:
    return Source([ImageItem(_name(url), url, 0, size, Remote(url, size))], single=True)


def scan_tar(url: str, options: ListingOptions) -> Source:
    """List the images of a tar behind a URL. Raises as ``tar.scan_file``."""
    size = object_size(url)
    block = BLOCK if _name(url).lower().endswith(".tar") else COMPRESSED_BLOCK
    return tar.scan_file(
        url, cast(IO[bytes], RangeFile(url, size, block)), Remote(url, size), options.columns
    )


def _match(url: str, options: ListingOptions) -> list[Scan]:
    """Return what matches a pattern: each archive, table or list as a source, all images as one source."""
    start, path = _split(url)
    pattern = parse_pattern(Path(path.lstrip("/")))
    assert pattern is not None  # it holds a special character
    base = f"{start}{'/' * path.startswith('/')}{'/'.join(pattern.base.parts)}"
    if not find_kind(url):

        def scan() -> Source:
            source = _folder(base, pattern)
            check_matched(bool(source.items or source.problems), url)
            return source

        return [(_name(base), scan)]
    files = sorted(key for key, _ in _files(base, pattern, source_suffixes(), Source([])))
    check_matched(bool(files), url)
    return [scan for key in files for scan in find_sources(_join(base, key), options)]


def _folder(url: str, pattern: Pattern | None) -> Source:
    """List the images below a URL; subfolders are classes, as in a folder on the disk."""
    source = Source([])
    entries = list(_files(url, pattern, None, source))
    folders = by_folder([key for key, _ in entries])
    for (key, size), folder in zip(entries, folders, strict=True):
        image = _join(url, key)
        source.items.append(ImageItem(key, image, 0, size, Remote(image, size), folder=folder))
    return source


def _files(
    url: str, pattern: Pattern | None, endings: tuple[str, ...] | None, source: Source
) -> Iterator[tuple[str, int | None]]:
    """Yield key and size of the files below a URL that match ``pattern`` and have one of the ``endings``.

    Without ``endings`` images are yielded. Problems and the number of skipped files are added to ``source``.

    Raises LsnError if the network keeps failing: an incomplete listing would look like a complete one.
    """
    system, root = open_file_system(url)
    todo, folders = [(root, "")], 0
    while todo:
        folder, prefix = todo.pop()
        folders += 1
        if folders > MOST_FOLDERS:
            raise LsnError(f"'{url}' has more than {MOST_FOLDERS:,} folders.", "Name fewer of them.")
        try:
            entries = list_folder(system, folder)
        except Unfetchable as error:
            if not error.message.startswith(DENIED) or not prefix:
                raise LsnError(f"'{_join(url, prefix)}' cannot be listed: {error.message}.") from error
            reason = f"unreadable folder: {error.message}"
            source.problems.append(Problem(prefix, reason, _join(url, prefix)))
            continue
        for entry in entries:
            path = str(entry["name"]).rstrip("/")
            name = posixpath.basename(path)
            key = prefix + name
            # Some file systems list a folder within itself, and a web page may link to anything.
            if path == folder.rstrip("/") or posixpath.dirname(path).rstrip("/") != folder.rstrip("/"):
                continue
            is_folder = entry.get("type") == "directory"
            if is_hidden(name):
                source.ignored += 1
                source.system |= {name} if is_system(name) else set()
            elif pattern and not (pattern.may_contain if is_folder else pattern.matches)(key):
                continue
            elif is_folder:
                if key.count("/") < DEEPEST:
                    todo.append((path, key + "/"))
            elif name.lower().endswith(endings) if endings else is_image(name):
                yield key, entry.get("size")
            else:
                source.ignored += 1
    # Else fsspec would keep the entries of a million files in memory.
    system.invalidate_cache()
