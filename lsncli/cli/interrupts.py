"""What a command says when Ctrl-C or a termination (SIGTERM) ends it: what is kept, and how to go on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lsncli import signals
from lsncli.console import say

CODE = 130
"""The exit code after Ctrl-C; typer uses it, too."""
TERMINATED = 143
"""The exit code after SIGTERM, as of a program that does not handle it."""

KEPT = {
    "bench": "Features, prompts and rows that are done are kept; the same command goes on there.",
    "candidates": "Images that are done are kept; the same command goes on there.",
    "eval": "Scores that are done are kept in the workspace; run the same command again.",
    "extract": "Images that are encoded are kept; the same command goes on there.",
    "score": "Rows that were written stay, and files that were filed: `lsn undo` takes those back. Run the "
    "same command again.",
    "watch": "Rows that are written stay; the same command goes on there.",
}
"""What a command keeps, where it always says the same."""
OTHERWISE = "Run the same command again."


@dataclass
class _Ending:
    command: str = ""
    kept: str = ""


_ending = _Ending()


def begin(command: str | None) -> None:
    """Note which command runs; None for a new call of the program."""
    _ending.command, _ending.kept = command or "", ""


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Ask ``kept`` what is kept, and how to go on, if the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        _ending.kept = kept()
        raise


def exit_code() -> int:
    """Say what an interrupted command keeps; returns the exit code."""
    terminated = signals.terminated()
    kept = _ending.kept or KEPT.get(_ending.command, OTHERWISE)
    say(f"{'Terminated' if terminated else 'Interrupted'}. {kept}")
    return TERMINATED if terminated else CODE
