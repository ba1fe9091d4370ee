"""MCM: maximum concept matching."""

from dataclasses import dataclass

from lsncli.scores.common import max_softmax, positive, positive_cosines
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class Mcm(Score):
    """S(x) = max_c softmax_c(cos(x, t_c) / tau); higher = more ID, in [1/C, 1].

    Formula: the cosines as they are, not times CLIP's logit scale of 100: at tau = 1 the softmax is
    almost flat and the signal is in the 4th to 6th decimal at 1,000 classes, hence float64.

    Paper: Ming et al., Delving into out-of-distribution detection with vision-language representations,
    NeurIPS 2022; the first term of Eq. 9 of the LSN paper.
    Source: github.com/deeplearning-wisc/MCM, utils/detection_util.py.
    Default: tau = 1, theirs.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        positive(tau=self.tau)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""

        def score(features: FloatArray) -> Float64Array:
            return max_softmax(positive_cosines(head, features) / self.tau)

        return score
