"""Signals that a process sends itself at a chosen step of its work.

A test that kills a process after a time tells little: on a fast or busy machine all the kills can come before
the work begins, or after it. After the n-th step there is always work behind and ahead.
"""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def signal_after(
    owner: object,
    name: str,
    count: int,
    number: int,
    counts: Callable[..., bool] = lambda *args: True,
) -> None:
    """Make this process send itself signal ``number`` right after its ``count``-th call of ``owner.name``
    whose arguments ``counts`` accepts."""
    real, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        result = real(*args, **kwargs)
        if counts(*args):
            calls += 1
            if calls == count:
                os.kill(os.getpid(), number)
        return result

    setattr(owner, name, counted)


def signal_after_files(beginning: str, count: int, number: int) -> None:
    """``signal_after`` the ``count``-th file that is moved into place under a name with this beginning."""
    signal_after(os, "replace", count, number, lambda source, target: Path(target).name.startswith(beginning))


def ended_by(work: Callable[..., object], *args: object) -> int:
    """The signal that ends a process of its own while it does ``work``; 0 if it comes to its end."""
    process = multiprocessing.get_context("fork").Process(target=work, args=args)
    process.start()
    process.join()
    return -(process.exitcode or 0)
