"""EOE: the most likely class against the most likely of the names that OOD images may have."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lsncli.errors import LsnError, UsageError
from lsncli.scores.common import VOCABULARY, cosines, positive, positive_cosines
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows


@dataclass(frozen=True)
class Eoe(Score):
    """The largest probability of a class less a share of the largest of another name; higher = more ID.

    Formula: S(x) = max_c p_c - beta max_v q_v, p_c and q_v the probabilities of class c and of another name
    v by one softmax over cos(x, t_c) / tau and cos(x, u_v) / tau, t and u the text features. As in ``mcm``
    the cosines are not scaled: at tau = 1 all probabilities are near 1 / (C + V), and the signal is in the
    last decimals.

    The names are what a language model answers when it is asked for classes that OOD images may have; this
    package asks none. Give them as words=FILE, one a line (theirs are some 500), or use a list of
    ``neglabel``: words, mine and drop are its settings, and names that spell a class are always dropped. On
    hand-written prompts, classes and names are in the prompt of the list, which for a file is "the nice ...";
    theirs is "a photo of a ...".

    Paper: Cao et al., Envisioning outlier exposure by large language models for out-of-distribution
    detection, ICML 2024.
    Source: github.com/tmlr-group/EOE, utils/detection_util.py.
    Default: beta = 0.25 and tau = 1, theirs; words=auto, as of ``neglabel``.
    """

    beta: float = 0.25
    tau: float = 1.0
    words: str = "auto"
    mine: Literal["names", "images"] = "names"
    drop: Literal["none", "proper", "kinds", "both"] = "none"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"words"})

    def __post_init__(self) -> None:
        positive(tau=self.tau)
        if not (np.isfinite(self.beta) and self.beta >= 0):
            raise UsageError(f"The setting 'beta' must be a finite number, 0 or more, found {self.beta}.")

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Raise LsnError: training rows do not define the names of what is no class."""
        raise LsnError(
            "The score 'eoe' needs names of what is no class; training rows do not tell them.",
            "`lsn eval` and `lsn calibrate` bring a list; name your own with --method eoe,words=FILE.",
        )

    def inputs(self) -> str:
        """Return the required input; see ``Score.inputs``."""
        return "vocabulary"

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head`` against ``learned[VOCABULARY]``.

        Raises LsnError for a linear probe, whose logits are no cosines.
        """
        names = learned[VOCABULARY]
        if head.bias is not None:
            raise LsnError(
                "The score 'eoe' compares names with names of classes, and a linear probe has none.",
                "Take eoe, eoe:ensemble or eoe:positive.",
            )

        def score(features: FloatArray) -> Float64Array:
            inside, outside = positive_cosines(head, features), cosines(features, names)
            top = np.maximum(inside.max(axis=1), outside.max(axis=1))[:, None]
            inside, outside = (np.exp((cosine - top) / self.tau) for cosine in (inside, outside))
            found: Float64Array = inside.max(axis=1) - self.beta * outside.max(axis=1)
            found /= inside.sum(axis=1) + outside.sum(axis=1)
            return found

        return score
