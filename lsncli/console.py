"""The two consoles and the progress bar: data on stdout, everything else on stderr."""

import os
import re
import sys
import textwrap
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

from lsncli.credentials import mask_credentials

out = Console(soft_wrap=False, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])")
"""An escape code of a terminal."""


class ProgressCallback(Protocol):
    """Callback with the number of items just processed; ``note`` replaces the text after the bar."""

    def __call__(self, step: int, note: str = "") -> None: ...


def silent(step: int, note: str = "") -> None:
    """Show nothing: the default ``ProgressCallback`` of library functions."""


def printable(text: str) -> str:
    """Escape control characters, line breaks and lone surrogates in ``text``, and hide credentials of URLs.

    File names are untrusted: none of them may move the cursor, break a line or colour a terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in mask_credentials(text))


def say(message: str, *, quiet: bool = False, style: str = "") -> None:
    """Print a line of information on stderr, wrapped at words on a terminal."""
    if not quiet:
        text = mask_credentials(message)
        err.print(escape(wrapped(text, err.width) if err.is_terminal else text), style=style or None)


def wrapped(text: str, width: int) -> str:
    """Return ``text`` wrapped at spaces; a longer word, such as a path to copy, stays in one piece."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        lines += textwrap.wrap(
            line, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent
        ) or [""]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: seconds, minutes, hours or days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"


def remarks(quiet: bool) -> Callable[[str], None]:
    """Return a callback that prints the library's remarks, a line each, warnings in yellow."""
    return lambda text: say(
        printable(text), quiet=quiet, style="yellow" if text.startswith("Warning") else ""
    )


@contextmanager
def only_ours() -> Iterator[None]:
    """Suppress all output in the block except that of ``err``.

    Output of libraries is suppressed, too, including that of their C++ threads.
    """
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
    """Show a progress bar with counts and remaining time on stderr, unless quiet or not on a terminal."""
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
