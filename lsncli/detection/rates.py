"""Verdicts at another rate than the detector's: another target TPR, or a bounded share of false alarms.

Both take the held-out scores that the detector keeps, so nothing is calibrated anew and nothing is written.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from lsncli.artefacts.detector import SavedDetector
from lsncli.class_thresholds import MOST_KEPT as MOST_KEPT_OF_CLASS
from lsncli.class_thresholds import rejected_share
from lsncli.detection.detect import ItemVerdict, Verdict
from lsncli.errors import UsageError
from lsncli.threshold import (
    MOST_KEPT,
    check_false_alarms,
    check_target_tpr,
    largest_flagged,
    least_flagged,
    needed_to_flag,
    score_of,
    threshold_of,
)
from lsncli.types import Float64Array


def held_out_scores(detector: SavedDetector, option: str) -> Float64Array:
    """Return the held-out scores that ``option`` needs. Raises UsageError for a detector without."""
    if detector.held_out is not None:
        return detector.held_out
    if not detector.threshold.calibrated:
        raise UsageError(
            f"{option} compares with held-out ID images, and no image has set this detector's threshold.",
            "Set it on ID images of your own: lsn calibrate ./good-images, with --classes if you name them.",
        )
    raise UsageError(
        f"{option} compares with held-out ID images, and this detector is of an older lsn, which kept no "
        "scores of them.",
        "Make it again: lsn calibrate.",
    )


def retargeted(detector: SavedDetector, target_tpr: float) -> SavedDetector:
    """Return the detector with the gamma that keeps ``target_tpr`` of its held-out ID images.

    It is the gamma of a new calibration. If the detector keeps only some of more than 10,000 scores, it is
    one of these, which keeps at most 0.01 % of the images more. Raises UsageError for a detector without
    held-out scores, and as ``calibrate``.
    """
    check_target_tpr(target_tpr)
    held_out = held_out_scores(detector, "--target-tpr")
    if target_tpr == detector.threshold.target_tpr:
        return detector
    threshold = threshold_of(held_out, target_tpr, detector.threshold.n)
    found = replace(detector, threshold=threshold)
    if detector.seen is None:
        return found
    return replace(found, seen=replace(detector.seen, ood=_rejected(found, held_out)))


def _rejected(detector: SavedDetector, held_out: Float64Array) -> float:
    """Return the share of the held-out ID images that the detector rejects."""
    if detector.by_class is not None and detector.class_thresholds is not None:
        return rejected_share(detector.by_class, detector.class_thresholds.gammas)
    return float(np.mean(held_out < detector.threshold.gamma))


class FalseAlarms:
    """Verdicts by Benjamini and Hochberg's procedure: of the flagged images ``level`` are expected to be ID.

    Its verdict on an image depends on the p-values of all others: pass every image of a run to ``flag``.
    Raises UsageError for a detector without held-out scores and a ``level`` outside (0, 1).
    """

    def __init__(self, detector: SavedDetector, level: float) -> None:
        check_false_alarms(level)
        self.level = level
        self.cutoff = 0.0
        """The largest p-value that was flagged; 0 if none was."""
        self._detector, self._held_out = detector, held_out_scores(detector, "--false-alarms")
        self._images = 0

    def decide(self, p_values: Float64Array) -> Float64Array:
        """Set ``cutoff`` from all ``p_values`` of a run; return the score of each class below which it flags.

        It is minus infinity where no score is flagged.
        """
        self._images = len(p_values)
        self.cutoff = largest_flagged(p_values, self.level)
        by_class = self._detector.class_thresholds
        if by_class is not None:
            return by_class.cutoffs(self.cutoff)
        return np.full(len(self._detector.head.classes), score_of(self.cutoff, self._held_out))

    def flag(self, verdicts: Iterable[ItemVerdict]) -> Iterator[ItemVerdict]:
        """Yield the verdicts with ``is_ood`` and ``threshold`` of the procedure, once all are there.

        The threshold is the score below which an image is flagged; None if no score is.
        """
        pairs = list(verdicts)
        known = [verdict.p_value for verdict, _ in pairs if verdict.p_value is not None]
        found = self.decide(np.array(known, dtype=np.float64))
        thresholds = dict(zip(self._detector.head.classes, found.tolist(), strict=True))
        for verdict, item in pairs:
            yield self._judged(verdict, thresholds), item

    def _judged(self, verdict: Verdict, thresholds: Mapping[str, float]) -> Verdict:
        if verdict.p_value is None or verdict.predicted is None:
            return verdict
        threshold = thresholds[verdict.predicted]
        return replace(
            verdict,
            is_ood=verdict.p_value <= self.cutoff,
            threshold=threshold if math.isfinite(threshold) else None,
        )

    @property
    def rule(self) -> str:
        """The rule in words: "OOD by Benjamini-Hochberg: at most 5% of these are expected to be ID"."""
        return f"OOD by Benjamini-Hochberg: at most {self.share} of these are expected to be ID"

    @property
    def share(self) -> str:
        """The level in percent: "5%"."""
        return f"{100 * self.level:.10g}%"

    @property
    def doubt(self) -> str:
        """A sentence if nothing was flagged because the held-out images are few, else an empty string."""
        by_class = self._detector.class_thresholds
        n = len(self._held_out) if by_class is None else max(len(group.scores) for group in by_class.groups)
        images, kept = self._images, MOST_KEPT if by_class is None else MOST_KEPT_OF_CLASS
        least = least_flagged(n, images, self.level)
        if self.cutoff or least <= 1:
            return ""
        single = needed_to_flag(1, images, self.level)
        of_class = "" if by_class is None else " of a class"
        more = f" (a detector keeps the scores of {kept:,}{of_class})" if single > kept else ""
        lowest = f"With {n:,} held-out images{of_class} no p-value is below 1/{n + 1}"
        if least > images:
            needed = needed_to_flag(images, images, self.level)
            return (
                f"{lowest}, so nothing can be flagged at {self.level:g}: that takes {needed:,} held-out "
                f"images or more, and to flag a single one of {images:,} images {single:,}{more}."
            )
        return (
            f"{lowest}, so {least:,} or more of the {images:,} images are flagged, or none. To flag a single "
            f"one, {single:,} held-out images{of_class} are needed{more}."
        )
