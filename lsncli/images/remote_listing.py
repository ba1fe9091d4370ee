"""What a URL stands for: an image, a folder, a pattern, a list, a tar or a Parquet file behind it.

HTTP as fsspec does it, within a budget: bodies are read piece by piece and refused when they are too long,
and pages of links are read in one pass.
"""

import asyncio
import html
import io
import posixpath
import re
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urljoin, urlsplit

import aiohttp

from lsncli.credentials import masked
from lsncli.errors import LsnError, UsageError
from lsncli.images import tar
from lsncli.images.budget import CURRENT, Budget, Unfetchable
from lsncli.images.folder import MAGIC, Pattern, as_pattern, check_fits
from lsncli.images.found import (
    MAX_BYTES,
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
    about,
    entries,
    file_system,
    size_of,
)
from lsncli.images.source_kinds import Asked, kind_of, parted, suffixes
from lsncli.registry import load

COMPRESSED_BLOCK = 1 << 23
"""Bytes that are fetched at once of a compressed tar, which is read whole anyway."""
DEEPEST = 64
"""Folders within folders; a server may go on for ever."""
MOST_FOLDERS = 100_000
"""Folders of one source, for the same reason."""
LITERAL = re.compile(r"[^/]*//(?:[^/?#]*@[^/?#]*|\[[^/?#\]]*\][^/?#]*)(?=/|$)")
"""The start of a URL whose special characters make no pattern: credentials, or an IPv6 address."""


def what_it_names(url: str, asked: Asked) -> list[Scan]:
    """The sources that a URL stands for. Raises UsageError for one that is not there or cannot be a source,
    Unavailable without the package that its kind of URL needs, and LsnError if it cannot be had."""
    url, fragment = parted(url)
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


def _scan(url: str, asked: Asked) -> Source:
    name = _name(url).lower()
    if name.endswith(OTHER_ARCHIVES):
        raise UsageError(f"'{url}' is an archive that cannot be read.", "Unpack it and give the folder.")
    try:
        if kind := kind_of(name):
            if not kind.remote:
                raise UsageError(
                    f"'{url}' lies behind a URL, where {kind.shown} cannot be read.", "Fetch it first."
                )
            source: Source = load(kind.remote)(url, asked)
            return source
        known = about(url)
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


def scan_tar(url: str, asked: Asked) -> Source:
    """List the images of a tar behind a URL; raises as ``tar.scan_file``."""
    size = size_of(url)
    block = BLOCK if _name(url).lower().endswith(".tar") else COMPRESSED_BLOCK
    return tar.scan_file(url, cast(IO[bytes], RangeFile(url, size, block)), Remote(url, size), asked.columns)


def _fitting(url: str, asked: Asked) -> list[Scan]:
    """What fits a pattern: packs and lists as sources of their own, or images as one."""
    start, path = _parts(url)
    pattern = as_pattern(Path(path.lstrip("/")))
    assert pattern is not None  # it holds a special character
    base = f"{start}{'/' * path.startswith('/')}{'/'.join(pattern.base.parts)}"
    if not kind_of(url):

        def scan() -> Source:
            source = _folder(base, pattern)
            check_fits(bool(source.found or source.problems), url)
            return source

        return [(_name(base), scan)]
    files = sorted(key for key, _ in _files(base, pattern, suffixes(), Source([])))
    check_fits(bool(files), url)
    return [one for key in files for one in what_it_names(_below(base, key), asked)]


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
    images). Into ``source`` goes what could not be listed, and how many files were passed over.

    Raises LsnError if the network fails for good: a listing with a hole would pass for a whole one.
    """
    system, root = file_system(url)
    todo, folders = [(root, "")], 0
    while todo:
        folder, prefix = todo.pop()
        folders += 1
        if folders > MOST_FOLDERS:
            raise LsnError(f"'{url}' has more than {MOST_FOLDERS:,} folders.", "Name fewer of them.")
        try:
            listed = entries(system, folder)
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
            elif pattern is not None and not (pattern.leads_to(key) if is_folder else pattern.fits(key)):
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


LARGE = 1 << 25
"""Bytes of a body up to which any number of them are read at the same time."""
ROOM = 2 * MAX_BYTES
"""Bytes of longer bodies that are read at the same time."""
LONGEST_LINK = 4096
_TAG = re.compile(r"<a\s([^<>]*)>", re.IGNORECASE)
_HREF = re.compile(r"""\bhref\s{0,9}=\s{0,9}["']([^"']+)""", re.IGNORECASE)
_BARE = re.compile(r"https?://[-a-zA-Z0-9@:%_+.~#?&/=]+")


class Room:
    """The bytes of large bodies that may still be read; all tasks of one event loop share it."""

    def __init__(self) -> None:
        self._free, self._change = ROOM, asyncio.Condition()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Wait for ``size`` bytes of it, and give them back afterwards."""
        size = min(size, ROOM)
        async with self._change:
            await self._change.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            async with self._change:
                self._free += size
                self._change.notify_all()


_rooms: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Room]" = weakref.WeakKeyDictionary()


async def client(**options: Any) -> aiohttp.ClientSession:
    """Open the session of a file system, for fsspec's ``get_client``: it asks for bodies as they are, unpacks
    none, and leaves the time to the budget."""
    headers = {"Accept-Encoding": "identity", **(options.pop("headers", None) or {})}
    usual = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=None)}
    return aiohttp.ClientSession(
        **(usual | options), headers=headers, response_class=Response, auto_decompress=False
    )


class Response(aiohttp.ClientResponse):
    """An answer whose body is held to the budget of the fetch that asked for it."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the headers. Raises Unfetchable for a body that is compressed although nobody asked for it."""
        await super().start(connection)
        coding = self.headers.get("Content-Encoding", "").strip().lower()
        if coding not in ("", "identity") and self.method != "HEAD" and self.status < 400:
            self.close()
            raise Unfetchable(f"its server sends it compressed ({coding[:20]}), though asked not to")
        return self

    async def read(self) -> bytes:
        """The body; nothing of one that says why a request failed. Raises Unfetchable if it is too long."""
        if self._body is None:
            try:
                self._body = await self._within(CURRENT.get() or Budget())
            finally:
                self.close() if self._body is None or self.status >= 400 else self.release()
        return self._body

    async def _within(self, budget: Budget) -> bytes:
        if self.status >= 400:
            return b""
        asked = self.request_info.headers.get("Range", "bytes=0-")
        if self.status == 200 and not asked.startswith("bytes=0-"):
            raise Unfetchable("its server sends whole files only, no ranges")
        if (self.content_length or 0) > budget.limit:
            raise Unfetchable(budget.excess)
        held = io.BytesIO()  # what it holds is given away without a copy
        await self._pour(held, budget, LARGE)
        if held.tell() > LARGE:
            room = _rooms.setdefault(asyncio.get_running_loop(), Room())
            async with AsyncExitStack() as stack:
                with budget.on_hold():
                    await stack.enter_async_context(room.taken(self.content_length or budget.limit))
                await self._pour(held, budget, budget.limit)
        return held.getvalue()

    async def _pour(self, held: io.BytesIO, budget: Budget, limit: int) -> None:
        """Read on, to the end or until there are more than ``limit`` bytes."""
        while held.tell() <= limit and (piece := await self.content.readany()):
            held.write(piece)
            budget.received(held.tell())


def links(page: bytes, folder: str) -> list[str]:
    """The URLs of the files and folders in ``folder`` that a page links to, folders with a slash at the end,
    each once and in order.

    Each character is looked at a bounded number of times, whatever the page holds.
    """
    text = page.decode("utf-8", "replace")
    root = folder.rstrip("/") + "/"
    tags = (_HREF.search(tag) for tag in _TAG.findall(text))
    named = [html.unescape(href[1]) for href in tags if href and len(href[1]) <= LONGEST_LINK]
    named += [url for url in _BARE.findall(_TAG.sub(" ", text)) if len(url) <= LONGEST_LINK]
    below = _place(root)
    found: dict[str, None] = {}
    for name in named:
        try:
            place = _place(urljoin(root, name))
        except ValueError:  # an address that is none
            continue
        key = place.removeprefix(below)
        if key != place and key.rstrip("/") and "/" not in key.rstrip("/") and not re.search(r"[?#]", key):
            found[root + key] = None
    return list(found)


def _place(url: str) -> str:
    """A URL without its scheme and credentials: a site may be reached by both http and https."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + url.partition("://")[2].removeprefix(parts.netloc)
