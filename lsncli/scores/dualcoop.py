"""DualCoOp: a class against its own negative prompt."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit

from lsncli.scores.common import check_negative, negative_cosines, positive, positive_cosines
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class DualCoOp(Score):
    """The largest probability of a class against its negative prompt; higher = more ID.

    Formula, with y_c = cos(x, t_c) and n^k_c the cosine with the k-th negative prompt of class c:
    max_c 1/K sum_k exp(y_c / tau) / (exp(y_c / tau) + exp(n^k_c / tau)). Below 0.5, no class is more likely
    to be in the image than not.

    DualCoOp recognises several classes in one image, and its authors define no OOD score; LSN, which compares
    with it, states none. This one is the probability that they decide by, for the class most likely there.

    Paper: Sun et al., DualCoOp: fast adaptation to multi-label recognition with limited annotations, NeurIPS
    2022.
    Source: github.com/sunxm2357/DualCoOp, models/dualcoop.py and utils/asymmetric_loss.py.
    Default: tau = 1. Training has tau = 0.01; with the one negative prompt of DualCoOp the ranking is that of
    max_c (y_c - n_c) whatever tau is, and at 0.01 images that are clearly ID would all have the score 1.0.
    """

    tau: float = 1.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"negative"})
    REDUCED: ClassVar[str] = "no region features"
    HEAD: ClassVar[str] = "dualcoop"

    def __post_init__(self) -> None:
        positive(tau=self.tau)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``. Raises LsnError if it has no ``negative`` prompts."""
        check_negative(head, "dualcoop")

        def score(features: FloatArray) -> Float64Array:
            yes = positive_cosines(head, features)
            total, sets = np.zeros_like(yes), 0
            for no in negative_cosines(head, features):
                total += expit((yes - no) / self.tau)
                sets += 1
            best: Float64Array = (total / sets).max(axis=1)
            return best

        return score
