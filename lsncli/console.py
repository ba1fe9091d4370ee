"""The two consoles and the progress bar: data on stdout, everything else on stderr."""

import os
import re
import select
import sys
import textwrap
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from lsncli.credentials import mask_credentials


class Terminal(Console):
    """A console that raises BrokenPipeError when its reader is gone; rich's would exit with 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled."""
        raise


out = Terminal(soft_wrap=False, highlight=False)
err = Terminal(stderr=True, soft_wrap=True, highlight=False)

VERBOSE = "LSN_VERBOSE"
"""The environment variable of --verbose."""
NOTES_FROM = 80
"""Columns of a terminal from which a progress bar has notes; fewer would cut its numbers."""

ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])")
"""An escape code of a terminal."""


class ProgressCallback(Protocol):
    """Callback with the number of items just processed; ``note`` replaces the text after the bar."""

    def __call__(self, step: int, note: str = "") -> None: ...


def silent(step: int, note: str = "") -> None:
    """Show nothing: the default ``ProgressCallback`` of library functions."""


def reader_gone() -> bool:
    """Return whether the reader of stdout or stderr is gone; nothing more is written to it then."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if stream and _has_no_reader(stream)]
    for stream in gone:
        _discard(stream)
    return bool(gone)


def flush_fails() -> bool:
    """Write what is left for stdout, and return whether its reader is gone."""
    try:
        if sys.stdout:  # None if the descriptor was closed before
            sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        return True
    return False


def _has_no_reader(stream: TextIO) -> bool:
    try:
        watched = select.poll()
        watched.register(stream.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))
    except (OSError, ValueError, AttributeError):  # no descriptor, or Windows
        return False


def _discard(stream: TextIO) -> None:
    """Discard what is written from now on: Python flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def printable(text: str) -> str:
    """Escape control characters, line breaks and lone surrogates in ``text``, and hide credentials of URLs.

    File names are untrusted: none of them may move the cursor, break a line or colour a terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in mask_credentials(text))


def verbose() -> bool:
    """Return whether details were asked for with --verbose."""
    return bool(os.environ.get(VERBOSE))


def brief(label: str) -> str:
    """Return the label of a method without its settings, unless details were asked for."""
    return label if verbose() else label.partition(",")[0]


def short_labels(labels: Collection[str]) -> dict[str, str]:
    """Return each of the labels of methods ``brief``, or as it is where that would make two of them equal."""
    taken = Counter(map(brief, set(labels)))
    return {label: brief(label) if taken[brief(label)] == 1 else label for label in labels}


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


class MovingRate:
    """Estimate the time left from the steps of the last seconds, and of at least the last few steps.

    The first steps only start the clock: they may have been done by an earlier run, which this one resumes.
    """

    SECONDS, STEPS = 30.0, 5

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()

    def add(self, step: int, now: float) -> None:
        """Count ``step`` items that are done at the time ``now``."""
        self._steps.append((now, step))
        while len(self._steps) > self.STEPS and self._steps[1][0] < now - self.SECONDS:
            self._steps.popleft()

    def seconds(self, left: float, now: float) -> float | None:
        """Return the seconds that ``left`` items take from ``now``; None while the rate is unknown."""
        if len(self._steps) < 2:
            return None
        began, last = self._steps[0][0], self._steps[-1][0]
        count = sum(step for _, step in self._steps) - self._steps[0][1]
        if last <= began or count <= 0:
            return None
        return max(left * (last - began) / count - (now - last), 0.0)


class TimeLeft(ProgressColumn):
    """The time left of a whole task by its ``rate``, a ``MovingRate``."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the time left as text, empty while it is unknown."""
        seconds = None if task.remaining is None else task.fields["rate"].seconds(task.remaining, monotonic())
        return Text("" if seconds is None else f"{duration(seconds)} left", style="progress.remaining")


@contextmanager
def status(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show ``text`` on stderr while the block runs, unless quiet or not on a terminal.

    Inside a progress bar it is the note of the bar; inside another status it is not shown.
    """
    if _showing:
        _showing[-1](0, text)
        yield
        return
    if quiet or not err.is_terminal:
        yield
        return
    with err.status(escape(text)), _shown(silent):
        yield


_showing: list[ProgressCallback] = []
"""The bar or status on the terminal; older releases of rich refuse a second one."""


@contextmanager
def _shown(progress: ProgressCallback) -> Iterator[None]:
    _showing.append(progress)
    try:
        yield
    finally:
        _showing.pop()


@contextmanager
def progress_bar(
    label: str, total: int | None, *, done: int = 0, quiet: bool = False, time_left: bool = True
) -> Iterator[ProgressCallback]:
    """Show a progress bar on stderr, unless quiet or not on a terminal.

    It has counts and, unless notes say it, the time left.
    """
    if quiet or not err.is_terminal:
        yield silent
        return
    whole = Column(no_wrap=True)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),  # what a narrow terminal shortens
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        *([TimeLeft(table_column=whole)] if time_left else []),
        *([TextColumn("{task.fields[note]}")] if err.width >= NOTES_FROM else []),
    ]
    rate = MovingRate()
    with Progress(*columns, console=err, transient=True) as bars:
        task = bars.add_task(escape(label), total=total, completed=done, note="", rate=rate)

        def progress(step: int, note: str = "") -> None:
            if step:
                rate.add(step, monotonic())
            bars.update(task, advance=step, note=escape(note))

        with _shown(progress):
            yield progress


MEASURED_SECONDS = 1.0
"""Steps are measured for this long, and two at least: the first one also allocates memory."""
WORTH_SAYING = 10.0
"""Seconds of work that are announced."""


def announcing(
    progress: ProgressCallback,
    total: int,
    announce: Callable[[int, float], None],
    clock: Callable[[], float] = time.monotonic,
) -> ProgressCallback:
    """Return ``progress`` of ``total`` steps that also calls ``announce`` with the steps and seconds left.

    It does so once, after the first steps, if ``WORTH_SAYING`` seconds or more are left.
    """
    done = measured = 0
    began: float | None = None

    def measure(step: int, note: str = "") -> None:
        nonlocal done, measured, began
        progress(step, note)
        done += step
        if measured < 0:
            return
        now = clock()
        if began is None:
            began = now
            return
        measured += step
        if now - began >= MEASURED_SECONDS:
            left = (total - done) * (now - began) / measured
            if left >= WORTH_SAYING:
                announce(total - done, left)
            measured = -1

    return measure
