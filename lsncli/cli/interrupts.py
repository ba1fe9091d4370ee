"""How a command ends early: by Ctrl-C or SIGTERM, with what is kept and how to resume; by a closed pipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from lsncli import signals
from lsncli.console import reader_gone, say

CODE = 130
"""The exit code after Ctrl-C; typer uses it, too."""
TERMINATED = 143
"""The exit code after SIGTERM, the same as of a program that does not handle it."""

PIPE_CLOSED = 141
"""The exit code when the reader of a pipe is gone (``| head``), that of a program which SIGPIPE ends."""

KEPT = {
    "bench": "Features, prompts and rows that are done are kept; the same command goes on there.",
    "candidates": "Images that are done are kept; the same command goes on there.",
    "eval": "Scores that are done are kept in the workspace; run the same command again.",
    "extract": "Images that are encoded are kept; the same command goes on there.",
    "score": "Rows that were written stay, and files that were filed: `lsn undo` takes those back. Run the "
    "same command again.",
    "watch": "Rows that are written stay; the same command goes on there.",
}
"""The messages of commands that always keep the same things."""
DEFAULT = "Run the same command again."


@dataclass
class _State:
    command: str = ""
    message: str = ""


_state = _State()


def begin(command: str | None) -> None:
    """Record which command runs; None for a new call of the program."""
    _state.command, _state.message = command or "", ""


@contextmanager
def interruptible(message: Callable[[], str]) -> Iterator[None]:
    """Use the result of ``message`` as the command's message if the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        _state.message = message()
        raise


@contextmanager
def ending_with_the_pipe() -> Iterator[None]:
    """End with ``PIPE_CLOSED`` and without a message if the reader of an output is gone."""
    try:
        yield
    except BrokenPipeError:
        if reader_gone():
            raise typer.Exit(PIPE_CLOSED) from None
        raise


def exit_code() -> int:
    """Print the message of an interrupted command and return the exit code."""
    terminated = signals.terminated()
    message = _state.message or KEPT.get(_state.command, DEFAULT)
    say(f"{'Terminated' if terminated else 'Interrupted'}. {message}")
    return TERMINATED if terminated else CODE
