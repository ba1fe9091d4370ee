"""MaxLogit: the largest logit."""

from dataclasses import dataclass

from lsncli.scores.common import logits
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64s, Floats, Head, Learned


@dataclass(frozen=True)
class MaxLogit(Score):
    """S(x) = max_c s cos(x, t_c), s CLIP's logit scale; higher = more ID, in [-s, s].

    Formula: no softmax, so a sample far from every class scores low even if one class leads.

    Paper: Hendrycks et al., Scaling out-of-distribution detection for real-world settings, ICML 2022.
    Source: github.com/hendrycks/anomaly-seg; on CLIP, `max-logit` in github.com/deeplearning-wisc/MCM.
    Default: no settings.
    """

    def scorer(self, head: Head, learned: Learned, device: str = "cpu") -> Scorer:
        """The scorer for ``head``."""

        def score(features: Floats) -> Float64s:
            largest: Float64s = logits(head, features).max(axis=1)
            return largest

        return score
