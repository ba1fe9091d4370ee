"""The two consoles and the progress bar: stdout is data, stderr is everything else."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lsncli.credentials import masked

out = Console(soft_wrap=False, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])")
"""An escape code of a terminal."""


class ProgressCallback(Protocol):
    """Call it with the number of items just done; ``note`` replaces the text behind the bar."""

    def __call__(self, step: int, note: str = "") -> None: ...


def silent(step: int, note: str = "") -> None:
    """A ``ProgressCallback`` that shows nothing, for use as a library."""


def printable(text: str) -> str:
    """``text`` with control characters, line breaks and lone surrogates escaped as Python would, and with the
    credentials of URLs hidden.

    File names come from anywhere: none of them may move the cursor, break a line or colour a terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in masked(text))


def say(message: str, *, quiet: bool = False, style: str = "") -> None:
    """One line of information on stderr."""
    if not quiet:
        err.print(escape(masked(message)), style=style or None)


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: seconds, minutes, hours or days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"


def remarks(quiet: bool) -> Callable[[str], None]:
    """How a command says what the library remarks: a line each, made printable, warnings in yellow."""
    return lambda text: say(
        printable(text), quiet=quiet, style="yellow" if text.startswith("Warning") else ""
    )


@contextmanager
def only_ours() -> Iterator[None]:
    """Within the block nothing reaches stdout and stderr but what ``err`` shows: neither what libraries print
    nor what their threads in C++ write."""
    shown, out_before, err_before = os.dup(2), os.dup(1), (sys.stdout, sys.stderr)
    for stream in err_before:
        stream.flush()
    with (
        open(os.devnull, "w") as nowhere,
        open(shown, "w", encoding=err.encoding, errors="backslashreplace", buffering=1) as file,
    ):
        err.file = file
        sys.stdout = sys.stderr = nowhere
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            nowhere.flush()
            os.dup2(out_before, 1)
            os.dup2(shown, 2)
            os.close(out_before)
            sys.stdout, sys.stderr = err_before
            err.file = None  # type: ignore[assignment]  # sys.stderr again, whatever it is by then


@contextmanager
def progress_bar(
    label: str, total: int | None, *, done: int = 0, quiet: bool = False
) -> Iterator[ProgressCallback]:
    """A bar with counts and ETA on stderr; nothing at all when quiet or not on a terminal."""
    if quiet or not err.is_terminal:
        yield silent
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=err, transient=True) as bars:
        task = bars.add_task(escape(label), total=total, completed=done, note="")

        def progress(step: int, note: str = "") -> None:
            bars.update(task, advance=step, note=escape(note))

        yield progress
