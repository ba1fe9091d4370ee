"""MinCM: the negative half of LSN alone."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from lsncli.errors import UsageError
from lsncli.scores.common import check_negative, max_softmax, min_softmax, negative_cosines, positive
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays

Form = Literal["paper", "official", "logit"]


@dataclass(frozen=True)
class MinCm(Score):
    """The evidence of K sets of negative prompts alone; higher = more ID.

    Formula, with n^k_c the cosine with the k-th negative prompt of class c:

    * form "paper" (Eq. 13): -1/K sum_k min_c softmax_c(n^k / tau_bar), in [-1/C, 0];
    * form "official": 1/K sum_k max_c softmax_c((1 - n^k) / tau_bar), in [1/C, 1];
    * form "logit" (ours): -1/K sum_k min_c n^k_c / tau_bar, Eq. 13 without its normaliser.

    It is high where some class's "not" does not fit the image. The rows neg-* of the paper's Table 5; the
    positive prompts only name the predicted class.

    Paper: Nie et al., Out-of-distribution detection with negative prompts, ICLR 2024, Eq. 13.
    Source: github.com/junz-debug/lsn, main_feature_100_upload.py.
    Default: tau_bar = 5 (appendix D), form "paper".
    """

    tau_bar: float = 5.0
    form: Form = "paper"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"negative"})

    def __post_init__(self) -> None:
        positive(tau_bar=self.tau_bar)
        if self.form not in get_args(Form):
            raise UsageError(f"The form must be {' or '.join(get_args(Form))}, found '{self.form}'.")

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``. Raises LsnError if it has no ``negative`` prompts."""
        check_negative(head, "mincm")
        return lambda features: evidence(head, features, self.tau_bar, self.form)


def evidence(head: Head, features: FloatArray, tau_bar: float, form: Form) -> Float64Array:
    """Return the term (N,) of the negative prompts of ``head`` for each row of raw ``features``."""
    if form == "logit":
        sets = [-cosine.min(axis=1) / tau_bar for cosine in negative_cosines(head, features)]
    elif form == "paper":
        sets = [-min_softmax(cosine / tau_bar) for cosine in negative_cosines(head, features)]
    else:
        sets = [max_softmax((1.0 - cosine) / tau_bar) for cosine in negative_cosines(head, features)]
    mean: Float64Array = np.mean(sets, axis=0)
    return mean
