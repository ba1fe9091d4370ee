"""CLIPN: a "no" text encoder beside CLIP's own."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.special import expit

from lsncli.errors import LsnError
from lsncli.scores.common import check_negative, cosines, linear_layer, logits
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, unit


@dataclass(frozen=True)
class Clipn(Score):
    """Score how little the "no" text features of the likely classes match the image; higher = more ID.

    Formula, with the logits y_c of the "yes" and n_c = s cos(x, u_c) of the "no" text features, at the head's
    scale s (CLIP: 100), and p_c = exp(y_c) / (exp(y_c) + exp(n_c)):

    * form "atd" (agreeing to differ): sum_c softmax(y)_c p_c;
    * form "ctw" (competing to win): p_c of the class with the largest y_c.

    The authors decide without a threshold: by CTW an image is OOD below 0.5, by ATD if 1 - ATD, the
    probability of a class "unknown", exceeds every softmax(y)_c p_c. A calibrated gamma takes the place of
    both. Several sets of "no" features are averaged as the authors average prompts: normalised, summed,
    normalised again.

    Paper: Wang et al., CLIPN for zero-shot OOD detection: teaching CLIP to say no, ICCV 2023.
    Source: github.com/xmed-lab/CLIPN, src/zero_shot_infer.py and src/classification.py.
    Default: form "atd", the better one in the authors' table.
    """

    form: Literal["atd", "ctw"] = "atd"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"negative", "weights"})
    HEAD: ClassVar[str] = "clipn"

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``. Raises LsnError unless its ``negative`` prompts are fixed."""
        linear_layer(head, "clipn")
        check_negative(head, "clipn")
        if not isinstance(head.negative, np.ndarray):
            raise LsnError(
                "The score 'clipn' needs fixed weights, and these negative prompts change with the image.",
                "Take clipn:clipn (`lsn train-no`), or learn negative prompts with --learner coop.",
            )
        no = unit(unit(head.negative).sum(axis=0))

        def score(features: FloatArray) -> Float64Array:
            yes = logits(head, features)
            chance = expit(yes - head.scale * cosines(features, no))
            if self.form == "ctw":
                best: Float64Array = np.take_along_axis(chance, yes.argmax(axis=1)[:, None], axis=1)[:, 0]
                return best
            likely = np.exp(yes - yes.max(axis=1, keepdims=True))
            mean: Float64Array = (likely * chance).sum(axis=1) / likely.sum(axis=1)
            return mean

        return score
