"""Limits on the bytes and seconds of a fetch, two ways to stop one that exceeds them, and the seconds that
decoding an image may take (``images.decode_process``)."""

import contextvars
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from lsncli.errors import LsnError, UsageError

MAX_BYTES = 1 << 29
"""Encoded bytes that are read of one image: six for each of the pixels that are decoded at most."""

SECONDS = "LSN_REMOTE_TIMEOUT"
"""The environment variable for the time limit of a fetch; worker processes inherit it."""
USUAL_SECONDS, MOST_SECONDS = 60.0, 86_400.0
IMAGE_SECONDS = "LSN_IMAGE_TIMEOUT"
"""The environment variable for the time limit of decoding an image."""
USUAL_IMAGE_SECONDS = 30.0
SLOWEST = 1 << 18
"""Bytes per second that a fetch must reach to get more than its first seconds."""

clock = time.monotonic


class Unfetchable(LsnError):
    """An object behind a URL that could not be fetched; the message is the reason in a few words."""


class FetchTimeout(Exception):
    """A fetch that took too long."""


class Budget:
    """The bytes and seconds of one fetch, including all its tries and the waits between them.

    A fetch has ``seconds``, each of its tries half of that, and both one second more per SLOWEST bytes: the
    ``expected`` ones, or those received if they are more. It may receive ``limit`` bytes; with more it fails
    for the reason ``excess``. Raises UsageError for an environment variable that is no number.
    """

    def __init__(self, limit: int = MAX_BYTES, *, expected: int = 0, excess: str = "") -> None:
        self.limit, self.expected = limit, expected
        self.excess = excess or f"too large: more than {limit / 2**20:,.0f} MiB"
        self.seconds = allowed_seconds()
        self._received = 0
        self._held = 0.0
        self._waiting_since: float | None = None
        self._began = self._tried = clock()

    def try_again(self) -> None:
        """Start the time of another try."""
        self._tried = clock()

    def received(self, size: int) -> None:
        """Record that ``size`` bytes have arrived so far. Raises Unfetchable if they are too many."""
        self._received = max(self._received, size)
        if size > self.limit:
            raise Unfetchable(self.excess)

    @contextmanager
    def on_hold(self) -> Iterator[None]:
        """Stop the clock: the time in this block is not the server's."""
        self._waiting_since = clock()
        try:
            yield
        finally:
            waited = clock() - self._waiting_since
            self._waiting_since = None
            self._began += waited
            self._tried += waited

    def left(self) -> float:
        """Return the seconds left for all tries."""
        return self._began + self.seconds + self._earned() - self._now()

    def left_of_try(self) -> float:
        """Return the seconds left for this try."""
        return min(self.left(), self._tried + self.seconds / 2 + self._earned() - self._now())

    def _earned(self) -> float:
        return max(self.expected, self._received) / SLOWEST

    def _now(self) -> float:
        return clock() if self._waiting_since is None else self._waiting_since


CURRENT: ContextVar[Budget | None] = ContextVar("CURRENT", default=None)
"""The budget of the current fetch, also in code that fsspec runs in its own thread."""


def allowed_seconds() -> float:
    """Return the time limit of a fetch in seconds, from the environment. Raises UsageError."""
    return _seconds(SECONDS, USUAL_SECONDS)


def allowed_image_seconds() -> float:
    """Return the time limit of decoding an image in seconds, from the environment. Raises UsageError."""
    return _seconds(IMAGE_SECONDS, USUAL_IMAGE_SECONDS)


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(f"{variable}: expected seconds above 0, up to {MOST_SECONDS:,.0f}, found '{text}'.")
    return seconds


def with_deadline(work: Callable[..., Awaitable[Any]], budget: Budget) -> Callable[..., Awaitable[Any]]:
    """Wrap the coroutine function ``work``: cancel it and raise FetchTimeout at the deadline."""
    import asyncio  # not at the top: `lsn --help` imports this module for the names of variables

    async def limited(*args: Any, **options: Any) -> Any:
        task = asyncio.ensure_future(work(*args, **options))
        try:
            while not task.done():
                if (left := budget.left_of_try()) <= 0:
                    raise FetchTimeout
                # Bytes that arrive meanwhile extend the deadline.
                await asyncio.wait({task}, timeout=left)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=1)

    return limited


def run_in_thread(work: Callable[[], Any], budget: Budget) -> Any:
    """Run ``work`` of a library that cannot be interrupted in a thread, and return its result.

    Without time left for the try, leave the thread behind and raise FetchTimeout.
    """
    outcome: list[Any] = [None, None]
    finished = threading.Event()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome[0] = context.run(work)
        except BaseException as error:
            outcome[1] = error
        finally:
            finished.set()

    threading.Thread(target=run, name="lsn-fetch", daemon=True).start()
    while not finished.is_set():
        if (left := budget.left_of_try()) <= 0:
            raise FetchTimeout
        finished.wait(left)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
