"""HTTP as fsspec does it, within a budget: bodies are read piece by piece and refused when they are too long,
and pages of links are read in one pass."""

import asyncio
import html
import io
import re
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from lsncli.images.budget import CURRENT, Budget, Unfetchable
from lsncli.images.item import MAX_BYTES

LARGE = 1 << 25
"""Bytes of a body up to which any number of them are read at the same time."""
ROOM = 2 * MAX_BYTES
"""Bytes of longer bodies that are read at the same time."""
LONGEST_LINK = 4096
_TAG = re.compile(r"<a\s([^<>]*)>", re.IGNORECASE)
_HREF = re.compile(r"""\bhref\s{0,9}=\s{0,9}["']([^"']+)""", re.IGNORECASE)
_BARE = re.compile(r"https?://[-a-zA-Z0-9@:%_+.~#?&/=]+")


class BodyBudget:
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


_rooms: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, BodyBudget]" = weakref.WeakKeyDictionary()


async def open_session(**options: Any) -> aiohttp.ClientSession:
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
            room = _rooms.setdefault(asyncio.get_running_loop(), BodyBudget())
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


def parse_links(page: bytes, folder: str) -> list[str]:
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
