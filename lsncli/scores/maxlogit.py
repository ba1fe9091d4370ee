"""MaxLogit: the largest logit."""

from dataclasses import dataclass

from lsncli.scores.common import logits
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class MaxLogit(Score):
    """S(x) = max_c s cos(x, t_c), s CLIP's logit scale; higher = more ID, in [-s, s].

    Formula: no softmax, so a sample far from every class scores low even if one class leads.

    Paper: Hendrycks et al., Scaling out-of-distribution detection for real-world settings, ICML 2022.
    Source: github.com/hendrycks/anomaly-seg; on CLIP, `max-logit` in github.com/deeplearning-wisc/MCM.
    Default: no settings.
    """

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""

        def score(features: FloatArray) -> Float64Array:
            largest: Float64Array = logits(head, features).max(axis=1)
            return largest

        return score
