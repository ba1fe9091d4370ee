"""Set the gamma of a detector anew with a user's own ID images, without training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lsncli.app.calibrate import threshold_of, unsupported
from lsncli.app.detect import Verdict, detect
from lsncli.app.drift import Looks, seen
from lsncli.artefacts.detector import Detector
from lsncli.backbones import Backbone
from lsncli.console import Tick, silent
from lsncli.errors import LsnError
from lsncli.images.sources import Listing
from lsncli.types import Failure


@dataclass(frozen=True)
class Recalibrated:
    """A detector with a new gamma, and what that rests on."""

    detector: Detector
    kept_before: float
    """The fraction of the images that the old gamma keeps: far from its target, the images have changed."""
    predicted: Mapping[str, int]
    """Images by predicted class; labels are not asked for."""
    failures: tuple[Failure, ...]

    @property
    def warnings(self) -> list[str]:
        """A sentence each: too few images, too few classes."""
        classes = self.detector.head.classes
        found = (self.detector.threshold.doubt, unsupported(classes, self.predicted.keys()))
        return [text for text in found if text]


def recalibrate(
    detector: Detector,
    listing: Listing,
    backbone: Backbone,
    target_tpr: float,
    *,
    batch_size: int,
    workers: int,
    device: str = "cpu",
    tick: Tick = silent,
) -> Recalibrated:
    """The same detector with a gamma that keeps ``target_tpr`` of the listed images; nothing is written.

    The images must be ID and new to the prompts: of those that prompts learned from too many would be kept.
    ``tick`` hears of images. Raises LsnError if no image could be read.
    """
    looks = Looks()
    verdicts: list[Verdict] = []
    failures: list[Failure] = []
    stream = detect(
        listing, detector, looks.watching(backbone), batch_size=batch_size, workers=workers, device=device
    )
    for done, found in stream:
        verdicts += [one for one in found if isinstance(one, Verdict)]
        failures += [one for one in found if isinstance(one, Failure)]
        tick(done)
    return recalibrated(detector, verdicts, failures, looks, target_tpr)


def recalibrated(
    detector: Detector,
    verdicts: Sequence[Verdict],
    failures: Sequence[Failure],
    looks: Looks,
    target_tpr: float,
) -> Recalibrated:
    """The detector with the gamma that keeps ``target_tpr`` of the images of ``verdicts``, its own.

    Raises LsnError for no verdict.
    """
    if not verdicts:
        reason = f"The first reason: {failures[0].key}: {failures[0].reason}." if failures else ""
        raise LsnError("There is no readable image to set the threshold with.", reason)
    scores = np.array([one.score for one in verdicts])
    threshold = threshold_of(scores, target_tpr)
    lost = float(np.mean(scores < threshold.gamma))
    return Recalibrated(
        replace(detector, threshold=threshold, seen=seen(looks, len(scores), lost)),
        kept_before=float(np.mean(scores >= detector.threshold.gamma)),
        predicted=Counter(one.predicted for one in verdicts),
        failures=tuple(failures),
    )
