"""Defer Ctrl-C (and SIGTERM) where an interrupt would be lost or do harm.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a callback of HDF5, or in a
finaliser, it is printed and ignored, or turned into a SystemError.
"""

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_terminations: list[int] = []
SOON = 0.01
"""Seconds after which a lost interrupt is raised again."""

_came: list[int] = []


@contextmanager
def held_back() -> Iterator[None]:
    """Defer signals that arrive in the block until its end.

    Blocks may be nested; the outermost counts. Does nothing outside the main thread, which alone handles
    signals.
    """
    if not _here():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    # Handlers that are not callable end the process at once or ignore the signal.
    before: dict[int, Callable[[int, FrameType | None], object]] = {
        number: handler
        for number, handler in handlers.items()
        if callable(handler) and handler is not _remember
    }
    for number in before:
        signal.signal(number, _remember)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            came = sorted(set(_came))
            _came.clear()
            for number in came:
                before[number](number, None)


@contextmanager
def noticed() -> Iterator[list[int]]:
    """Record every Ctrl-C of the block in the yielded list, besides raising KeyboardInterrupt as usual.

    A library may turn an interrupt in its callbacks into another error; one that was lost there is raised
    again. Does nothing if Ctrl-C has another handler or is ignored.
    """
    came: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    if not _here() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield came
        return

    def again(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            unraisable(lost)
            return
        delay = SOON
        while True:
            try:
                later = threading.Timer(delay, _thread.interrupt_main)  # here nothing can be raised either
                later.daemon = True
                later.start()
                return
            except KeyboardInterrupt:  # on a busy machine it comes before the start is over
                delay *= 2

    unraisable = sys.unraisablehook
    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = again
    try:
        yield came
    finally:
        sys.unraisablehook = unraisable
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check() -> None:
    """Raise KeyboardInterrupt if a signal was deferred: an exit from a long ``held_back`` block."""
    if _came and _here():
        raise KeyboardInterrupt


def hear_termination() -> None:
    """Make SIGTERM raise KeyboardInterrupt, so that the process commits its work before it ends.

    torchrun, Slurm and Ray end processes by SIGTERM. Does nothing outside the main thread.
    """
    if _here():
        signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt in the block, unless it has another handler or is ignored."""
    _terminations.clear()
    if not _here() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    hear_termination()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def terminated() -> bool:
    """Return whether SIGTERM arrived since the last ``terminable`` block began."""
    return bool(_terminations)


def _terminate(number: int, _frame: FrameType | None) -> None:
    _terminations.append(number)
    raise KeyboardInterrupt


def _here() -> bool:
    """Return whether this is the main thread, the only one that handles signals."""
    return threading.current_thread() is threading.main_thread()


def _remember(number: int, _frame: FrameType | None) -> None:
    _came.append(number)
