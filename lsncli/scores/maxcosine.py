"""MaxCosine: the cosine with the nearest class weight."""

from dataclasses import dataclass

import numpy as np

from lsncli.scores.common import cosines, positive_cosines
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays

ROUNDING = 1e-9
"""A row whose length differs from one by less than this is a unit row and stays bit-identical."""


@dataclass(frozen=True)
class MaxCosine(Score):
    """The largest cosine of a feature with a row of the classifier's weights; higher = more ID, in [-1, 1].

    Formula: S(x) = max_c cos(x, w_c), which is MaxLogit without the lengths of x and w_c and without a bias.
    Text features have length one and no bias, so for zero-shot and learned prompts this *is* MaxLogit / s, s
    CLIP's logit scale, and ranks images as MaxLogit does. It differs for a linear probe, whose rows have
    lengths of their own and which was not trained to be used without them. For prompts that depend on the
    image the cosines are theirs. A row of zeros has cosine 0 with everything.

    Signed features change nothing: a cosine assumes no sign.

    Paper: Zhang and Xiang, Decoupling MaxLogit for out-of-distribution detection, CVPR 2023, which names it
    MaxCosine and takes it from ordinary classifiers; a network *trained* on scaled cosines and scored by the
    largest is Techapanurak et al., Hyperparameter-free out-of-distribution detection using cosine
    similarity, ACCV 2020 (github.com/engkarat/cosine-ood-detector).
    Source: github.com/Z-ZHHH/CVPR23-DML.
    Default: no settings. Theirs adds lambda times the feature's length (MaxNorm), which is one here.
    """

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""
        rows = head.weights
        if isinstance(rows, np.ndarray):
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where((np.abs(lengths - 1) < ROUNDING) | (lengths == 0), 1.0, lengths)

        def score(features: FloatArray) -> Float64Array:
            cosine = (
                cosines(features, rows) if isinstance(rows, np.ndarray) else positive_cosines(head, features)
            )
            largest: Float64Array = cosine.max(axis=1)
            return largest

        return score
