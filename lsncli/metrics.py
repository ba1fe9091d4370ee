"""How well scores separate ID from OOD: FPR95 in two conventions, AUROC, AUPR, and ID accuracy.

Scores are (N,) in any float precision, higher = more ID; every result is a fraction in [0, 1]. Tied
scores always fall on the same side of a threshold. Empty, non-finite or not one-dimensional scores
raise LsnError with the counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.types import UNLABELLED, Float64s, Floats, Labels


@dataclass(frozen=True)
class OodMetrics:
    """One ID set against one OOD set; all but the two counts are fractions.

    ``fpr95`` is the paper's (ID positive); ``fpr95_ood`` is OpenOOD's (OOD positive). They answer
    different questions and can differ by tens of points on the same scores.
    """

    fpr95: float
    fpr95_ood: float
    auroc: float
    aupr_in: float
    aupr_out: float
    n_id: int
    n_ood: int


def evaluate_scores(id_scores: Floats, ood_scores: Floats) -> OodMetrics:
    """All metrics of this module for one pair of score arrays, sorted once."""
    pos, neg = _ascending(id_scores, "ID"), _ascending(ood_scores, "OOD")
    return OodMetrics(
        fpr95=_fpr_id_positive(pos, neg, 0.95),
        fpr95_ood=_fpr_ood_positive(pos, neg, 0.95),
        auroc=_auroc(pos, neg),
        aupr_in=_average_precision(pos, neg),
        aupr_out=_average_precision(-neg[::-1], -pos[::-1]),
        n_id=len(pos),
        n_ood=len(neg),
    )


def fpr_id_positive(id_scores: Floats, ood_scores: Floats, recall: float = 0.95) -> float:
    """Fraction of OOD scores accepted as ID when about ``recall`` of the ID scores are: the paper's FPR95.

    The rule is the official code's (`get_score.py` of junz-debug/lsn, the same as in MCM, NPOS and
    KNN-OOD): among the distinct scores as thresholds, the one whose ID recall is nearest to ``recall``,
    searched from the highest threshold that keeps every ID score upward in recall; where several have
    that recall, the lowest, which accepts the most OOD scores. Thresholds that keep no ID score are left
    out. Lower is better. The nearest recall may lie below ``recall``.
    """
    _check_recall(recall)
    return _fpr_id_positive(_ascending(id_scores, "ID"), _ascending(ood_scores, "OOD"), recall)


def fpr_ood_positive(id_scores: Floats, ood_scores: Floats, recall: float = 0.95) -> float:
    """Fraction of ID scores rejected at the first threshold that rejects ``recall`` of the OOD scores.

    OpenOOD's and pytorch-ood's FPR95 (`openood/evaluators/metrics.py`), with OOD as the positive class:
    an image is OOD if score <= threshold. Every distinct score is a threshold; scikit-learn's
    `roc_curve` gives the same with ``drop_intermediate=False``. Lower is better.
    """
    _check_recall(recall)
    return _fpr_ood_positive(_ascending(id_scores, "ID"), _ascending(ood_scores, "OOD"), recall)


def auroc(id_scores: Floats, ood_scores: Floats) -> float:
    """Probability that an ID score is above an OOD score, ties counted half (Mann-Whitney)."""
    return _auroc(_ascending(id_scores, "ID"), _ascending(ood_scores, "OOD"))


def aupr_in(id_scores: Floats, ood_scores: Floats) -> float:
    """Average precision with ID positive: sum of recall steps times precision, not the trapezoid."""
    return _average_precision(_ascending(id_scores, "ID"), _ascending(ood_scores, "OOD"))


def aupr_out(id_scores: Floats, ood_scores: Floats) -> float:
    """Average precision with OOD positive and the scores negated."""
    pos, neg = _ascending(id_scores, "ID"), _ascending(ood_scores, "OOD")
    return _average_precision(-neg[::-1], -pos[::-1])


def accuracy(labels: Labels, predictions: Labels) -> float:
    """Fraction of rows whose predicted class is the label; both are (N,) class indices.

    Raises LsnError for no rows, for unequal lengths, and for unlabelled rows.
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 1 or truth.shape != guess.shape:
        raise LsnError(
            f"Accuracy needs as many labels as predictions, found {truth.shape} and {guess.shape}."
        )
    if not len(truth):
        raise LsnError("Accuracy needs at least one labelled row, found none.")
    unlabelled = int((truth == UNLABELLED).sum())
    if unlabelled:
        raise LsnError(
            f"Accuracy needs a label for every row, but {unlabelled} of {len(truth)} have none.",
            "Leave the unlabelled rows out.",
        )
    return float(np.mean(truth == guess))


def checked_scores(scores: Floats, what: str) -> Float64s:
    """The scores in float64, or LsnError if they are not (N,), N >= 1, and finite; ``what`` names them."""
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


def _ascending(scores: Floats, what: str) -> Float64s:
    return np.sort(checked_scores(scores, what))


def _check_recall(recall: float) -> None:
    if not 0 < recall <= 1:
        raise LsnError(f"The recall must be above 0 and at most 1, found {recall}.")


def _group_starts(ascending: Float64s) -> NDArray[np.intp]:
    """The index of the first of each run of equal values."""
    return np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])


def _fpr_id_positive(pos: Float64s, neg: Float64s, recall: float) -> float:
    # A threshold matters only through how many ID scores lie below it: the start of a run of ties.
    below = _group_starts(pos)
    # The float arithmetic of the official code decides which of two equally near recalls wins.
    best = int(below[np.argmin(np.abs((len(pos) - below) / len(pos) - recall))])
    if best == 0:
        rejected = np.searchsorted(neg, pos[0], side="left")
    else:  # the lowest threshold of this recall is just above the highest ID score it rejects
        rejected = np.searchsorted(neg, pos[best - 1], side="right")
    return float((len(neg) - rejected) / len(neg))


def _fpr_ood_positive(pos: Float64s, neg: Float64s, recall: float) -> float:
    enough = np.argmax(np.arange(1, len(neg) + 1) / len(neg) >= recall)
    return float(np.searchsorted(pos, neg[enough], side="right") / len(pos))


def _auroc(pos: Float64s, neg: Float64s) -> float:
    # Counted in integers, halves doubled, so that ties cost no precision.
    twice = np.searchsorted(neg, pos, side="left").sum() + np.searchsorted(neg, pos, side="right").sum()
    return float(twice / (2 * len(pos) * len(neg)))


def _average_precision(pos: Float64s, neg: Float64s) -> float:
    starts = _group_starts(pos)
    true_positives = len(pos) - starts
    false_positives = len(neg) - np.searchsorted(neg, pos[starts], side="left")
    gained = np.diff(np.r_[starts, len(pos)])
    return float(np.sum(gained * (true_positives / (true_positives + false_positives))) / len(pos))
