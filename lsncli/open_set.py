"""Measures of detection and classification together: AUOSCR, AURC, and the calibration error (ECE).

``correct`` says of each labelled ID row whether its predicted class is right. Scores are in any float
precision, higher = more ID; every result is a fraction in [0, 1], and none depends on the order of rows, with
tied scores either.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.metrics import auroc, checked_scores
from lsncli.types import UNLABELLED, Float64Array, FloatArray, Labels

BINS = 15
"""Bins of the calibration error, as Guo et al. have."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class OpenSetMetrics:
    """Measures of a method that also predicts classes, on labelled ID rows and one OOD set.

    All are NaN without labelled rows; ``ece`` also where the head defines no softmax over its classes.
    """

    auoscr: float
    aurc: float
    """Over labelled ID rows; the risk is the share of wrong classes."""
    aurc_ood: float
    """Over labelled ID rows and the OOD rows, each of which counts as an error."""
    ece: float
    n_labelled: int


def oscr(id_scores: FloatArray, correct: Flags, ood_scores: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return the OSCR curve of ``auoscr``: FPR and CCR at each distinct score, from the highest, and (0, 0).

    Raises LsnError as ``auoscr``.
    """
    inside, outside = checked_scores(id_scores, "ID"), checked_scores(ood_scores, "OOD")
    thresholds = np.unique(np.concatenate([inside, outside]))[::-1]

    def kept(scores: Float64Array) -> Float64Array:
        below = np.searchsorted(np.sort(scores), thresholds, side="left")
        return np.concatenate([[0.0], len(scores) - below])

    right = inside[_flags(correct, len(inside))]
    return kept(outside) / len(outside), kept(right) / len(inside)


def auoscr(id_scores: FloatArray, correct: Flags, ood_scores: FloatArray) -> float:
    """Area under the OSCR curve: the rate of correct classification against the false positive rate.

    At a threshold g, over N ID and M OOD scores (ID is positive, as for AUROC):

        CCR(g) = #{ID: score >= g and the class is right} / N,    FPR(g) = #{OOD: score >= g} / M,

    and points of the curve are joined by straight lines. That is the share of pairs of an ID and an OOD image
    in which the ID image is classified right and scores higher (ties count half), so

        AUOSCR = accuracy * AUROC(ID images that are classified right, OOD images) <= accuracy, AUROC.

    Dhamija et al. take the largest softmax probability as the score. Here it is the score of the method, and
    the class is that of the head.

    Paper: Dhamija, Guenther and Boult, Reducing network agnostophobia, NeurIPS 2018. Higher is better.
    Raises LsnError for flags that are not one for each ID score, and as ``auroc`` does.
    """
    inside, outside = checked_scores(id_scores, "ID"), checked_scores(ood_scores, "OOD")
    right = _flags(correct, len(inside))
    return float(right.mean()) * auroc(inside[right], outside) if right.any() else 0.0


def aurc(scores: FloatArray, wrong: Flags) -> float:
    """Area under the risk-coverage curve: the mean error rate among the k highest scores, k = 1 .. N.

    With e_1 .. e_N = 1 for errors and 0 for others, by descending score,

        AURC = 1/N sum_k (1/k) sum_(i <= k) e_i.

    Tied scores count as their mean over all orders: each has the error rate of the tie. Of a perfect order
    with r errors of N, AURC = 1/N sum_(k = N - r + 1 .. N) (k - N + r) / k.

    Over ID rows, with wrong classes as errors, it is that of Geifman, Uziel and El-Yaniv (Bias-reduced
    uncertainty estimation for deep neural classifiers, ICLR 2019). Over ID and OOD rows, with each OOD row an
    error, too, it is that of Jaeger et al. (A call to reflect on evaluation practices for failure detection,
    ICLR 2023); it grows with the share of OOD rows, so that only methods on the same rows compare. Lower is
    better. Raises LsnError for flags that are not one for each score.
    """
    values = checked_scores(scores, "given")
    errors = _flags(wrong, len(values))
    # Of each distinct score from the highest: its rows, and the errors among them.
    _, tie = np.unique(-values, return_inverse=True)
    sizes, failures = np.bincount(tie), np.bincount(tie, weights=errors)
    before = np.repeat(np.cumsum(failures) - failures, sizes)
    within = np.arange(len(values)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
    ranks = np.arange(1, len(values) + 1)
    return float(np.mean((before + within * np.repeat(failures / sizes, sizes)) / ranks))


def ece(confidences: FloatArray, correct: Flags, bins: int = BINS) -> float:
    """Expected calibration error: how far the confidence in the predicted class is from its accuracy.

    Confidences are cut into bins of equal width, ((b - 1) / B, b / B], and over the bins B_b of N rows

        ECE = sum_b |B_b| / N * |accuracy(B_b) - mean confidence(B_b)|.

    It depends on the number of bins, and is biased upward with few rows.

    Paper: Guo et al., On calibration of modern neural networks, ICML 2017; B = 15, theirs. Lower is better.
    Raises LsnError for a confidence outside [0, 1], and for flags that are not one for each.
    """
    given = checked_scores(confidences, "given")
    right = _flags(correct, len(given))
    if given.min() < 0 or given.max() > 1:
        raise LsnError(
            f"Confidences must be in [0, 1], found {given.min():g} to {given.max():g}.",
            "Take the softmax of the logits.",
        )
    bin_of = np.maximum(np.ceil(given * bins).astype(int) - 1, 0)
    return float(np.abs(np.bincount(bin_of, weights=right - given)).sum()) / len(given)


def open_set_metrics(
    id_scores: FloatArray,
    ood_scores: FloatArray,
    labels: Labels,
    predictions: Labels,
    confidences: FloatArray | None,
) -> OpenSetMetrics:
    """Compute all measures of this module for one OOD set, on the labelled ID rows.

    ``labels`` (N,) are -1 for unlabelled rows; ``predictions`` and ``confidences`` are of all ID rows;
    without confidences ECE is NaN.
    """
    labelled = labels != UNLABELLED
    if not labelled.any():
        nan = float("nan")
        return OpenSetMetrics(nan, nan, nan, nan, 0)
    scores, correct = id_scores[labelled], (labels == predictions)[labelled]
    return OpenSetMetrics(
        auoscr=auoscr(scores, correct, ood_scores),
        aurc=aurc(scores, ~correct),
        aurc_ood=aurc(
            np.concatenate([scores, ood_scores]), np.append(~correct, np.ones(len(ood_scores), bool))
        ),
        ece=float("nan") if confidences is None else ece(confidences[labelled], correct),
        n_labelled=int(labelled.sum()),
    )


def _flags(flags: Flags, rows: int) -> Flags:
    found = np.asarray(flags, dtype=bool)
    if found.shape != (rows,):
        raise LsnError(f"Expected a flag for each of {rows} scores, found the shape {found.shape}.")
    return found
