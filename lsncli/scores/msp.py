"""MSP: maximum softmax probability."""

from dataclasses import dataclass
from typing import ClassVar

from lsncli.scores.common import Scorer, max_softmax, positive_cosines
from lsncli.types import Float64s, Floats, Head, Rows


@dataclass(frozen=True)
class Msp:
    """S(x) = max_c softmax_c(s cos(x, t_c)), s CLIP's logit scale; higher = more ID, in [1/C, 1].

    Formula: the confidence of the classifier. It differs from MCM only by the scale s = 100.

    Paper: Hendrycks and Gimpel, A baseline for detecting misclassified and out-of-distribution examples
    in neural networks, ICLR 2017.
    Source: github.com/hendrycks/error-detection; on CLIP, MSP in github.com/xmed-lab/CLIPN.
    Default: no settings.
    """

    NEEDS: ClassVar[frozenset[str]] = frozenset()

    def fit(self, head: Head, train: Rows | None = None) -> Scorer:
        """The scorer for ``head``; nothing is learned."""

        def score(features: Floats) -> Float64s:
            return max_softmax(head.scale * positive_cosines(head, features))

        return score
