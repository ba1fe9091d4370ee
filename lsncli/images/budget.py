"""What a fetch may cost, in bytes and in seconds, and two ways to stop one that costs more; and how
long an image may be decoded, which ``images.watched`` keeps to."""

import contextvars
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from lsncli.errors import LsnError, UsageError
from lsncli.images.item import MAX_BYTES

SECONDS = "LSN_REMOTE_TIMEOUT"
"""The environment variable that says how long a fetch may take; worker processes inherit it."""
USUAL_SECONDS, MOST_SECONDS = 60.0, 86_400.0
IMAGE_SECONDS = "LSN_IMAGE_TIMEOUT"
"""The same for decoding an image."""
USUAL_IMAGE_SECONDS = 30.0
SLOWEST = 1 << 18
"""Bytes that a fetch must get in each second beyond its first ones."""

clock = time.monotonic


class Unfetchable(LsnError):
    """What a URL names could not be had; the message is the reason in a few words."""


class FetchTimeout(Exception):
    """A fetch that took too long."""


class Budget:
    """The bytes and seconds of one fetch, all its tries and the waits between them included.

    A fetch has ``seconds``, each of its tries half of that, and both one more for each SLOWEST bytes: those
    that were ``expected`` from the start, or else those that came. It may bring ``limit`` bytes; with more
    it fails for the reason ``excess``. Raises UsageError for an environment variable that is no number.
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
        """Begin another try."""
        self._tried = clock()

    def received(self, size: int) -> None:
        """Note that ``size`` bytes of an answer have come. Raises Unfetchable if they are too many."""
        self._received = max(self._received, size)
        if size > self.limit:
            raise Unfetchable(self.excess)

    @contextmanager
    def on_hold(self) -> Iterator[None]:
        """Time that passes here is not the server's: it does not count."""
        self._waiting_since = clock()
        try:
            yield
        finally:
            waited = clock() - self._waiting_since
            self._waiting_since = None
            self._began += waited
            self._tried += waited

    def left(self) -> float:
        """Seconds that are left of all tries."""
        return self._began + self.seconds + self._earned() - self._now()

    def left_of_try(self) -> float:
        """Seconds that are left of this try."""
        return min(self.left(), self._tried + self.seconds / 2 + self._earned() - self._now())

    def _earned(self) -> float:
        return max(self.expected, self._received) / SLOWEST

    def _now(self) -> float:
        return clock() if self._waiting_since is None else self._waiting_since


CURRENT: ContextVar[Budget | None] = ContextVar("CURRENT", default=None)
"""The budget of the fetch that is under way; code that fsspec runs in its own thread sees it, too."""


def allowed_seconds() -> float:
    """The seconds of a fetch, as the environment says. Raises UsageError."""
    return _seconds(SECONDS, USUAL_SECONDS)


def allowed_image_seconds() -> float:
    """The seconds that decoding an image may take, as the environment says. Raises UsageError."""
    return _seconds(IMAGE_SECONDS, USUAL_IMAGE_SECONDS)


def _seconds(variable: str, usual: float) -> float:
    text = os.environ.get(variable, str(usual))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(f"{variable}: expected seconds above 0, up to {MOST_SECONDS:,.0f}, found '{text}'.")
    return seconds


def with_deadline(work: Callable[..., Awaitable[Any]], budget: Budget) -> Callable[..., Awaitable[Any]]:
    """``work`` as a coroutine function that raises Late, and cancels it, when the try has no time left."""
    import asyncio  # of no use to `lsn --help`, which reads this file for the name of a variable

    async def watched(*args: Any, **options: Any) -> Any:
        task = asyncio.ensure_future(work(*args, **options))
        try:
            while not task.done():
                if (left := budget.left_of_try()) <= 0:
                    raise FetchTimeout
                # Bytes that come meanwhile earn more time: it is asked again.
                await asyncio.wait({task}, timeout=left)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=1)

    return watched


def run_in_thread(work: Callable[[], Any], budget: Budget) -> Any:
    """``work`` of a library that cannot be interrupted, in a thread that is left behind when the try has no
    time left: then Late is raised."""
    outcome: list[Any] = [None, None]
    done = threading.Event()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome[0] = context.run(work)
        except BaseException as error:
            outcome[1] = error
        finally:
            done.set()

    threading.Thread(target=run, name="lsn-fetch", daemon=True).start()
    while not done.is_set():
        if (left := budget.left_of_try()) <= 0:
            raise FetchTimeout
        done.wait(left)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
