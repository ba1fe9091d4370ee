"""How ``lsn watch`` scores what arrived, and what it says of it."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lsncli.cli import options
from lsncli.cli.filing import images
from lsncli.console import printable, progress, say
from lsncli.methods.workspace import Workspace

if TYPE_CHECKING:
    from lsncli.artefacts.detector import Detector
    from lsncli.detection.detect import Tally, Verdict
    from lsncli.detection.watch import Arrival, Watcher
    from lsncli.images.listing import Listing
    from lsncli.types import Failure

NAMED = 5
"""Images that are OOD or unreadable and are named on stderr after each look."""
CHECKED = 500
"""Images after which the self-check speaks up and begins anew, so that it is about what comes now."""


class Scoring:
    """The detector, its model, and what came so far."""

    def __init__(self, place: Workspace, pretrained: str, device: str, batch_size: int, workers: int) -> None:
        from lsncli.artefacts.detector import load_detector
        from lsncli.backbones import load_again
        from lsncli.detection.detect import Tally
        from lsncli.device import pick_device

        self.detector: Detector = load_detector(place.detector)
        self.tally: Tally = Tally()
        self._backbone = load_again(
            self.detector.fingerprint, pretrained=pretrained, device=device, what="prompts"
        )
        self._how: dict[str, Any] = {
            "batch_size": options.images_at_once(batch_size, device),
            "workers": options.threads(workers),
            "device": str(pick_device(device)),
        }
        self._begin_check()

    def detect(self, listing: "Listing") -> "Iterator[tuple[int, Sequence[Verdict | Failure]]]":
        """The verdicts on what arrived, batch by batch."""
        from lsncli.detection.detect import detect

        return detect(listing, self.detector, self._drift.watching(self._backbone), **self._how)

    def count(self, batch: "Sequence[Verdict | Failure]") -> None:
        """Take a batch into account."""
        self._drift.count(batch)
        self._checked += len(batch)
        for one in batch:
            self.tally.count(one)

    def check(self, quiet: bool, *, last: bool = False) -> None:
        """Warn of images that are far from calibration's, when enough have come."""
        if last or self._checked >= CHECKED:
            for text in self._drift.warnings():
                say(f"Warning: {text}", quiet=quiet, style="yellow")
            self._begin_check()

    def _begin_check(self) -> None:
        from lsncli.detection.drift import Drift

        self._drift = Drift(self.detector)
        self._checked = 0


def score_arrivals(watcher: "Watcher", arrivals: "Sequence[Arrival]", scoring: Scoring, quiet: bool) -> None:
    """Score what one look found, and say what did not belong."""
    from lsncli.detection.detect import Tally, kind_of
    from lsncli.detection.watch import path_of

    tally, named = Tally(), 0
    with progress("images", len(arrivals), quiet=quiet) as tick:
        for batch in watcher.score(arrivals):
            scoring.count(batch)
            for one in batch:
                tally.count(one)
                if kind_of(one) != "id" and named < NAMED:
                    named += 1
                    say(f"  {_described(one)}: {printable(path_of(one))}", quiet=quiet)
            tick(len(batch))
    others = tally.kinds["ood"] + tally.kinds["failed"] - named
    more = f" ({others} more of these not named)" if others else ""
    say(f"{time.strftime('%H:%M:%S')} {_counts(tally)}{more}", quiet=quiet)
    scoring.check(quiet)


def _described(one: "Verdict | Failure") -> str:
    from lsncli.types import Failure

    return f"unreadable, {one.reason}" if isinstance(one, Failure) else f"OOD, {one.score:.6f}"


def _counts(tally: "Tally") -> str:
    kinds = tally.kinds
    return f"{images(tally.total)}: {kinds['id']} ID, {kinds['ood']} OOD, {kinds['failed']} unreadable"


def summarise(watcher: "Watcher", scoring: Scoring, quiet: bool) -> None:
    """Counts of this run, and what the verdicts rest on."""
    threshold = scoring.detector.threshold
    say(f"{_counts(scoring.tally)} ({scoring.detector.basis}).", quiet=quiet)
    if watcher.waiting:
        say(f"Still changing, left for the next time: {images(watcher.waiting)}.", quiet=quiet)
    if watcher.gone:
        say(f"Taken away before they were read: {images(watcher.gone)}.", quiet=quiet)
    scoring.check(quiet, last=True)
    if threshold.doubt:
        say(f"Warning: {threshold.doubt}", quiet=quiet, style="yellow")
