"""``lsn watch``: score images as they arrive in a folder."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.filing import images
from lsncli.cli.verdicts import COLUMNS
from lsncli.cli.watched import Scoring, score_arrivals, summarise
from lsncli.console import printable, say
from lsncli.errors import LsnError, UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import plain

if TYPE_CHECKING:
    from lsncli.detection.watch import Watcher


def watch(
    folder: Annotated[Path, typer.Argument(help="Where images arrive, at any depth.", metavar="DIR")],
    interval: Annotated[
        float,
        typer.Option(
            min=0.1, help="Seconds between looks. An image is read when two looks saw it unchanged."
        ),
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Score what is there and has no row yet, then stop.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Rows are added here. (WORK/results/watch.jsonl)",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    follow_links: options.FollowLinks = False,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Score images with the workspace's detector as they arrive in a folder; Ctrl-C ends it.

    Every image gets a row of JSON in a file that is also the memory: after a restart, or a kill, what
    has a row is not read again unless it has changed.
    """
    from lsncli.detection.watch import Watcher, rounds
    from lsncli.detection.watch_log import open_log

    options.set_timeouts(None, image_timeout)
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder that can be watched.", "Such as lsn watch ./inbox")
    place = Workspace(work)
    path = output or place.folder / "results" / "watch.jsonl"
    scoring = Scoring(place, pretrained, device, batch_size, workers)
    with open_log(path, [column.key for column in COLUMNS], plain, follow=output is not None) as log:
        watcher = Watcher(Path(os.path.abspath(folder)), log, scoring.detect, follow_links=follow_links)
        what = "Looking once" if once else f"Looking every {interval:g} s, until Ctrl-C"
        say(
            f"{what}, at {printable(str(folder))}. Rows go to {printable(str(path))} "
            f"({images(len(log))} in it so far).",
            quiet=quiet,
        )
        trouble = ""
        try:
            with _terminable():
                for arrivals in rounds(watcher, interval, once=once):
                    trouble = _say_trouble(watcher, trouble, quiet)
                    if arrivals:
                        score_arrivals(watcher, arrivals, scoring, quiet)
        except KeyboardInterrupt:
            if once:
                raise
        summarise(watcher, scoring, quiet)
        if once and watcher.trouble:
            raise LsnError(f"{printable(str(folder))} cannot be read: {watcher.trouble}.")


def _say_trouble(watcher: "Watcher", before: str, quiet: bool) -> str:
    """Say when the folder cannot be read any more (a disk that was unplugged), and when it can again."""
    name = printable(str(watcher.folder))
    if watcher.trouble and not before:
        say(f"Warning: {name}: {watcher.trouble}. Looking again and again.", style="yellow")
    elif before and not watcher.trouble:
        say(f"{name} can be read again.", quiet=quiet)
    return watcher.trouble


@contextmanager
def _terminable() -> Iterator[None]:
    """A termination (``systemctl stop``, ``docker stop``) ends it like Ctrl-C."""
    before = None
    with suppress(ValueError):  # not in the main thread, where no handler can be set
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
