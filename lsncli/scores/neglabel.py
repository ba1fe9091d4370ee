"""NegLabel: the classes against a vocabulary of other words."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit

from lsncli.errors import LsnError, UsageError
from lsncli.scores.common import cosines, log_sum_exp, logits
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows

VOCABULARY = "vocabulary"
"""The name in ``LearnedArrays`` of the unit text features (V, D) of words that are no class."""


@dataclass(frozen=True)
class NegLabel(Score):
    """The probability that an image is of a class and not of another word; higher = more ID, in [0, 1].

    Formula: S(x) = 1/G sum_g sum_c e^(s cos(x, t_c)) / (sum_c e^(s cos(x, t_c)) + sum_v e^(s cos(x, u_v))), c
    over the classes, v over the g-th of G groups of the vocabulary, u_v the text features of its words in the
    prompt of the classes. Word number v is in group v mod G. At G = 1 it is a plain probability.

    The vocabulary comes with the detector and not from training rows: words in plain language, less those
    near a class (``methods.candidates``). Ours are the names of ImageNet's classes, theirs 10,000 nouns and
    adjectives of WordNet in 100 groups; theirs stand in "The nice ...", ours in "a photo of a ...".

    Paper: Jiang et al., Negative label guided OOD detection with pretrained vision-language models,
    ICLR 2024.
    Source: github.com/XueJiang16/NegLabel.
    Default: G = 1 (theirs 100); s is the head's scale, CLIP's 100 (their temperature is 0.01).
    """

    groups: int = 1

    NEEDS: ClassVar[frozenset[str]] = frozenset({"candidates"})
    REDUCED: ClassVar[str] = "the vocabulary is ImageNet's names, not WordNet's"

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise UsageError(f"The setting 'groups' must be at least 1, found {self.groups}.")

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Raise LsnError: training rows do not define the words that are no class."""
        raise LsnError(
            "The score 'neglabel' needs a vocabulary of other words; training rows do not tell them.",
            "`lsn eval`, `lsn calibrate` and `lsn score --classes` bring one.",
        )

    def inputs(self) -> str:
        """Return the required input; see ``Score.inputs``."""
        return "vocabulary"

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head`` against ``learned[VOCABULARY]``.

        Raises LsnError for fewer words than groups and for a linear probe, whose logits are on another scale.
        """
        words = learned[VOCABULARY]
        if head.bias is not None:
            raise LsnError(
                "The score 'neglabel' compares words with words of classes, and a linear probe has none.",
                "Take neglabel, neglabel:ensemble or neglabel:positive.",
            )
        if len(words) < self.groups:
            raise LsnError(
                f"The score 'neglabel' needs a word for each of {self.groups} groups, found {len(words)}."
            )

        def score(features: FloatArray) -> Float64Array:
            inside = log_sum_exp(logits(head, features))
            other = head.scale * cosines(features, words)
            groups = [log_sum_exp(other[:, g :: self.groups].copy()) for g in range(self.groups)]
            found: Float64Array = expit(inside - np.stack(groups)).mean(axis=0)
            return found

        return score
