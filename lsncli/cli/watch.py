"""``lsn watch``: score images as they arrive in a folder."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsncli.artefacts import check_detector_exists
from lsncli.cli import options
from lsncli.cli.describe_detector import briefly
from lsncli.cli.score import COLUMNS
from lsncli.cli.sorting import images
from lsncli.console import printable, progress_bar, say
from lsncli.errors import LsnError, UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import plain

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.detection.detect import Verdict, VerdictCounts
    from lsncli.detection.watch import Arrival, Watcher
    from lsncli.images.item import Listing

NAMED = 5
"""The number of OOD or unreadable images named on stderr after each scan."""
CHECKED = 500
"""The number of images after which the drift check reports and restarts, to cover recent images only."""


class WatchSession:
    """The detector, its model, and the counts of the images so far."""

    def __init__(self, work: Workspace, pretrained: str, device: str, batch_size: int, workers: int) -> None:
        check_detector_exists(work.detector)
        from lsncli.artefacts.detector import load_detector
        from lsncli.backbones import load_again
        from lsncli.detection.detect import VerdictCounts
        from lsncli.device import pick_device

        self.detector: SavedDetector = load_detector(work.detector)
        self.tally: VerdictCounts = VerdictCounts()
        self._backbone = load_again(
            self.detector.fingerprint, pretrained=pretrained, device=device, what="prompts"
        )
        self._options: dict[str, Any] = {
            "batch_size": options.images_at_once(batch_size, device),
            "workers": options.threads(workers),
            "device": str(pick_device(device)),
        }
        self._begin_check()

    def detect(self, listing: "Listing") -> "Iterator[tuple[int, Sequence[Verdict]]]":
        """Yield the verdicts on the arrived images, batch by batch."""
        from lsncli.detection.detect import detect

        return detect(listing, self.detector, self._drift.watching(self._backbone), **self._options)

    def count(self, batch: "Sequence[Verdict]") -> None:
        """Add a batch to the counts and the drift check."""
        self._drift.count(batch)
        self._checked += len(batch)
        for verdict in batch:
            self.tally.count(verdict)

    def check(self, quiet: bool, *, last: bool = False) -> None:
        """Warn if the images differ from those of calibration, once there are enough."""
        if last or self._checked >= CHECKED:
            for text in self._drift.warnings():
                say(f"Warning: {text}", quiet=quiet, style="yellow")
            self._begin_check()

    def _begin_check(self) -> None:
        from lsncli.detection.drift import Drift

        self._drift = Drift(self.detector)
        self._checked = 0


def score_arrivals(
    watcher: "Watcher", arrivals: "Sequence[Arrival]", scoring: WatchSession, quiet: bool
) -> None:
    """Score the arrivals of one scan and print the OOD and unreadable images."""
    from lsncli.detection.detect import VerdictCounts

    tally, shown = VerdictCounts(), 0
    with progress_bar("images", len(arrivals), quiet=quiet) as progress:
        for batch in watcher.score(arrivals):
            scoring.count(batch)
            for verdict in batch:
                tally.count(verdict)
                if verdict.kind != "id" and shown < NAMED:
                    shown += 1
                    say(f"  {_describe(verdict)}: {printable(verdict.path or '')}", quiet=quiet)
            progress(len(batch))
    others = tally.kinds["ood"] + tally.kinds["failed"] - shown
    more = f" ({others} more of these not shown)" if others else ""
    say(f"{time.strftime('%H:%M:%S')} {_counts(tally)}{more}", quiet=quiet)
    scoring.check(quiet)


def _describe(verdict: "Verdict") -> str:
    return f"unreadable, {verdict.error}" if verdict.error is not None else f"OOD, {verdict.score:.6f}"


def _counts(tally: "VerdictCounts") -> str:
    kinds = tally.kinds
    return f"{images(tally.total)}: {kinds['id']} ID, {kinds['ood']} OOD, {kinds['failed']} unreadable"


def summarise(watcher: "Watcher", scoring: WatchSession, quiet: bool) -> None:
    """Print the counts of this run, the basis of the threshold, and warnings."""
    say(f"{_counts(scoring.tally)} ({briefly(scoring.detector).basis}).", quiet=quiet)
    if watcher.waiting:
        say(f"Still changing, left for the next run: {images(watcher.waiting)}.", quiet=quiet)
    if watcher.gone:
        say(f"Removed before they were read: {images(watcher.gone)}.", quiet=quiet)
    scoring.check(quiet, last=True)
    if scoring.detector.doubt:
        say(f"Warning: {scoring.detector.doubt}", quiet=quiet, style="yellow")


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
        bool, typer.Option("--once", help="Score the present images that have no row yet, then stop.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="The file to which rows are appended.",
            show_default="WORK/results/watch.jsonl",
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
    """Score images as they arrive in a folder; Ctrl-C ends it.

    Examples:
        lsn watch ./inbox
        lsn watch ./inbox --once --output rows.jsonl

    Every image gets a row of JSON in a file that is also the memory: after a restart, an image that
    has a row is not read again unless it has changed.
    """
    from lsncli.detection.watch import Watcher, rounds
    from lsncli.detection.watch_log import open_log

    options.set_timeouts(None, image_timeout)
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder that can be watched.", "Such as lsn watch ./inbox")
    workspace = Workspace(work)
    path = output or workspace.folder / "results" / "watch.jsonl"
    with options.loading(quiet):
        scoring = WatchSession(workspace, pretrained, device, batch_size, workers)
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
    """Report when the folder cannot be read any more (an unplugged disk), and when it can again."""
    name = printable(str(watcher.folder))
    if watcher.trouble and not before:
        say(f"Warning: {name}: {watcher.trouble}. Trying again at every look.", style="yellow")
    elif before and not watcher.trouble:
        say(f"{name} can be read again.", quiet=quiet)
    return watcher.trouble


@contextmanager
def _terminable() -> Iterator[None]:
    """Handle a termination (``systemctl stop``, ``docker stop``) like Ctrl-C."""
    before = None
    with suppress(ValueError):  # not in the main thread, where no handler can be set
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
