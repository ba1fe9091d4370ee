"""Read bytes behind URLs through fsspec (extra ``remote``), with retries.

Every byte from behind a URL comes through ``fetch``: limits on bytes and time are in one place.
"""

import io
import os
import random
import re
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lsncli.errors import LsnError, Unavailable, UsageError
from lsncli.images.budget import CURRENT, Budget, FetchTimeout, Unfetchable, run_in_thread, with_deadline
from lsncli.images.item import MAX_BYTES
from lsncli.images.read import CHANGED, Undecodable

MAX_PAGE = 1 << 27
"""Bytes of a page of links: about a million of them."""
TRIES = "LSN_REMOTE_TRIES"
"""The environment variable that says how often something is tried; worker processes inherit it."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second try; each further wait is four times as long, up to the longest."""
PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
    NotImplementedError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
)
"""What another try would not mend. Each file system has errors of its own: any other counts as transient."""
PASSING_STATUS = frozenset({408, 425, 429})
"""Refusals of an HTTP server, among 4xx, that it takes back after a while."""

NO_SUCH_FILE, DENIED = "no such file", "permission denied"


def object_info(url: str) -> dict[str, Any]:
    """What fsspec knows of an object: ``size``, ``type`` and more. Raises Unfetchable and Unavailable."""
    system, path = open_file_system(url)
    return dict(_ask(Budget(), system, "info", path))


def object_size(url: str) -> int:
    """The size of an object in bytes. Raises Unfetchable, also if its server does not say."""
    size = object_info(url).get("size")
    if not isinstance(size, int):
        raise Unfetchable("its server does not say how large it is")
    return size


def fetch(url: str, *, limit: int = MAX_BYTES, expected: int = 0, excess: str = "") -> bytes:
    """All of an object, of ``limit`` bytes at most; ``expected`` is its size, if that is known.

    No more than that is ever in memory. Raises Unfetchable, for the reason ``excess`` if the object is
    longer, and Unavailable without the package that the URL needs.
    """
    system, path = open_file_system(url)
    if _is_web(system):
        return _bytes(Budget(limit, excess=excess), system, path)
    # As a range, to which libraries hold.
    return _bytes(Budget(limit, expected=expected, excess=excess), system, path, start=0, end=limit + 1)


def fetch_range(url: str, offset: int, size: int) -> bytes:
    """``size`` bytes of an object from ``offset``, fewer if it ends. Raises as ``fetch``."""
    if size > MAX_BYTES:  # of damaged or hostile metadata
        raise Unfetchable(f"too large: {size / 2**30:.1f} GiB")
    if not size:
        return b""
    system, path = open_file_system(url)
    # Such as Python's own http.server, which sends everything.
    excess = "its server sends whole files only, no ranges"
    # What a web server claims earns it no time.
    budget = Budget(size, expected=0 if _is_web(system) else size, excess=excess)
    return _bytes(budget, system, path, start=offset, end=offset + size)


def _bytes(budget: Budget, system: Any, path: str, **options: int) -> bytes:
    data = bytes(_ask(budget, system, "cat_file", path, **options))
    budget.received(len(data))
    return data


def list_folder(system: Any, folder: str) -> list[dict[str, Any]]:
    """What lies in a folder of a file system, by ``name``, ``type`` and ``size``. Raises Unfetchable."""
    if not _is_web(system):
        listed: list[dict[str, Any]] = _ask(Budget(), system, "ls", folder, detail=True)
        return listed
    from lsncli.images.http import parse_links

    budget = Budget(MAX_PAGE, excess=f"a page of links of more than {MAX_PAGE >> 20} MiB")
    urls = parse_links(_ask(budget, system, "cat_file", folder), folder)
    return [{"name": one, "size": None, "type": "directory" if one.endswith("/") else "file"} for one in urls]


def _ask(budget: Budget, system: Any, name: str, path: str, **options: Any) -> Any:
    """The result of a method of a file system, which is asked again, after a while, if it fails for a reason
    that may pass.

    Raises Unfetchable when the last try failed, no other would help, or the budget is spent.
    """
    tries = _tries()
    for number in range(1, tries + 1):
        try:
            return _once(budget, system, name, path, options)
        except LsnError:
            raise
        except Exception as caught:
            error = _meant(caught)
            if isinstance(error, LsnError):
                raise error from caught
            if not _may_pass(error):
                raise Unfetchable(_reason(error)) from error
            # Not all threads, or machines, at the same moment.
            wait = min(FIRST_WAIT * 4 ** (number - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)
            if number == tries or wait >= budget.left():
                more = f" in {budget.seconds:g} s; --timeout allows more" * isinstance(error, FetchTimeout)
                times = f"tried {number} time{'s' * (number > 1)}{more}"
                raise Unfetchable(f"{_reason(error)} ({times})") from error
            time.sleep(wait)
            budget.try_again()
    raise AssertionError


def _once(budget: Budget, system: Any, name: str, path: str, options: dict[str, Any]) -> Any:
    before = CURRENT.set(budget)
    try:
        if system.async_impl:
            from fsspec.asyn import sync

            return sync(system.loop, with_deadline(getattr(system, f"_{name}"), budget), path, **options)
        return run_in_thread(partial(getattr(system, name), path, **options), budget)
    finally:
        CURRENT.reset(before)


def _is_web(system: Any) -> bool:
    return "http" in system.protocol


def open_file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises Unavailable without the package that it needs."""
    try:
        from fsspec import filesystem
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise Unavailable(
            f"Reading '{url}' needs fsspec, which is not installed.", "pip install 'lsncli[remote]'"
        ) from error
    try:
        # fsspec keeps one file system a thread and process: threads share no connection.
        options = _web_options(url)
        if (scheme := url.partition("://")[0]) in options:
            return filesystem(scheme, **options[scheme]), url  # `::` of an IPv6 address begins no chain here
        system, path = url_to_fs(url, **options)
    except ImportError as error:
        raise Unavailable(f"Reading '{url}' needs another package.", f"{error}".strip()) from error
    except ValueError as error:
        raise UsageError(f"'{url}' cannot be read: {error}.") from error
    return system, path


def _web_options(url: str) -> dict[str, Any]:
    """Options by which HTTP keeps to budgets, also where it is one link of a chain (``zip::https://...``)."""
    schemes = [scheme for scheme in ("http", "https") if f"{scheme}://" in url]
    if not schemes:
        return {}
    from lsncli.images.http import open_session

    return {scheme: {"get_client": open_session} for scheme in schemes}


def _tries() -> int:
    text = os.environ.get(TRIES, "3")
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{TRIES}: expected a number from 1 on, found '{text}'.")
    return int(text)


def _meant(error: Exception) -> Exception:
    """fsspec says that there is no such file whatever a web server did, also if it wants a password."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        of_network = isinstance(cause, OSError | LsnError) or type(cause).__module__.startswith("aiohttp")
        if of_network or _status(cause) is not None:
            return cause
    return error


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    if status is not None and 400 <= status < 500:
        return status in PASSING_STATUS
    return not isinstance(error, PERMANENT)


def _status(error: Exception) -> int | None:
    """The number by which an HTTP server refused, whichever library says so."""
    found = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None


def _reason(error: Exception) -> str:
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return NO_SUCH_FILE
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{DENIED}: its server asks for a user and a password, or refuses those given (401)"
    if isinstance(error, PermissionError) or status == HTTPStatus.FORBIDDEN:
        return DENIED
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if isinstance(error, FetchTimeout):
        return "timed out"
    if status in set(HTTPStatus):
        return f"cannot be fetched: its server answers {status} ({HTTPStatus(status).phrase})"
    text = " ".join(str(error).split())
    return f"cannot be fetched: {type(error).__name__}{': ' * bool(text)}{text[:200]}"


BLOCK = 1 << 16
"""Bytes that are fetched at once where a tar is indexed: what is longer between two headers is never read."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One object behind a URL, ``size`` bytes of it if that is known: an image, or what holds many."""

    url: str
    size: int | None = None

    def read(self, offset: int, size: int | None) -> bytes:
        """``size`` bytes from ``offset``. Raises Undecodable."""
        if (size or 0) > MAX_BYTES:
            raise Undecodable(f"too large: {(size or 0) / 2**30:.1f} GiB")
        try:
            if size is None:
                return fetch(self.url)
            whole = offset == 0 and size == self.size
            if whole:
                data = fetch(self.url, limit=size, expected=size, excess=CHANGED)
            else:
                data = fetch_range(self.url, offset, size)
        except LsnError as error:
            raise Undecodable(error.message) from error
        if len(data) != size:
            raise Undecodable(CHANGED)
        return data


class RangeFile(io.RawIOBase):
    """A remote object as a file that is read in ranges of ``block`` bytes, for readers that skip about."""

    def __init__(self, url: str, size: int, block: int = BLOCK) -> None:
        super().__init__()
        self._url, self._size, self._block = url, size, block
        self._position = self._start = 0
        self._held = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + position)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Raises Unfetchable, which is not an OSError: readers of formats would take that for damage."""
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        at = self._position - self._start
        if not 0 <= at <= len(self._held) - wanted:
            length = min(max(wanted, self._block), left)
            self._held, self._start, at = fetch_range(self._url, self._position, length), self._position, 0
            if len(self._held) < length:
                raise Unfetchable(CHANGED)
        self._position += wanted
        return self._held[at : at + wanted]

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


SCHEME = re.compile(r"([a-z][a-z0-9+.-]+(?:::[a-z][a-z0-9+.-]+)*):/{1,3}(?=[^/]|$)", re.IGNORECASE)

FILE = re.compile(r"file:/{1,3}(?=[^/])", re.IGNORECASE)


def as_url(path: Path | str) -> str | None:
    """``path`` as a URL if it is one, else None. ``Path`` drops one slash of "s3://"; it is put back."""
    text = str(path)
    found = SCHEME.match(text)
    if found is None or os.path.lexists(text):
        return None
    return f"{found[1].lower()}://{text[found.end() :]}"


def strip_file_scheme(text: str) -> str:
    """The path of a ``file://`` URL; any other text as it is."""
    found = FILE.match(text)
    return text if found is None or os.path.lexists(text) else "/" + unquote(text[found.end() :])
