"""MaxLogit: the largest logit."""

from dataclasses import dataclass
from typing import ClassVar

from lsncli.scores.common import Scorer, positive_cosines
from lsncli.types import Float64s, Floats, Head, Rows


@dataclass(frozen=True)
class MaxLogit:
    """S(x) = max_c s cos(x, t_c), s CLIP's logit scale; higher = more ID, in [-s, s].

    Formula: no softmax, so a sample far from every class scores low even if one class leads.

    Paper: Hendrycks et al., Scaling out-of-distribution detection for real-world settings, ICML 2022.
    Source: github.com/hendrycks/anomaly-seg; on CLIP, `max-logit` in github.com/deeplearning-wisc/MCM.
    Default: no settings.
    """

    NEEDS: ClassVar[frozenset[str]] = frozenset()

    def fit(self, head: Head, train: Rows | None = None) -> Scorer:
        """The scorer for ``head``; nothing is learned."""

        def score(features: Floats) -> Float64s:
            largest: Float64s = head.scale * positive_cosines(head, features).max(axis=1)
            return largest

        return score
