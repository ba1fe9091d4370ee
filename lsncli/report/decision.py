"""The threshold that a page shows: one number, though classes can have their own and a rate can decide.

The slider of the page moves one threshold. Where each predicted class has its own, scores are moved instead,
so that all thresholds are at one place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lsncli.artefacts.detector import SavedDetector
from lsncli.detection.detect import rates_of
from lsncli.detection.rates import FalseAlarms
from lsncli.detection.scored_sets import ScoredSet, VerdictArrays
from lsncli.types import UNLABELLED, Float64Array


@dataclass(frozen=True, eq=False)
class Decision:
    """What decides: ``gamma`` for the scores of ``sets`` and ``calibration``, ``moved`` or as they were.

    ``fact`` describes the threshold; ``notes`` say what the reader must know of it.
    """

    gamma: float
    sets: tuple[ScoredSet, ...]
    calibration: VerdictArrays | None
    fact: str
    notes: tuple[str, ...]


RELATIVE = (
    "Each predicted class has a threshold of its own. Scores on this page are moved so that all of these are "
    "at one place, and are not those of `lsn score`."
)


def decide(
    detector: SavedDetector,
    sets: Sequence[ScoredSet],
    calibration: VerdictArrays | None,
    alarms: FalseAlarms | None,
) -> Decision:
    """Return what decides about ``sets``: gamma, or ``alarms`` from all images of unknown truth."""
    thresholds = detector.gammas
    fact, notes = _fact(detector), [detector.doubt] if detector.doubt else []
    if alarms is not None:
        judged = [scored.judged for scored in sets if scored.kind == "input"]
        found = [rates_of(detector, one.scores, one.predicted)[1] for one in judged]
        thresholds = alarms.decide(np.concatenate([one for one in found if one is not None]))
        fact = alarms.rule
        notes = [
            f"Benjamini-Hochberg decides: of the images that it flags as OOD, at most {alarms.share} are "
            "expected to be ID. This no longer holds when the threshold is moved."
        ]
        notes += [alarms.doubt] if alarms.doubt else []
    known = [scored.judged for scored in sets] + ([calibration] if calibration is not None else [])
    scores = np.concatenate([one.scores for one in known])
    lowest = float(scores.min(initial=detector.threshold.gamma))
    # Where nothing is flagged, the threshold is the lowest score.
    thresholds = np.where(np.isfinite(thresholds), thresholds, lowest)
    if detector.class_thresholds is None:
        return Decision(float(thresholds[0]), tuple(sets), calibration, fact, tuple(notes))
    gamma = detector.threshold.gamma
    return Decision(
        gamma,
        tuple(replace(scored, judged=_moved(scored.judged, thresholds, gamma)) for scored in sets),
        None if calibration is None else _moved(calibration, thresholds, gamma),
        fact,
        (RELATIVE, *notes),
    )


def kept_calibration(detector: SavedDetector) -> VerdictArrays | None:
    """Return the held-out scores that the detector keeps; None without."""
    if detector.held_out is None:
        return None
    if detector.by_class is None:
        return VerdictArrays(detector.held_out, np.full(len(detector.held_out), UNLABELLED, np.int32))
    held = detector.by_class
    # Of large classes only some scores are kept: take as small a part of the others.
    part = min(len(one) / count for one, count in zip(held.scores, held.counts, strict=True) if count)
    chosen = [
        one[np.linspace(0, len(one) - 1, round(part * count)).round().astype(int)] if len(one) else one
        for one, count in zip(held.scores, held.counts, strict=True)
    ]
    labels = np.repeat(np.arange(len(chosen)), [len(one) for one in chosen])
    return VerdictArrays(np.concatenate(chosen), labels.astype(np.int32))


def _moved(judged: VerdictArrays, thresholds: Float64Array, gamma: float) -> VerdictArrays:
    """Move the threshold of each predicted class to ``gamma``, with the scores; rounding flips no verdict."""
    own = thresholds[judged.predicted]
    moved = judged.scores + (gamma - own)
    below = np.minimum(moved, np.nextafter(gamma, -np.inf))
    return replace(judged, scores=np.where(judged.scores < own, below, np.maximum(moved, gamma)))


def _fact(detector: SavedDetector) -> str:
    threshold = detector.threshold
    if not threshold.calibrated:
        return f"{threshold.gamma:.8g}, uncalibrated"
    kept = f"set on {threshold.n} held-out ID images to keep {threshold.target}"
    if detector.class_thresholds is not None:
        gammas = detector.gammas
        return f"by predicted class, {gammas.min():.8g} to {gammas.max():.8g}, {kept} of each"
    return (
        f"{threshold.gamma:.8g}, {kept}; of new ID images expect {threshold.tpr_low:.1%} to "
        f"{threshold.tpr_high:.1%} (95% interval)"
    )
