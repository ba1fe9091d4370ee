"""The threshold gamma of Eq. 1 on held-out ID scores, the interval of its true-positive rate, and p-values.

Scores are (N,), higher = more ID; rates are fractions. The Benjamini-Hochberg procedure flags by p-values.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError, UsageError
from lsncli.metrics import checked_scores
from lsncli.types import Float64Array, FloatArray

TAIL = 0.025
"""The probability with which each end of the interval can fail."""
MOST_KEPT = 10_000
"""The most held-out scores that ``kept_scores`` keeps: 80 kB, and p-values to 0.01 %."""
ROUNDING = 1e-12
"""The relative difference below which a p-value equals a bound: 3 of 20 images are 15 %, however rounded."""
MARGIN = 1e-3
"""Distance of gamma below the score of the image that sets it, in standard deviations of the scores. Encoded
in a batch of another size, that image can score slightly lower, and it must stay ID. The margin changes the
TPR by 0.01%."""
LONE_MARGIN = 1e-5
"""The same distance as a fraction of the score, where all scores are equal (a single image, for example)."""
WIDE = 0.1
"""The width of the interval of the true-positive rate above which there is a warning."""


@dataclass(frozen=True)
class Threshold:
    """An image is ID if and only if score >= ``gamma`` (Eq. 1).

    ``tpr_low`` to ``tpr_high`` is an interval of the fraction of *new* ID images that will be kept. It holds
    in at least 95 % of calibrations, given that the ``n`` held-out images and the new ones are independent
    draws from one distribution. With ``n`` = 0 no image has set gamma: the target is 0 and the
    interval 0 to 1.
    """

    gamma: float
    target_tpr: float
    n: int
    tpr_low: float
    tpr_high: float

    @property
    def calibrated(self) -> bool:
        """Whether images have set gamma."""
        return self.n > 0

    @property
    def basis(self) -> str:
        """The basis of gamma in words: "for a TPR of 95%" or "uncalibrated"."""
        return f"for a TPR of {self.target}" if self.calibrated else "uncalibrated"

    @property
    def target(self) -> str:
        """The target in percent, with as many decimals as needed: "95%", "99.9%"."""
        return f"{100 * self.target_tpr:.10g}%"

    @property
    def images(self) -> str:
        """The number of held-out images in words."""
        return "1 held-out image" if self.n == 1 else f"{self.n} held-out images"

    @property
    def doubt(self) -> str:
        """A sentence if too few images have set gamma, else an empty string."""
        if not self.calibrated:
            return "No image has set gamma: how many ID images it keeps is not known."
        if self.coarse:
            return (
                f"{self.images} cannot resolve a TPR of {self.target}; gamma is the lowest score among them."
            )
        if self.tpr_high - self.tpr_low > WIDE:
            return (
                f"{self.images} are few: of new ID images anything from {self.tpr_low:.0%} to "
                f"{self.tpr_high:.0%} may be kept."
            )
        return ""

    @property
    def coarse(self) -> bool:
        """Whether ``n`` is too small for the target: not one score may be rejected, gamma is the minimum."""
        return self.calibrated and (self.n - 1) / self.n < self.target_tpr


def check_target_tpr(target_tpr: float) -> None:
    """Raise UsageError unless ``target_tpr`` is a fraction above 0 and below 1."""
    if not 0 < target_tpr < 1:
        raise UsageError(
            f"--target-tpr: expected a fraction above 0 and below 1, found {target_tpr}.",
            "0.95 keeps 95 % of the ID images.",
        )


def check_false_alarms(level: float) -> None:
    """Raise UsageError unless ``level`` is a fraction above 0 and below 1."""
    if not 0 < level < 1:
        raise UsageError(
            f"--false-alarms: expected a fraction above 0 and below 1, found {level}.",
            "With 0.05 at most 5 % of the flagged images are expected to be ID.",
        )


def calibrate(scores: FloatArray, target_tpr: float = 0.95, n: int | None = None) -> Threshold:
    """Return the largest gamma that keeps at least ``target_tpr`` of the held-out ID ``scores`` (N,).

    Gamma is the k-th largest score, k the smallest number with k / n >= ``target_tpr``. With b scores below
    gamma the interval of the rate kept, P(score >= gamma), is from the 2.5 % quantile of Beta(k, n - k + 1)
    to the 97.5 % quantile of Beta(n - b + 1, b), or to 1 for b = 0. Each end fails with a probability of at
    most 2.5 % for every distribution of the scores, continuous or with ties (docs/decisions/0023):

    - The lower end is that of an order statistic of continuous scores (Wilks 1941). Ties only raise the rate.
    - The upper end is that of Clopper and Pearson (1934). Without ties b = n - k, and this end is a little
      higher than a continuum would need. No sample can show that its distribution has no atom.

    ``scores`` can be the ``kept_scores`` of ``n`` scores. Gamma is then the largest of them that keeps the
    target of all n, which is at most 0.01 % of the images more than needed. At least as many scores are below
    it as the next lower rank says, so the interval holds, too.

    Raises UsageError for a target outside (0, 1) or that no kept score reaches, LsnError for no scores and
    for scores that are not finite.
    """
    check_target_tpr(target_tpr)
    ascending = np.sort(checked_scores(scores, "held-out ID"))
    n = max(n or 0, len(ascending))
    ranks = kept_ranks(n, len(ascending))
    reaching = int(np.count_nonzero((n - ranks + 1) / n >= target_tpr))
    if not reaching:
        raise UsageError(
            f"--target-tpr: of the {len(ascending):,} scores kept of {n:,} held-out images, the lowest keeps "
            f"{(n - ranks[0] + 1) / n:.4%} of them, fewer than {target_tpr}.",
            "Set the threshold anew: lsn calibrate --target-tpr.",
        )
    gamma = float(ascending[reaching - 1])
    lower = int(np.searchsorted(ascending, gamma, side="left"))
    rank = n - int(ranks[reaching - 1]) + 1
    low, high = rate_interval(n, rank, below=int(ranks[lower - 1]) if lower else 0)
    return Threshold(gamma=gamma, target_tpr=target_tpr, n=n, tpr_low=low, tpr_high=high)


def threshold_of(scores: Float64Array, target_tpr: float, n: int | None = None) -> Threshold:
    """Calibrate gamma on held-out ID ``scores`` (N,), or those kept of ``n``, and subtract the margin.

    Raises as ``calibrate``.
    """
    threshold = calibrate(scores, target_tpr, n)
    return replace(threshold, gamma=threshold.gamma - margin_of(scores))


def margin_of(scores: Float64Array) -> float:
    """Return the distance of gamma below the score of ``scores`` (N,) that sets it."""
    if np.ptp(scores):
        return MARGIN * float(np.std(scores))
    return LONE_MARGIN * abs(float(scores[0]))


def uncalibrated(gamma: float) -> Threshold:
    """Return a threshold that no image has set."""
    return Threshold(gamma=gamma, target_tpr=0.0, n=0, tpr_low=0.0, tpr_high=1.0)


def is_ood(scores: FloatArray, gamma: float | Float64Array) -> NDArray[np.bool_]:
    """Return (N,) booleans, True (OOD) where score < ``gamma`` (Eq. 1), one for all or one for each.

    Raises LsnError if not finite.
    """
    if not np.isfinite(gamma).all():
        raise LsnError(f"The threshold must be finite, found {gamma}.")
    if not len(scores):
        return np.zeros(0, dtype=np.bool_)
    return checked_scores(scores, "given") < gamma


def rate_interval(n: int, rank: int, below: int) -> tuple[float, float]:
    """Return the interval of the rate that the ``rank``-th largest of ``n`` scores keeps, ``below`` lower."""
    from scipy.special import betaincinv  # takes long to import, and to score needs no interval

    low = float(betaincinv(rank, n - rank + 1, TAIL))
    return low, float(betaincinv(n - below + 1, below, 1 - TAIL)) if below else 1.0


def kept_scores(scores: FloatArray, most: int = MOST_KEPT) -> Float64Array:
    """Return the held-out ID ``scores`` (N,) in ascending order, at most ``most`` of them, for ``p_values``.

    Of more scores, those of rank floor(j (N + 1) / (most + 1)), j = 1 ... ``most``, are kept. A p-value of
    them is never below that of all scores, so that it stays valid, and at most 1 / (most + 1) above. Raises
    LsnError for no scores and for scores that are not finite.
    """
    ascending = np.sort(checked_scores(scores, "held-out ID")).astype(np.float64)
    return ascending[kept_ranks(len(ascending), min(len(ascending), most)) - 1]


def kept_ranks(n: int, kept: int) -> NDArray[np.int64]:
    """Return the ranks (``kept``,) that ``kept_scores`` keeps of ``n`` scores, 1 for the lowest."""
    return np.arange(1, kept + 1, dtype=np.int64) * (n + 1) // (kept + 1)


def p_values(scores: FloatArray, held_out: Float64Array) -> Float64Array:
    """Return the conformal p-value of each of ``scores`` (N,), given ascending ``held_out`` ID scores (M,).

    It is (1 + number of held-out scores <= score) / (M + 1). If a new ID image and the held-out ones are
    exchangeable, its p-value is at most a with a probability of at most a, for every a and every distribution
    of the scores: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, Springer 2005; Bates et
    al., Testing for outliers with conformal p-values, Annals of Statistics 2023.

    >>> p_values(np.array([0.0, 0.3, 0.9]), np.array([0.1, 0.2, 0.3, 0.4]))
    array([0.2, 0.8, 1. ])
    """
    ranks = np.searchsorted(held_out, np.asarray(scores, dtype=np.float64), side="right")
    return np.asarray((1.0 + ranks) / (len(held_out) + 1))


def largest_flagged(p_values: Float64Array, level: float) -> float:
    """Return the largest of ``p_values`` (N,) that Benjamini and Hochberg's procedure flags, or 0.

    An image is flagged if and only if its p-value is at most this. With m images it is the largest p-value
    that is at most ``level`` * k / m, where k p-values are at most as large. Of the flagged images a share of
    at most ``level`` is then expected to be ID. That holds for conformal p-values, though they share one
    calibration set (Bates et al. 2023), and ties make them only larger.

    >>> largest_flagged(np.array([0.01, 0.02, 0.04, 0.5]), level=0.05)
    0.02
    """
    ascending = np.sort(p_values)
    steps = level * np.arange(1, len(ascending) + 1) / max(1, len(ascending))
    return float(ascending[ascending <= steps * (1 + ROUNDING)].max(initial=0.0))


def score_of(p_value: float, held_out: Float64Array) -> float:
    """Return the score below which ``p_values`` are at most ``p_value``; minus infinity if none are."""
    rank = rank_of(p_value, len(held_out))
    return float(np.concatenate([[-np.inf], held_out, [np.inf]])[rank])


def rank_of(p_value: float, n: int) -> int:
    """Return the largest rank from 0 to n + 1 that is at most the share ``p_value`` of n + 1."""
    return math.floor(p_value * (n + 1) * (1 + ROUNDING))


def least_flagged(n: int, images: int, level: float) -> int:
    """Return how many of ``images`` are flagged at the least if any is, as p-values are >= 1 / (n + 1)."""
    return math.ceil(images / (level * (n + 1)) * (1 - ROUNDING))


def needed_to_flag(count: int, images: int, level: float) -> int:
    """Return the fewest held-out images with which ``count`` of ``images`` can be flagged on their own."""
    return math.ceil(images / (level * count) * (1 - ROUNDING)) - 1
