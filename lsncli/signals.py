"""Ctrl-C (and SIGTERM where it is to end a run well), held back while it could not be heard or would do harm.

Python raises KeyboardInterrupt wherever the main thread happens to be. Within a callback of HDF5, or of an
object that is let go, it is printed and forgotten, or turns into a SystemError.
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
"""Seconds after which a lost interrupt comes again."""

_came: list[int] = []


@contextmanager
def held_back() -> Iterator[None]:
    """A signal that comes within the block is answered when the block is left, and at no other moment.

    Blocks may lie in one another; the outermost counts. In other threads than the main one there is nothing
    to do, for no signal is answered there.
    """
    if not _here():
        yield
        return
    found = {number: signal.getsignal(number) for number in SIGNALS}
    # What is not callable ends the process at once or is ignored; neither is for Python to hold back.
    before: dict[int, Callable[[int, FrameType | None], object]] = {
        number: one for number, one in found.items() if callable(one) and one is not _remember
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
    """Within the block Ctrl-C raises KeyboardInterrupt, as ever, and is noted in the list: a library may make
    another error of one that came in its callbacks. One that was lost there comes again.

    Where somebody else answers Ctrl-C, or it is ignored, nothing changes and nothing is noted.
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
    """Leave a long block that holds signals back. Raises KeyboardInterrupt if one came."""
    if _came and _here():
        raise KeyboardInterrupt


def hear_termination() -> None:
    """From now on SIGTERM, by which torchrun, Slurm and Ray end a process, ends this one as Ctrl-C does: it
    commits first. In other threads than the main one, where no handler can be set, nothing happens."""
    if _here():
        signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM raises KeyboardInterrupt, unless somebody else handles it or it is ignored."""
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
    """Whether SIGTERM came, since the last ``terminable`` block began."""
    return bool(_terminations)


def _terminate(number: int, _frame: FrameType | None) -> None:
    _terminations.append(number)
    raise KeyboardInterrupt


def _here() -> bool:
    """Whether this is the main thread, the only one that answers signals."""
    return threading.current_thread() is threading.main_thread()


def _remember(number: int, _frame: FrameType | None) -> None:
    _came.append(number)
