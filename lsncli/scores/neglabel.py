"""NegLabel: the classes against a vocabulary of other words."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.special import expit

from lsncli.errors import LsnError, UsageError
from lsncli.scores.common import VOCABULARY, cosines, log_sum_exp, logits
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows


@dataclass(frozen=True)
class NegLabel(Score):
    """The probability that an image is of a class and not of another word; higher = more ID, in [0, 1].

    Formula: S(x) = 1/G sum_g sum_c e^(s cos(x, t_c)) / (sum_c e^(s cos(x, t_c)) + sum_v e^(s cos(x, u_v))), c
    over the classes, v over the g-th of G groups of the vocabulary, u_v the text features of its words in the
    prompt of the classes. Word number v is in group v mod G. At G = 1 it is a plain probability.

    The vocabulary depends on the classes and not on training rows (``methods.words``). words=wordnet is the
    authors': of WordNet's nouns and adjectives, without animals and food, the 15 % whose 95 % quantile of the
    cosines with the classes is lowest. words=csp is CSP's: mean features of eight texts, adjectives in
    phrases such as "wooden structure", no word with a cosine above 0.95 with a class. words=openood is
    OpenOOD-VLM's variant: other prompts, exactly 10,000 words. words=imagenet1k are ImageNet's names far from
    the classes; any other value is a class list or a file of words. Words that spell a class are always
    dropped, with drop=proper, kinds or both also proper nouns and kinds of a class. mine=images takes the
    2,000 words that the training images of every class are farther from than from its name (InterNeg). On
    hand-written prompts, classes are in the texts of the words ("the nice cat").

    Paper: Jiang et al., Negative label guided OOD detection with pretrained vision-language models,
    ICLR 2024; Chen et al., Conjugated semantic pool improves OOD detection with pre-trained vision-language
    models, NeurIPS 2024.
    Source: github.com/XueJiang16/NegLabel, github.com/MengyuanChen21/NeurIPS2024-CSP. Their groups are drawn
    by a CUDA generator; ours are by number.
    Default: words=auto: WordNet, or ImageNet's names for the mini model, which knows 2,500 words. groups=0:
    the authors' 100 (5 with mine=images), or 1 for fewer than ten words a group. s is the head's scale,
    CLIP's 100 (their temperature is 0.01).
    """

    groups: int = 0
    words: str = "auto"
    mine: Literal["names", "images"] = "names"
    drop: Literal["none", "proper", "kinds", "both"] = "none"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"words"})

    def __post_init__(self) -> None:
        if self.groups < 0:
            raise UsageError(f"The setting 'groups' must be 0 or more, found {self.groups}.")

    def groups_of(self, words: int) -> int:
        """Return the number of groups of a vocabulary of ``words``."""
        if self.groups:
            return self.groups
        usual = 5 if self.mine == "images" else 100
        return usual if words >= 10 * usual else 1

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
        number = self.groups_of(len(words))
        if head.bias is not None:
            raise LsnError(
                "The score 'neglabel' compares words with words of classes, and a linear probe has none.",
                "Take neglabel, neglabel:ensemble or neglabel:positive.",
            )
        if len(words) < number:
            raise LsnError(
                f"The score 'neglabel' needs a word for each of {number} groups, found {len(words)}."
            )

        def score(features: FloatArray) -> Float64Array:
            inside = log_sum_exp(logits(head, features))
            other = head.scale * cosines(features, words)
            groups = [log_sum_exp(other[:, g::number].copy()) for g in range(number)]
            found: Float64Array = expit(inside - np.stack(groups)).mean(axis=0)
            return found

        return score
