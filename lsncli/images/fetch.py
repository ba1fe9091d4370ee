"""What a network is asked for, through fsspec (extra ``remote``), and again when it fails for a while."""

import os
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from lsncli.errors import LsnError, Unavailable, UsageError

T = TypeVar("T")

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


class Unfetchable(LsnError):
    """What a URL names could not be had; the message is the reason in a few words."""


def about(url: str) -> dict[str, Any]:
    """What fsspec knows of an object: ``size``, ``type`` and more. Raises Unfetchable and Unavailable."""

    def once() -> dict[str, Any]:
        system, path = file_system(url)
        return dict(system.info(path))

    return tried(once)


def size_of(url: str) -> int:
    """The size of an object in bytes. Raises Unfetchable, also if its server does not say."""
    size = about(url).get("size")
    if not isinstance(size, int):
        raise Unfetchable("its server does not say how large it is")
    return size


def fetch(url: str, offset: int = 0, size: int | None = None) -> bytes:
    """All of an object, or ``size`` bytes from ``offset``, fewer if it ends.

    Raises Unfetchable, and Unavailable without the package that the URL needs.
    """

    def once() -> bytes:
        system, path = file_system(url)
        if size is None:
            return bytes(system.cat_file(path))
        data = bytes(system.cat_file(path, start=offset, end=offset + size)) if size else b""
        if len(data) > size:  # such as Python's own http.server, which sends everything
            raise Unfetchable("its server sends whole files only, no ranges")
        return data

    return tried(once)


def tried(what: Callable[[], T]) -> T:
    """The result of ``what``, which is tried again, after a while, if it fails for a reason that may pass.

    Raises Unfetchable when the last try failed or no other would help.
    """
    tries = _tries()
    for number in range(tries):
        try:
            return what()
        except LsnError:
            raise
        except Exception as caught:
            error = _meant(caught)
            if not _may_pass(error):
                raise Unfetchable(_reason(error)) from error
            if number + 1 == tries:
                raise Unfetchable(f"{_reason(error)} (tried {tries} times)") from error
            # Not all threads, or machines, at the same moment.
            time.sleep(min(FIRST_WAIT * 4**number, LONGEST_WAIT) * random.uniform(0.75, 1.25))
    raise AssertionError


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises Unavailable without the package that it needs."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise Unavailable(
            f"Reading '{url}' needs fsspec, which is not installed.", "pip install 'lsncli[remote]'"
        ) from error
    try:
        # fsspec keeps one file system a thread and process: threads share no connection.
        system, path = url_to_fs(url)
    except ImportError as error:
        raise Unavailable(f"Reading '{url}' needs another package.", f"{error}".strip()) from error
    except ValueError as error:
        raise UsageError(f"'{url}' cannot be read: {error}.") from error
    return system, path


def _tries() -> int:
    text = os.environ.get(TRIES, "3")
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{TRIES}: expected a number from 1 on, found '{text}'.")
    return int(text)


def _meant(error: Exception) -> Exception:
    """fsspec says that there is no such file whatever a web server did, were it only to restart."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        status = _status(cause)
        of_network = isinstance(cause, OSError) or type(cause).__module__.startswith("aiohttp")
        if _may_pass(cause) and (status is not None or of_network):
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
    if isinstance(error, FileNotFoundError) or _status(error) in (404, 410):
        return NO_SUCH_FILE
    if isinstance(error, PermissionError) or _status(error) in (401, 403):
        return DENIED
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    text = " ".join(str(error).split())
    return f"cannot be fetched: {type(error).__name__}{': ' * bool(text)}{text[:200]}"
