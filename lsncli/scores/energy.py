"""Energy: the negative free energy of the logits."""

from dataclasses import dataclass

from lsncli.scores.common import log_sum_exp, logits, positive
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class Energy(Score):
    """S(x) = tau log sum_c exp(s cos(x, t_c) / tau), s CLIP's logit scale; higher = more ID.

    Formula: the paper's -E(x; tau) on the logits. (MCM's repository takes the bare cosines, s = 1.) It
    tends to MaxLogit as tau goes to 0, and exceeds it by at most tau log C.

    Paper: Liu et al., Energy-based out-of-distribution detection, NeurIPS 2020.
    Source: github.com/wetliu/energy_ood, CIFAR/test.py.
    Default: tau = 1, theirs; no fine-tuning with outliers.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        positive(tau=self.tau)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""

        def score(features: FloatArray) -> Float64Array:
            return self.tau * log_sum_exp(logits(head, features) / self.tau)

        return score
