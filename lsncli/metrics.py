"""Metrics of the separation of ID from OOD scores: FPR95 in two conventions, AUROC, AUPR, and ID accuracy.

Scores are (N,) in any float precision, higher = more ID; every result is a fraction in [0, 1]. Tied
scores always fall on the same side of a threshold. Empty, non-finite or not one-dimensional scores
raise LsnError with the counts.

Everything follows from the two running counts of ``Counts``; ``intervals`` resamples them.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.types import UNLABELLED, Float64Array, FloatArray, Labels

Integers = NDArray[np.intp]

BLOCK = 2**15
"""Elements per block: temporaries that stay in the cache take half the time of those that do not."""

T = TypeVar("T")


@dataclass(frozen=True)
class OodMetrics:
    """One ID set against one OOD set; all but the two counts are fractions.

    ``fpr95`` is the paper's (ID positive); ``fpr95_ood`` has OOD as the positive class, as OpenOOD does. They
    answer different questions and can differ by tens of points on the same scores. The AUPR are average
    precision. ``fpr_ood_positive`` and ``aupr_in`` say where OpenOOD's own numbers differ.
    """

    fpr95: float
    fpr95_ood: float
    auroc: float
    aupr_in: float
    aupr_out: float
    n_id: int
    n_ood: int


@dataclass(frozen=True)
class Counts:
    """The number of scores at or below each of the K distinct scores of both sets, from the lowest.

    ``ids`` and ``oods`` are (K + 1,), not decreasing, from 0 (below every score) to N ID and M OOD scores.
    A step may be empty in both (as in a bootstrap sample).
    """

    ids: Integers
    oods: Integers


def counts(id_scores: FloatArray, ood_scores: FloatArray) -> Counts:
    """Return the running counts of two score arrays: one sort of each and one merge, ties exact."""
    pos, neg = checked_scores(id_scores, "ID"), checked_scores(ood_scores, "OOD")
    both, n = np.concatenate([pos, neg]), len(pos)
    both[:n].sort()
    both[n:].sort()
    order = np.argsort(both, kind="stable")  # of two ascending runs: a merge in linear time
    ids, oods = [np.zeros(1, dtype=np.intp)], [np.zeros(1, dtype=np.intp)]
    seen = np.intp(0)  # ID scores in earlier blocks
    for start in range(0, len(both), BLOCK):
        ascending = both[order[start : start + BLOCK + 1]]  # one more, to see whether a tie continues
        last = np.flatnonzero(ascending[1:] != ascending[:-1])
        if start + BLOCK >= len(both):
            last = np.append(last, len(ascending) - 1)
        upto = np.cumsum(order[start : start + BLOCK] < n) + seen
        seen = upto[-1]
        ids.append(upto[last])
        oods.append(last + (start + 1) - ids[-1])
    return Counts(np.concatenate(ids), np.concatenate(oods))


def evaluate_scores(id_scores: FloatArray, ood_scores: FloatArray) -> OodMetrics:
    """Compute all metrics of this module for one pair of score arrays, sorted once."""
    return summary(counts(id_scores, ood_scores))


def summary(running: Counts) -> OodMetrics:
    """Compute all metrics of this module from the running counts."""
    return OodMetrics(
        fpr95=_fpr_id_positive(running, 0.95),
        fpr95_ood=_fpr_ood_positive(running, 0.95),
        auroc=_auroc(running),
        aupr_in=_aupr_in(running),
        aupr_out=_aupr_out(running),
        n_id=int(running.ids[-1]),
        n_ood=int(running.oods[-1]),
    )


def fpr_and_auroc(running: Counts) -> tuple[float, float]:
    """Return ``fpr95`` and ``auroc`` of ``summary`` alone, in half the time."""
    return _fpr_id_positive(running, 0.95), _auroc(running)


def fpr_id_positive(id_scores: FloatArray, ood_scores: FloatArray, recall: float = 0.95) -> float:
    """Fraction of OOD scores accepted as ID when about ``recall`` of the ID scores are: the paper's FPR95.

    The rule is the official code's (`get_score.py` of junz-debug/lsn, the same as in MCM, NPOS and
    KNN-OOD): among the distinct scores as thresholds, the one whose ID recall is nearest to ``recall``,
    searched from the highest threshold that keeps every ID score upward in recall; where several have
    that recall, the lowest, which accepts the most OOD scores. Thresholds that keep no ID score are left
    out. Lower is better. The nearest recall may lie below ``recall``.
    """
    _check_recall(recall)
    return _fpr_id_positive(counts(id_scores, ood_scores), recall)


def threshold_id_positive(id_scores: FloatArray, ood_scores: FloatArray, recall: float = 0.95) -> float:
    """The threshold of ``fpr_id_positive``, one of the scores: what is at or above it is accepted."""
    _check_recall(recall)
    step = _step_at_recall(counts(id_scores, ood_scores), recall)
    return float(np.unique(np.concatenate([id_scores, ood_scores]).astype(np.float64))[step])


def fpr_ood_positive(id_scores: FloatArray, ood_scores: FloatArray, recall: float = 0.95) -> float:
    """Fraction of ID scores rejected at the first threshold that rejects ``recall`` of the OOD scores.

    FPR95 with OOD as the positive class, as in OpenOOD and pytorch-ood: an image is OOD if its score is at
    most the threshold. Every distinct score is a threshold, as in scikit-learn's
    `roc_curve(drop_intermediate=False)`. Lower is better.

    OpenOOD (`openood/evaluators/metrics.py`) leaves `drop_intermediate` at True, which drops thresholds in
    the middle of straight pieces of the ROC curve, and takes the next threshold left. Without ties between
    ID and OOD scores that changes nothing; with ties its number can be higher (never lower), by 0.1 and more
    on small sets.
    """
    _check_recall(recall)
    return _fpr_ood_positive(counts(id_scores, ood_scores), recall)


def auroc(id_scores: FloatArray, ood_scores: FloatArray) -> float:
    """Probability that an ID score is above an OOD score, ties counted half (Mann-Whitney)."""
    return _auroc(counts(id_scores, ood_scores))


def aupr_in(id_scores: FloatArray, ood_scores: FloatArray) -> float:
    """Average precision with ID positive: sum of recall steps times precision.

    OpenOOD joins the points of the precision-recall curve by straight lines instead (the trapezoid rule),
    which usually gives more: the two differ most with few or tied scores. Scores that are all equal have the
    average precision p = N / (N + M), and (1 + p) / 2 by the trapezoid.
    """
    return _aupr_in(counts(id_scores, ood_scores))


def aupr_out(id_scores: FloatArray, ood_scores: FloatArray) -> float:
    """Average precision with OOD positive and the scores negated; see ``aupr_in``."""
    return _aupr_out(counts(id_scores, ood_scores))


def accuracy(labels: Labels, predictions: Labels) -> float:
    """Fraction of rows whose predicted class is the label; both are (N,) class indices.

    Raises LsnError for no rows, for unequal lengths, and for unlabelled rows.
    """
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 1 or truth.shape != predicted.shape:
        raise LsnError(
            f"Accuracy needs as many labels as predictions, found {truth.shape} and {predicted.shape}."
        )
    if not len(truth):
        raise LsnError("Accuracy needs at least one labelled row, found none.")
    unlabelled = int((truth == UNLABELLED).sum())
    if unlabelled:
        raise LsnError(
            f"Accuracy needs a label for every row, but {unlabelled} of {len(truth)} have none.",
            "Leave the unlabelled rows out.",
        )
    return float(np.mean(truth == predicted))


def checked_scores(scores: FloatArray, what: str) -> Float64Array:
    """Return scores in float64. Raises LsnError unless they are (N,), N >= 1, and finite.

    ``what`` names the scores in the message.
    """
    wide = np.asarray(scores, dtype=np.float64)
    if wide.ndim != 1:
        raise LsnError(f"The {what} scores must have one dimension, found the shape {wide.shape}.")
    if not len(wide):
        raise LsnError(f"Expected at least one {what} score, found none.")
    bad = int(np.count_nonzero(~np.isfinite(wide)))
    if bad:
        raise LsnError(
            f"The {what} scores must be finite, but {bad} of {len(wide)} are NaN or infinite.",
            "Check the features they were computed from.",
        )
    return wide


def _check_recall(recall: float) -> None:
    if not 0 < recall <= 1:
        raise LsnError(f"The recall must be above 0 and at most 1, found {recall}.")


def _blocks(running: Counts, term: Callable[[Integers, Integers], T]) -> list[T]:
    """Return ``term`` of the running counts of every block: before its first step and after each step."""
    starts = range(0, len(running.ids) - 1, BLOCK)
    return [term(running.ids[s : s + BLOCK + 1], running.oods[s : s + BLOCK + 1]) for s in starts]


def _fpr_id_positive(running: Counts, recall: float) -> float:
    m = int(running.oods[-1])
    return (m - int(running.oods[_step_at_recall(running, recall)])) / m


def _step_at_recall(running: Counts, recall: float) -> int:
    """Return the index of the distinct score that is the threshold of ``fpr_id_positive``."""
    ids, n = running.ids, int(running.ids[-1])

    def kept(rejected: int) -> float:
        return (n - rejected) / n

    # Recall falls from threshold to threshold, so the nearest is the last that is enough or the next one.
    start, stop = int(np.searchsorted(ids, 0, side="right")) - 1, int(np.searchsorted(ids, n))
    short = bisect_left(ids, True, start, stop, key=lambda rejected: kept(int(rejected)) < recall)
    enough = max(start, int(np.searchsorted(ids, ids[short - 1])))
    nearest = [enough, short] if short < stop else [enough]
    # The float arithmetic of the official code decides which of two equally near recalls wins.
    return min(nearest, key=lambda i: abs(kept(int(ids[i])) - recall))


def _fpr_ood_positive(running: Counts, recall: float) -> float:
    m = int(running.oods[-1])
    enough = bisect_left(running.oods, recall, key=lambda rejected: int(rejected) / m)
    return int(running.ids[enough]) / int(running.ids[-1])


def _auroc(running: Counts) -> float:
    # Counted in integers, halves doubled, so that ties cost no precision.
    twice = sum(_blocks(running, lambda ids, oods: int(np.dot(np.diff(ids), oods[1:] + oods[:-1]))))
    return twice / (2 * int(running.ids[-1]) * int(running.oods[-1]))


def _aupr_in(running: Counts) -> float:
    n, m = running.ids[-1], running.oods[-1]

    def term(ids: Integers, oods: Integers) -> float:
        return _steps_times_precision(np.diff(ids), n - ids[:-1], m - oods[:-1])

    return math.fsum(_blocks(running, term)) / int(n)


def _aupr_out(running: Counts) -> float:
    def term(ids: Integers, oods: Integers) -> float:
        return _steps_times_precision(np.diff(oods), oods[1:], ids[1:])

    return math.fsum(_blocks(running, term)) / int(running.oods[-1])


def _steps_times_precision(gained: Integers, true_positives: Integers, false_positives: Integers) -> float:
    # Where a sample has no score above a threshold, no step is gained either: any denominator is right.
    accepted = np.maximum(true_positives + false_positives, 1)
    return float(np.sum(gained * (true_positives / accepted)))
