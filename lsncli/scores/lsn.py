"""LSN: learned positive prompts say yes, learned negative prompts say no."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from lsncli.errors import LsnError, UsageError
from lsncli.scores.common import Scorer, cosines, max_softmax, min_softmax, positive
from lsncli.types import Float64s, Floats, Head, Rows

Form = Literal["paper", "official"]


@dataclass(frozen=True)
class Lsn:
    """Positive evidence minus (or plus) negative evidence over K sets of negative prompts; higher = more ID.

    Formula, with y_c = cos(x, t_c) and n^k_c the cosine with the k-th negative prompt of class c:

    * form "paper" (Eq. 14): max_c softmax_c(y / tau) - 1/K sum_k min_c softmax_c(n^k / tau_bar);
    * form "official": max_c softmax_c(y / tau) + 1/K sum_k max_c softmax_c((1 - n^k) / tau_bar).

    The paper does not say how K sets are combined; both forms average over them, as the official code
    does. At tau_bar = 5 the two rank images all but identically (Spearman above 0.999), because both are
    linear in n to first order. The signal is in the 4th to 6th decimal at 1,000 classes, hence float64
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
        positive(tau=self.tau, tau_bar=self.tau_bar)
        if self.form not in get_args(Form):
            raise UsageError(f"The form of LSN must be {' or '.join(get_args(Form))}, found '{self.form}'.")

    def fit(self, head: Head, train: Rows | None = None) -> Scorer:
        """The scorer for ``head``, whose ``negative`` (K, C, D) must be there; nothing is learned here."""
        negative = head.negative
        if negative is None or not len(negative):
            raise LsnError(
                "The score 'lsn' needs negative prompts, and these prompts have none.",
                "Learn them with `lsn train-neg`, or take a score without them, such as mcm.",
            )
        if negative.shape[1:] != head.text.shape:
            raise LsnError(
                f"Expected negative text features of shape (K, {', '.join(map(str, head.text.shape))}), "
                f"found {negative.shape}.",
                "Use positive and negative prompts of the same classes and model.",
            )

        def score(features: Floats) -> Float64s:
            yes = max_softmax(cosines(features, head.text) / self.tau)
            no = [self._says_no(cosines(features, text)) for text in negative]
            total: Float64s = yes + np.mean(no, axis=0)
            return total

        return score

    def _says_no(self, cosine: Float64s) -> Float64s:
        """What one set of negative prompts adds to the score of each row of ``cosine`` (N, C)."""
        if self.form == "paper":
            return -min_softmax(cosine / self.tau_bar)
        return max_softmax((1.0 - cosine) / self.tau_bar)
