"""Comparisons of methods on the same images: a paired bootstrap, Holm's adjustment, and ranks over OOD sets.

A method's scores are those of the N ID images and, for each OOD set, of its images; row i of all methods is
the same image. ``intervals.delong_difference`` compares two AUROCs on one OOD set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.intervals import Difference, Interval
from lsncli.metrics import Counts, counts, fpr_and_auroc
from lsncli.types import Float64Array, FloatArray

REPEATS = 2000
MEASURES = ("fpr95", "auroc")
"""What is compared: fields of ``OodMetrics``, the last axis of ``paired_bootstrap``."""

Scores = tuple[FloatArray, Sequence[FloatArray]]
"""ID scores, and those of each OOD set."""


def paired_bootstrap(
    methods: Sequence[Scores], repeats: int = REPEATS, seed: int = 0, progress: ProgressCallback = silent
) -> Float64Array:
    """Return FPR95 and AUROC in samples of the images: (repeats, methods, OOD sets, 2).

    Each sample draws N of the N ID images with replacement, once for all methods and OOD sets, and as many
    images as it has of each OOD set, once for all methods. So differences of two methods, and of their means
    over OOD sets, keep the correlation between scores of the same image. Equal seeds give equal samples.
    ``progress`` counts repeats.

    Paper: Efron and Tibshirani, An introduction to the bootstrap (1993), chapters 8 and 16. Raises LsnError
    for methods on other numbers of images, for no repeats, and as ``counts`` does.
    """
    sizes = [(len(inside), *map(len, outside)) for inside, outside in methods]
    if len(set(sizes)) > 1:
        raise LsnError(
            f"Methods are compared on the same images, found {sizes[0]} and "
            f"{next(size for size in sizes if size != sizes[0])} scores in the sets.",
            "Score the same images with all, in the same order.",
        )
    if repeats < 1:
        raise LsnError(f"The bootstrap needs at least one repeat, found {repeats}.")
    running = [[counts(inside, one) for one in outside] for inside, outside in methods]
    id_order = [np.argsort(inside, kind="stable") for inside, _ in methods]
    ood_order = [[np.argsort(one, kind="stable") for one in outside] for _, outside in methods]
    id_random, *ood_random = (
        np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(len(sizes[0]))
    )
    found = np.empty((repeats, len(methods), len(ood_random), len(MEASURES)))
    for repeat in range(repeats):
        drawn_id = _drawn(sizes[0][0], id_random)
        drawn_ood = [_drawn(size, each) for size, each in zip(sizes[0][1:], ood_random, strict=True)]
        for method in range(len(methods)):
            ids = _running(drawn_id[id_order[method]])
            for at, drawn in enumerate(drawn_ood):
                steps = running[method][at]
                oods = _running(drawn[ood_order[method][at]])
                found[repeat, method, at] = fpr_and_auroc(Counts(ids[steps.ids], oods[steps.oods]))
        progress(1)
    return found


def _drawn(size: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Return how often each of ``size`` images is drawn in ``size`` draws with replacement."""
    return np.bincount(random.integers(size, size=size), minlength=size)


def _running(drawn: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.cumsum(drawn)])


def bootstrap_difference(value: float, samples: Float64Array, level: float = 0.95) -> Difference:
    """Return the percentile interval and the two-sided p-value of a difference from its samples (B,).

    p = 2 (1 + b) / (B + 1), at most 1, b the smaller of the numbers of samples at or below 0 and at or above
    0: about the smallest 1 - level whose interval leaves out 0. It is never below 2 / (B + 1).

    Paper: Efron and Tibshirani (1993), chapters 13 and 15; the added 1 is Davison and Hinkley's (1997).
    """
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    beyond = min(int((samples <= 0).sum()), int((samples >= 0).sum()))
    return Difference(
        value, Interval(float(low), float(high)), min(1.0, 2 * (1 + beyond) / (len(samples) + 1))
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of m tests so that with a chance of at most p no true hypothesis is rejected.

    By ascending p, p'_(i) = max_(j <= i) min(1, (m - j + 1) p_(j)), whatever the dependence of the tests.

    Paper: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6
    (1979).
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for step, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[at]))
        adjusted[at] = highest
    return adjusted


@dataclass(frozen=True)
class RankTest:
    """Ranks of k methods on N sets, 1 = best, with the tests of Friedman and Nemenyi."""

    ranks: Float64Array
    """(methods, sets); tied methods share the mean of their ranks."""
    p_value: float
    """Of "all methods are equal", by Friedman's test."""
    critical: float
    """The critical difference: mean ranks that differ by as much are different at the level of the test."""

    @property
    def means(self) -> Float64Array:
        """The mean rank of each method."""
        means: Float64Array = self.ranks.mean(axis=1)
        return means


def rank_test(values: Float64Array, alpha: float = 0.05) -> RankTest:
    """Rank k methods on N sets and test whether they differ: Friedman's test, Nemenyi's critical difference.

    ``values`` (k, N), higher = better. With R_j the mean rank of method j, and t the sizes of ties in a set,

        chi2 = 12 N / (k (k + 1)) sum_j (R_j - (k + 1) / 2)^2 / (1 - sum (t^3 - t) / (N (k^3 - k))),

    which has k - 1 degrees of freedom, and

        CD = q sqrt(k (k + 1) / (6 N)),    q = quantile of the studentized range of k, divided by sqrt 2.

    Sets are the sample: with two to four of them neither test has much power, whatever the number of images.
    If all methods are tied on every set, p is 1.

    Paper: Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006). Raises
    LsnError for fewer than three methods or two sets.
    """
    methods, sets = values.shape
    if methods < 3 or sets < 2:
        raise LsnError(
            f"Ranks are tested for at least 3 methods on 2 sets, found {methods} on {sets}.",
            "Compare more methods, or two of them image by image.",
        )
    from scipy.special import chdtrc  # takes long to import, and all other work does without
    from scipy.stats import rankdata, studentized_range

    ranks: Float64Array = np.asarray(rankdata(-values, axis=0), dtype=np.float64)
    sizes = [np.unique(column, return_counts=True)[1] for column in values.T]
    untied = 1 - sum(int((size**3 - size).sum()) for size in sizes) / (sets * (methods**3 - methods))
    spread = float(np.square(ranks.mean(axis=1) - (methods + 1) / 2).sum())
    statistic = 12 * sets / (methods * (methods + 1)) * spread / untied if untied > 0 else 0.0
    q = float(studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)
    return RankTest(
        ranks, float(chdtrc(methods - 1, statistic)), q * math.sqrt(methods * (methods + 1) / (6 * sets))
    )
