"""Confidence intervals: DeLong for AUROC and the difference of two, the bootstrap for every metric.

Scores are (N,) ID and (M,) OOD in any float precision, higher = more ID; levels, bounds and p-values are
fractions. Both methods depend on the ranks of the scores alone, treat images as independent draws, and
count ties exactly. Scores that ``metrics`` rejects, and a level outside (0, 1), raise LsnError.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.metrics import Counts, OodMetrics, checked_scores, counts, summary
from lsncli.types import FloatArray

METRICS = ("fpr95", "fpr95_ood", "auroc", "aupr_in", "aupr_out")
"""The fields of ``OodMetrics`` that have an interval."""

Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First AUROC minus second, its interval, and the two-sided p-value of "they are equal"."""

    value: float
    interval: Interval
    p_value: float


def delong(id_scores: FloatArray, ood_scores: FloatArray, level: float = 0.95) -> Interval:
    """Return the confidence interval of AUROC from its asymptotic normal distribution, cut to [0, 1].

    With V_i the fraction of OOD scores below ID score i and W_j the fraction of ID scores above OOD score
    j (ties half), AUROC = mean V = mean W, and

        Var(AUROC) = S2(V) / N + S2(W) / M,    S2 = variance with divisor N - 1 or M - 1.

    The fractions come from ranks, in O((N + M) log(N + M)). Perfect or inverted separation has no variance:
    the interval is then a point, which says nothing about new images.

    Paper: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); by ranks: Sun and Xu, IEEE Signal
    Processing Letters 21 (2014). Raises LsnError also for fewer than two scores of either kind.
    """
    z = _quantile(level)
    above_ood, below_id = _wins(id_scores, ood_scores)
    value, error = _mean_and_error(above_ood, below_id)
    return Interval(max(0.0, value - z * error), min(1.0, value + z * error))


def delong_difference(
    first_id: FloatArray,
    first_ood: FloatArray,
    second_id: FloatArray,
    second_ood: FloatArray,
    level: float = 0.95,
) -> Difference:
    """Test the difference of the AUROC of two scores on the *same* images: row i of both is image i.

    Returns the interval and the p-value of AUROC(first) - AUROC(second). In the notation of ``delong``

        Var = S2(V_first - V_second) / N + S2(W_first - W_second) / M,

    which is DeLong's L S L^T with the covariance of the two scores; z = difference / sqrt(Var) is compared
    with a standard normal. Without variance the p-value is 1 for equal AUROCs and 0 otherwise.

    Paper: as ``delong``. Raises LsnError also where the numbers of images differ, and for fewer than two.
    """
    z = _quantile(level)
    first, second = _wins(first_id, first_ood), _wins(second_id, second_ood)
    sizes = [(len(above), len(below)) for above, below in (first, second)]
    if sizes[0] != sizes[1]:
        raise LsnError(
            "Two scores are compared on the same images, found "
            f"{sizes[0][0]} ID and {sizes[0][1]} OOD scores against {sizes[1][0]} and {sizes[1][1]}.",
            "Score the same images with both, in the same order.",
        )
    value, error = _mean_and_error(first[0] - second[0], first[1] - second[1])
    interval = Interval(max(-1.0, value - z * error), min(1.0, value + z * error))
    if error == 0:
        return Difference(value, interval, 1.0 if value == 0 else 0.0)
    return Difference(value, interval, math.erfc(abs(value) / error / math.sqrt(2)))


def bootstrap(
    id_scores: FloatArray, ood_scores: FloatArray, repeats: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Return percentile intervals of every metric in ``METRICS``, by field of ``OodMetrics``.

    Each of ``repeats`` samples draws N of the N ID scores and M of the M OOD scores with replacement
    (stratified: the sizes stay), and the interval is the middle ``level`` of the sampled values. The scores
    are sorted once; a sample is how often each rank was drawn, so that it costs O(N + M) time and memory.
    Equal seeds give equal intervals. An interval may miss the value where the metric is biased under
    resampling (FPR95 with few scores).

    Paper: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Raises LsnError also
    for no repeats and a negative seed.
    """
    _quantile(level)
    if repeats < 1 or seed < 0:
        raise LsnError(
            f"The bootstrap needs at least one repeat and a seed of at least 0, found {repeats} and {seed}."
        )
    running, random = counts(id_scores, ood_scores), np.random.default_rng(seed)
    samples = [summary(_resample(running, random)) for _ in range(repeats)]
    tail = (1 - level) / 2
    return {name: _percentile_interval(samples, name, tail) for name in METRICS}


def _resample(running: Counts, random: np.random.Generator) -> Counts:
    return Counts(_redraw(running.ids, random), _redraw(running.oods, random))


def _redraw(running: Integers, random: np.random.Generator) -> Integers:
    """Return the running counts of as many scores, drawn with replacement by their rank."""
    size = int(running[-1])
    drawn = np.bincount(random.integers(size, size=size), minlength=size)
    return np.concatenate([[0], np.cumsum(drawn)])[running]


def _percentile_interval(samples: list[OodMetrics], name: str, tail: float) -> Interval:
    low, high = np.quantile([getattr(sample, name) for sample in samples], [tail, 1 - tail])
    return Interval(float(low), float(high))


def _wins(id_scores: FloatArray, ood_scores: FloatArray) -> tuple[Integers, Integers]:
    """Count twice the OOD scores below each ID score, and twice the ID scores above each OOD score.

    Ties count once, so that all counts are integers. The rows keep their order.
    """
    pos, neg = checked_scores(id_scores, "ID"), checked_scores(ood_scores, "OOD")
    if min(len(pos), len(neg)) < 2:
        raise LsnError(
            "The variance of AUROC needs at least two ID and two OOD scores, "
            f"found {len(pos)} and {len(neg)}."
        )
    ids, oods = np.sort(pos), np.sort(neg)
    above_ood = np.searchsorted(oods, pos, side="left") + np.searchsorted(oods, pos, side="right")
    not_above = np.searchsorted(ids, neg, side="left") + np.searchsorted(ids, neg, side="right")
    return above_ood, 2 * len(ids) - not_above


def _mean_and_error(above_ood: Integers, below_id: Integers) -> tuple[float, float]:
    """Return AUROC, or a difference of two, and its standard error, from ``_wins``."""
    n, m = len(above_ood), len(below_id)
    value = int(above_ood.sum()) / (2 * n * m)
    # The variance of integers, so that a variance of zero is exactly zero.
    variance = np.var(above_ood, ddof=1) / n / (2 * m) ** 2 + np.var(below_id, ddof=1) / m / (2 * n) ** 2
    return value, math.sqrt(variance)


def _quantile(level: float) -> float:
    """Return the half-width of the interval in standard errors."""
    if not 0 < level < 1:
        raise LsnError(
            f"The level of confidence must be above 0 and below 1, found {level}.",
            "It is a fraction: 0.95 for a 95% interval.",
        )
    return NormalDist().inv_cdf(0.5 + level / 2)
