"""GEN: the generalised entropy of the largest class probabilities."""

from dataclasses import dataclass

import numpy as np

from lsncli.errors import UsageError
from lsncli.scores.common import logits
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class Gen(Score):
    """Minus the generalised entropy of the class probabilities; higher = more ID, <= 0.

    Formula: S(x) = -sum_m p_m^gamma (1 - p_m)^gamma, p_1 >= p_2 >= ... the probabilities of the softmax of
    the logits, m = 1 ... ``top``, or all where there are fewer classes. Small exponents amplify small
    probabilities: at CLIP's scale of 100 most are below 1e-12, and 1e-12 to the power of 0.1 is 0.06. So p
    and 1 - p are computed without loss: 1 - p of the largest is the sum of the others.

    Paper: Liu et al., GEN: pushing the limits of softmax-based out-of-distribution detection, CVPR 2023.
    Source: github.com/XixiLiu95/GEN; OpenOOD's gen_postprocessor.py.
    Default: gamma = 0.1 and top = 100, theirs for 1,000 classes. OpenOOD tunes both on OOD images.
    """

    gamma: float = 0.1
    top: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.gamma < 1:
            raise UsageError(f"The setting 'gamma' must be between 0 and 1, found {self.gamma}.")
        if self.top < 1:
            raise UsageError(f"The setting 'top' must be at least 1, found {self.top}.")

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""

        def score(features: FloatArray) -> Float64Array:
            odds = logits(head, features)
            rows, likeliest = np.arange(len(odds)), odds.argmax(axis=1)
            odds -= odds[rows, likeliest][:, None]
            np.exp(odds, out=odds)  # p over the largest p
            odds[rows, likeliest] = 0.0
            others = odds.sum(axis=1)
            count = min(self.top, odds.shape[1]) - 1
            if count < odds.shape[1] - 1:
                odds = np.partition(odds, -1 - count, axis=1)[:, odds.shape[1] - count :]
            probability = odds / (1 + others)[:, None]
            entropy: Float64Array = ((probability * (1 - probability)) ** self.gamma).sum(axis=1)
            entropy += (others / (1 + others) ** 2) ** self.gamma
            return -entropy

        return score
