"""LSN: learned positive prompts for what an image shows, learned negative prompts for what it does not."""

from dataclasses import dataclass
from typing import ClassVar

from lsncli.scores.common import check_negative, max_softmax, positive, positive_cosines
from lsncli.scores.mincm import Form, MinCm, evidence
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class Lsn(Score):
    """Positive evidence minus (or plus) negative evidence over K sets of negative prompts; higher = more ID.

    Formula, with y_c = cos(x, t_c) and n^k_c the cosine with the k-th negative prompt of class c:

    * form "paper" (Eq. 14): max_c softmax_c(y / tau) - 1/K sum_k min_c softmax_c(n^k / tau_bar);
    * form "official": max_c softmax_c(y / tau) + 1/K sum_k max_c softmax_c((1 - n^k) / tau_bar);
    * form "logit" (ours): max_c y_c / tau - 1/K sum_k min_c n^k_c / tau_bar, which is to Eq. 14 what MaxLogit
      is to MCM: without the normalisers, an image that is far from all classes is far, not undecided.

    The paper does not say how K sets are combined; all forms average over them, as the official code
    does. At tau_bar = 5 the first two rank images all but identically (Spearman above 0.999), because both
    are linear in n to first order. The signal is in the 4th to 6th decimal at 1,000 classes, hence float64
    (half precision leaves some 70 distinct scores).

    Paper: Nie et al., Out-of-distribution detection with negative prompts, ICLR 2024, Eq. 9, 13 and 14.
    Source: github.com/junz-debug/lsn, main_feature_100_upload.py.
    Default: tau = 1 and tau_bar = 5 (appendix D), form "paper".
    """

    tau: float = 1.0
    tau_bar: float = 5.0
    form: Form = "paper"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"negative"})

    def __post_init__(self) -> None:
        positive(tau=self.tau)
        MinCm(self.tau_bar, self.form)  # refuses invalid values

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``. Raises LsnError if it has no ``negative`` prompts."""
        check_negative(head, "lsn")

        def score(features: FloatArray) -> Float64Array:
            yes, no = self.parts(head, features)
            return yes + no

        return score

    def parts(self, head: Head, features: FloatArray) -> tuple[Float64Array, Float64Array]:
        """Return the terms (N,) of the positive and of the negative prompts of ``head`` for raw ``features``.

        Their sum is the score; higher = more ID in both, so the second is below zero where Eq. 14 subtracts.
        """
        cosine = positive_cosines(head, features) / self.tau
        yes = cosine.max(axis=1) if self.form == "logit" else max_softmax(cosine)
        return yes, evidence(head, features, self.tau_bar, self.form)
