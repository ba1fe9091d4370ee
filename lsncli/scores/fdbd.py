"""fDBD: the mean distance from the decision boundaries, for the distance from the training images."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lsncli.scores.common import check_features, linear_layer, mean_feature, training_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit

SAME = 1e-5
"""Weights of two classes count as equal if they differ by less than this fraction of the longest weights.

Texts of the same name differ by rounding, some 1e-7 where they were float32; names that differ in a letter
are apart by more than 1e-2.
"""
LEAST = 1e-9
"""The least distance from the training mean: a feature that equals it has a finite score."""
BLOCK = 256
"""Classes whose differences from all others are computed at a time."""


@dataclass(frozen=True)
class Fdbd(Score):
    """Distance from the boundaries of the predicted class, regularised; higher = more ID, >= 0.

    Formula: S(x) = sum_c (l_k - l_c) / ||w_k - w_c|| / ||x - m||, l = W x + b the logits of unit features x
    (w are the rows of W; for text heads they are s t_c), k the predicted class, c the others, m the mean
    training feature. (l_k - l_c) / ||w_k - w_c|| is the distance from the hyperplane between two classes.
    With divisor "norm", ||x|| replaces ||x - m||, which is one here.

    Two classes with the same text have no boundary, and the quotient would be 0/0: such pairs are left out.

    Paper: Liu and Qin, Fast decision boundary based out-of-distribution detector, ICML 2024.
    Source: github.com/litianliu/fDBD-OOD, run_imagenet.py. It takes raw activations.
    Default: divisor "mean", as in the paper; OpenOOD chooses the divisor on OOD images.
    """

    divisor: Literal["mean", "norm"] = "mean"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "weights"})

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return "mean" (D,), that of unit training features."""
        weights, _ = linear_layer(head, "fdbd")
        return {"mean": mean_feature(training_rows(train, "fdbd", weights.shape[1]))}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""
        weights, bias = linear_layer(head, "fdbd")
        slopes, offsets = _summed_distances(weights, bias)

        def score(features: FloatArray) -> Float64Array:
            check_features(features, weights.shape[1])
            rows = unit(features)
            predicted = (rows @ weights.T + bias).argmax(axis=1)
            total: Float64Array = (rows * slopes[predicted]).sum(axis=1) + offsets[predicted]
            if self.divisor == "norm":
                return total
            distance: Float64Array = np.linalg.norm(rows - learned["mean"], axis=1)
            return total / np.maximum(distance, LEAST)

        return score


def _summed_distances(weights: Float64Array, bias: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return A (C, D) and a (C,): A_k x + a_k is the sum of the distances of x from the boundaries of k.

    The sum over classes is taken here once and not for each image; memory is that of ``BLOCK`` x C numbers.
    """
    slopes, offsets = np.empty_like(weights), np.empty_like(bias)
    squares = (weights**2).sum(axis=1)
    least = SAME**2 * squares.max()
    for start in range(0, len(weights), BLOCK):
        some = slice(start, start + BLOCK)
        apart = squares[some, None] + squares - 2 * (weights[some] @ weights.T)
        inverse = np.where(apart > least, 1 / np.sqrt(np.maximum(apart, least)), 0.0)
        total = inverse.sum(axis=1)
        slopes[some] = total[:, None] * weights[some] - inverse @ weights
        offsets[some] = total * bias[some] - inverse @ bias
    return slopes, offsets
