"""Energy: the negative free energy of the logits."""

from dataclasses import dataclass
from typing import ClassVar

from lsncli.scores.common import Scorer, log_sum_exp, positive, positive_cosines
from lsncli.types import Float64s, Floats, Head, Rows


@dataclass(frozen=True)
class Energy:
    """S(x) = tau log sum_c exp(s cos(x, t_c) / tau), s CLIP's logit scale; higher = more ID.

    Formula: the paper's -E(x; tau) on the logits. (MCM's repository takes the bare cosines, s = 1.) It
    tends to MaxLogit as tau goes to 0, and exceeds it by at most tau log C.

    Paper: Liu et al., Energy-based out-of-distribution detection, NeurIPS 2020.
    Source: github.com/wetliu/energy_ood, CIFAR/test.py.
    Default: tau = 1, theirs; no fine-tuning with outliers.
    """

    tau: float = 1.0

    NEEDS: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        positive(tau=self.tau)

    def fit(self, head: Head, train: Rows | None = None) -> Scorer:
        """The scorer for ``head``; nothing is learned."""

        def score(features: Floats) -> Float64s:
            return self.tau * log_sum_exp(head.scale / self.tau * positive_cosines(head, features))

        return score
