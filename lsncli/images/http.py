"""HTTP for fsspec within a budget: bodies are read piece by piece and refused when they are too long.

Also reads the links of a page in one pass.
"""

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
"""Bytes up to which bodies are read without waiting for memory."""
ROOM = 2 * MAX_BYTES
"""Bytes of all longer bodies that are read at the same time."""
LONGEST_LINK = 4096
_TAG = re.compile(r"<a\s([^<>]*)>", re.IGNORECASE)
_HREF = re.compile(r"""\bhref\s{0,9}=\s{0,9}["']([^"']+)""", re.IGNORECASE)
_BARE = re.compile(r"https?://[-a-zA-Z0-9@:%_+.~#?&/=]+")


class BodyBudget:
    """The memory for large bodies, which all tasks of an event loop share."""

    def __init__(self) -> None:
        self._free, self._change = ROOM, asyncio.Condition()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Wait for ``size`` bytes, and release them afterwards."""
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


_budgets: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, BodyBudget]" = weakref.WeakKeyDictionary()


async def open_session(**options: Any) -> aiohttp.ClientSession:
    """Open an HTTP session for fsspec's ``get_client``: no compression, no time limit but the budget's."""
    headers = {"Accept-Encoding": "identity", **(options.pop("headers", None) or {})}
    defaults = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=None)}
    return aiohttp.ClientSession(
        **(defaults | options), headers=headers, response_class=Response, auto_decompress=False
    )


class Response(aiohttp.ClientResponse):
    """A response whose body is limited by the budget of its fetch."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the headers. Raises Unfetchable for a body that is compressed against our request."""
        await super().start(connection)
        coding = self.headers.get("Content-Encoding", "").strip().lower()
        if coding not in ("", "identity") and self.method != "HEAD" and self.status < 400:
            self.close()
            raise Unfetchable(f"its server sends it compressed ({coding[:20]}), though asked not to")
        return self

    async def read(self) -> bytes:
        """Return the body, empty if the request failed. Raises Unfetchable if it is too long."""
        if self._body is None:
            try:
                self._body = await self._read_within(CURRENT.get() or Budget())
            finally:
                self.close() if self._body is None or self.status >= 400 else self.release()
        return self._body

    async def _read_within(self, budget: Budget) -> bytes:
        if self.status >= 400:
            return b""
        requested = self.request_info.headers.get("Range", "bytes=0-")
        if self.status == 200 and not requested.startswith("bytes=0-"):
            raise Unfetchable("its server sends whole files only, no ranges")
        if (self.content_length or 0) > budget.limit:
            raise Unfetchable(budget.excess)
        body = io.BytesIO()  # its getvalue makes no copy
        await self._read_into(body, budget, LARGE)
        if body.tell() > LARGE:
            memory = _budgets.setdefault(asyncio.get_running_loop(), BodyBudget())
            async with AsyncExitStack() as stack:
                with budget.on_hold():
                    await stack.enter_async_context(memory.reserve(self.content_length or budget.limit))
                await self._read_into(body, budget, budget.limit)
        return body.getvalue()

    async def _read_into(self, body: io.BytesIO, budget: Budget, limit: int) -> None:
        """Read to the end, or until there are more than ``limit`` bytes."""
        while body.tell() <= limit and (piece := await self.content.readany()):
            body.write(piece)
            budget.received(body.tell())


def parse_links(page: bytes, folder: str) -> list[str]:
    """Return the URLs of the files and folders directly in ``folder`` that a page links to.

    Each appears once, in order; folders end in a slash. The time is linear in the page, whatever it contains.
    """
    text = page.decode("utf-8", "replace")
    root = folder.rstrip("/") + "/"
    tags = (_HREF.search(tag) for tag in _TAG.findall(text))
    targets = [html.unescape(href[1]) for href in tags if href and len(href[1]) <= LONGEST_LINK]
    targets += [url for url in _BARE.findall(_TAG.sub(" ", text)) if len(url) <= LONGEST_LINK]
    base = _address(root)
    urls: dict[str, None] = {}
    for target in targets:
        try:
            address = _address(urljoin(root, target))
        except ValueError:  # no valid URL
            continue
        key = address.removeprefix(base)
        if key != address and key.rstrip("/") and "/" not in key.rstrip("/") and not re.search(r"[?#]", key):
            urls[root + key] = None
    return list(urls)


def _address(url: str) -> str:
    """Return a URL without scheme and credentials: http and https may lead to the same site."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + url.partition("://")[2].removeprefix(parts.netloc)
