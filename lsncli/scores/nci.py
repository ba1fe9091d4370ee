"""NCI: how near a feature is to the weights of its class, seen from the training mean."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.errors import UsageError
from lsncli.scores.common import check_features, linear_layer, mean_feature, training_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit

LEAST = 1e-9
"""The least distance from the training mean: a feature that equals it has a finite score."""


@dataclass(frozen=True)
class Nci(Score):
    """Projection of the centred feature on the weights of the predicted class; higher = more ID.

    Formula: S(x) = w_k . (x - m) / ||x - m|| + alpha ||x||_1, w_k the weights of the predicted class (s t_k
    for text heads), m the mean training feature. After long training the features of a class lie along its
    weights (neural collapse), and OOD features near the mean. Published for raw activations; here x are unit
    features, so the last term, meant to find short features, only says how evenly x is spread over its
    entries. At CLIP's scale it hardly counts.

    Paper: Liu and Qin, Detecting out-of-distribution through the lens of neural collapse, CVPR 2025.
    Source: github.com/Jingkang50/OpenOOD, openood/postprocessors/nci_postprocessor.py.
    Default: alpha = 0.0001, theirs, from a search on OOD validation images.
    """

    alpha: float = 1e-4

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "weights"})

    def __post_init__(self) -> None:
        if not (np.isfinite(self.alpha) and self.alpha >= 0):
            raise UsageError(f"The setting 'alpha' must be a finite number, 0 or more, found {self.alpha}.")

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return "mean" (D,), that of unit training features."""
        weights, _ = linear_layer(head, "nci")
        return {"mean": mean_feature(training_rows(train, "nci", weights.shape[1]))}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head`` about the learned mean."""
        weights, bias = linear_layer(head, "nci")

        def score(features: FloatArray) -> Float64Array:
            check_features(features, weights.shape[1])
            rows = unit(features)
            nearest = weights[(rows @ weights.T + bias).argmax(axis=1)]
            about = rows - learned["mean"]
            distance = np.maximum(np.linalg.norm(about, axis=1), LEAST)
            found: Float64Array = (nearest * about).sum(axis=1) / distance
            found += self.alpha * np.abs(rows).sum(axis=1)
            return found

        return score
