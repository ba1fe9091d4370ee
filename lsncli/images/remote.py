"""Read bytes behind URLs through fsspec (extra ``remote``), with retries.

Every remote byte comes through ``fetch`` or ``fetch_range``, where the limits on bytes and time are.
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
"""Bytes of a page of links: about a million links."""
TRIES = "LSN_REMOTE_TRIES"
"""The environment variable for the number of tries of a request; worker processes inherit it."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second try; each further wait is four times as long, up to LONGEST_WAIT."""
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
"""Errors that no other try avoids. File systems have errors of their own: all others count as transient."""
TRANSIENT_STATUS = frozenset({408, 425, 429})
"""The HTTP status codes among 4xx that are transient."""

NO_SUCH_FILE, DENIED = "no such file", "permission denied"


def object_info(url: str) -> dict[str, Any]:
    """Return what fsspec knows of an object: ``size``, ``type`` and more. Raises Unfetchable, Unavailable."""
    system, path = open_file_system(url)
    return dict(_call(Budget(), system, "info", path))


def object_size(url: str) -> int:
    """Return the size of an object in bytes. Raises Unfetchable, also if its server does not report it."""
    size = object_info(url).get("size")
    if not isinstance(size, int):
        raise Unfetchable("its server does not report its size")
    return size


def fetch(url: str, *, limit: int = MAX_BYTES, expected: int = 0, excess: str = "") -> bytes:
    """Fetch a whole object of at most ``limit`` bytes; ``expected`` is its size, if known.

    Memory never exceeds the limit. Raises Unfetchable, with the reason ``excess`` for a longer object, and
    Unavailable without the package that the URL needs.
    """
    system, path = open_file_system(url)
    if _is_web(system):
        return _read(Budget(limit, excess=excess), system, path)
    # A range, so that the library itself stops at the limit.
    return _read(Budget(limit, expected=expected, excess=excess), system, path, start=0, end=limit + 1)


def fetch_range(url: str, offset: int, size: int) -> bytes:
    """Fetch ``size`` bytes of an object from ``offset``, fewer at its end. Raises as ``fetch``."""
    if size > MAX_BYTES:  # from damaged or hostile metadata
        raise Unfetchable(f"too large: {size / 2**30:.1f} GiB")
    if not size:
        return b""
    system, path = open_file_system(url)
    # Python's own http.server is one of these.
    excess = "its server sends whole files only, no ranges"
    # A web server gets no extra time for a size that it only claims.
    budget = Budget(size, expected=0 if _is_web(system) else size, excess=excess)
    return _read(budget, system, path, start=offset, end=offset + size)


def _read(budget: Budget, system: Any, path: str, **options: int) -> bytes:
    data = bytes(_call(budget, system, "cat_file", path, **options))
    budget.received(len(data))
    return data


def list_folder(system: Any, folder: str) -> list[dict[str, Any]]:
    """Return the entries of a folder, with ``name``, ``type`` and ``size``. Raises Unfetchable."""
    if not _is_web(system):
        entries: list[dict[str, Any]] = _call(Budget(), system, "ls", folder, detail=True)
        return entries
    from lsncli.images.http import parse_links

    budget = Budget(MAX_PAGE, excess=f"a page of links of more than {MAX_PAGE >> 20} MiB")
    urls = parse_links(_call(budget, system, "cat_file", folder), folder)
    return [{"name": url, "size": None, "type": "directory" if url.endswith("/") else "file"} for url in urls]


def _call(budget: Budget, system: Any, name: str, path: str, **options: Any) -> Any:
    """Call a method of a file system, and again after a while if it fails for a transient reason.

    Raises Unfetchable when the last try failed, the reason is permanent, or the budget is used up.
    """
    tries = _tries()
    for number in range(1, tries + 1):
        try:
            return _call_once(budget, system, name, path, options)
        except LsnError:
            raise
        except Exception as caught:
            error = _cause(caught)
            if isinstance(error, LsnError):
                raise error from caught
            if not _is_transient(error):
                raise Unfetchable(_reason(error)) from error
            # Random, so that threads and machines do not all retry at the same moment.
            wait = min(FIRST_WAIT * 4 ** (number - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)
            if number == tries or wait >= budget.left():
                more = f" in {budget.seconds:g} s; --timeout allows more" * isinstance(error, FetchTimeout)
                times = f"tried {number} time{'s' * (number > 1)}{more}"
                raise Unfetchable(f"{_reason(error)} ({times})") from error
            time.sleep(wait)
            budget.try_again()
    raise AssertionError


def _call_once(budget: Budget, system: Any, name: str, path: str, options: dict[str, Any]) -> Any:
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
    """Return the file system of a URL and the path in it. Raises UsageError and Unavailable."""
    try:
        from fsspec import filesystem
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise Unavailable(
            f"Reading '{url}' needs fsspec, which is not installed.", "pip install 'lsncli[remote]'"
        ) from error
    try:
        # fsspec keeps one file system per thread and process: threads share no connection.
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
    """Return options that make HTTP respect budgets, also inside a chain (``zip::https://...``)."""
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


def _cause(error: Exception) -> Exception:
    """Return the true error: fsspec reports any answer of a web server as a missing file, also a 401."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        from_network = isinstance(cause, OSError | LsnError) or type(cause).__module__.startswith("aiohttp")
        if from_network or _status(cause) is not None:
            return cause
    return error


def _is_transient(error: Exception) -> bool:
    status = _status(error)
    if status is not None and 400 <= status < 500:
        return status in TRANSIENT_STATUS
    return not isinstance(error, PERMANENT)


def _status(error: Exception) -> int | None:
    """Return the HTTP status code in an error of aiohttp, requests or another library; None without one."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


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
"""Bytes per request while a tar is indexed: members longer than this are skipped, not read."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An object behind a URL, of ``size`` bytes if known: an image, or a file of many images."""

    url: str
    size: int | None = None

    def read(self, offset: int, size: int | None) -> bytes:
        """Return ``size`` bytes from ``offset``, or all of it. Raises Undecodable."""
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
    """A remote object as a file that is read in ranges of ``block`` bytes, for readers that seek."""

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
        """Read as a file does. Raises Unfetchable, which is no OSError: readers would call that damage."""
        left = max(0, self._size - self._position)
        count = left if size is None or size < 0 else min(size, left)
        at = self._position - self._start
        if not 0 <= at <= len(self._held) - count:
            length = min(max(count, self._block), left)
            self._held, self._start, at = fetch_range(self._url, self._position, length), self._position, 0
            if len(self._held) < length:
                raise Unfetchable(CHANGED)
        self._position += count
        return self._held[at : at + count]

    def readinto(self, buffer: Any) -> int:
        """Read into ``buffer`` and return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


SCHEME = re.compile(r"([a-z][a-z0-9+.-]+(?:::[a-z][a-z0-9+.-]+)*):/{1,3}(?=[^/]|$)", re.IGNORECASE)

FILE = re.compile(r"file:/{1,3}(?=[^/])", re.IGNORECASE)


def as_url(path: Path | str) -> str | None:
    """Return ``path`` as a URL, or None if it is none. Restores the slash of "s3://" that ``Path`` drops."""
    text = str(path)
    match = SCHEME.match(text)
    if match is None or os.path.lexists(text):
        return None
    return f"{match[1].lower()}://{text[match.end() :]}"


def strip_file_scheme(text: str) -> str:
    """Return the path of a ``file://`` URL; any other text unchanged."""
    match = FILE.match(text)
    return text if match is None or os.path.lexists(text) else "/" + unquote(text[match.end() :])
