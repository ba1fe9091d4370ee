"""The threshold gamma of Eq. 1, chosen on held-out ID scores, and how sure its true-positive rate is.

Scores are (N,), higher = more ID; rates are fractions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from lsncli.errors import LsnError
from lsncli.metrics import checked_scores
from lsncli.types import Float64s, Floats

WIDE = 0.1
"""Width of the interval of the true-positive rate from which on it is a warning."""


@dataclass(frozen=True)
class Threshold:
    """An image is ID if and only if score >= ``gamma`` (Eq. 1).

    ``tpr_low`` to ``tpr_high`` is a 95% interval of the fraction of *new* ID images that will be kept,
    given only that they come from the same distribution as the ``n`` held-out ones. With ``n`` = 0 nobody
    has looked at an image: the target is 0 and the interval 0 to 1.
    """

    gamma: float
    target_tpr: float
    n: int
    tpr_low: float
    tpr_high: float

    @property
    def calibrated(self) -> bool:
        """Whether any image stands behind gamma."""
        return self.n > 0

    @property
    def basis(self) -> str:
        """What gamma rests on, in a few words: "for a TPR of 95%" or "uncalibrated"."""
        return f"for a TPR of {self.target}" if self.calibrated else "uncalibrated"

    @property
    def target(self) -> str:
        """The target in percent, with as many decimals as were asked for: "95%", "99.9%"."""
        return f"{100 * self.target_tpr:.10g}%"

    @property
    def images(self) -> str:
        """How many held-out images there are, in words."""
        return "1 held-out image" if self.n == 1 else f"{self.n} held-out images"

    @property
    def doubt(self) -> str:
        """A sentence if too few images stand behind gamma, else nothing."""
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


def calibrate(scores: Floats, target_tpr: float = 0.95) -> Threshold:
    """The largest gamma that keeps at least ``target_tpr`` of the held-out ID ``scores`` (N,).

    Gamma is one of the scores. If b of n independent held-out scores lie below it, the true rate kept is
    distributed as Beta(n - b, b + 1) whatever the distribution of the scores (Wilks 1941). Where several
    scores equal gamma the upper end is that of Clopper and Pearson (1934): the rate can be higher.

    Raises LsnError for a target outside (0, 1), for no scores and for scores that are not finite.
    """
    if not 0 < target_tpr < 1:
        raise LsnError(
            f"The target true-positive rate must be above 0 and below 1, found {target_tpr}.",
            "It is a fraction: 0.95 keeps 95 % of the ID images.",
        )
    ascending = np.sort(checked_scores(scores, "held-out ID"))
    n = len(ascending)
    kept = int(np.argmax(np.arange(1, n + 1) / n >= target_tpr)) + 1
    gamma = float(ascending[n - kept])
    low, high = _interval(ascending, gamma)
    return Threshold(gamma=gamma, target_tpr=target_tpr, n=n, tpr_low=low, tpr_high=high)


def uncalibrated(gamma: float) -> Threshold:
    """A gamma that no image has set."""
    return Threshold(gamma=gamma, target_tpr=0.0, n=0, tpr_low=0.0, tpr_high=1.0)


def is_ood(scores: Floats, gamma: float) -> NDArray[np.bool_]:
    """(N,) booleans: OOD where score < ``gamma`` (Eq. 1). Raises LsnError for anything not finite."""
    if not np.isfinite(gamma):
        raise LsnError(f"The threshold must be finite, found {gamma}.")
    if not len(scores):
        return np.zeros(0, dtype=np.bool_)
    return checked_scores(scores, "given") < gamma


def _interval(ascending: Float64s, gamma: float) -> tuple[float, float]:
    n = len(ascending)
    below = int(np.searchsorted(ascending, gamma, side="left"))
    tied = int(np.searchsorted(ascending, gamma, side="right")) - below > 1
    low = float(betaincinv(n - below, below + 1, 0.025))
    if not tied:
        return low, float(betaincinv(n - below, below + 1, 0.975))
    return low, float(betaincinv(n - below + 1, below, 0.975)) if below else 1.0
