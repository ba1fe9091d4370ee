"""MSP: maximum softmax probability."""

from dataclasses import dataclass

from lsncli.scores.common import logits, max_softmax
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class Msp(Score):
    """S(x) = max_c softmax_c(s cos(x, t_c)), s CLIP's logit scale; higher = more ID, in [1/C, 1].

    Formula: the confidence of the classifier. It differs from MCM only by the scale s = 100.

    Paper: Hendrycks and Gimpel, A baseline for detecting misclassified and out-of-distribution examples
    in neural networks, ICLR 2017.
    Source: github.com/hendrycks/error-detection; on CLIP, MSP in github.com/xmed-lab/CLIPN.
    Default: no settings.
    """

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""

        def score(features: FloatArray) -> Float64Array:
            return max_softmax(logits(head, features))

        return score
