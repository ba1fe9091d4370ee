"""ReAct: energy of rectified activations."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.activations import activation_percentile, between, layer_energy
from lsncli.scores.common import check_features, linear_layer, training_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class React(Score):
    """Energy of features whose largest activations are cut; higher = more ID.

    Formula: S(x) = log sum_c exp(w_c . min(x, k) + b_c), the minimum taken entry by entry, k the
    ``percentile``-th percentile of all N x D training activations, exact however many rows there are.

    Signed features: the published activations are outputs of a ReLU, not negative and as long as they come.
    Here they are the entries of *unit* CLIP features, so k is some tenth at most, and entries are cut from
    above only, as published: half of them are negative and stay. A percentile below 50 would cut at a
    negative value. The clipped feature is not scaled back to length one, so logits of text heads are no
    longer cosines. At the 100th percentile k is the largest training activation.

    Paper: Sun et al., ReAct: out-of-distribution detection with rectified activations, NeurIPS 2021.
    Source: github.com/deeplearning-wisc/react, compute_threshold.py.
    Default: percentile = 90, theirs (k is about 1.0 on a ResNet-50 there). They take it over 2,000 ID images
    of the validation set; here over the training rows.
    """

    percentile: float = 90.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "weights"})

    def __post_init__(self) -> None:
        between(0, 100, percentile=self.percentile)

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return ``clip`` (1,): the activation k."""
        weights, _ = linear_layer(head, "react")
        rows = training_rows(train, "react", weights.shape[1])
        return {"clip": np.array([activation_percentile(rows.features, self.percentile)])}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head`` with the activations cut at ``clip``."""
        weights, bias = linear_layer(head, "react")

        def score(features: FloatArray) -> Float64Array:
            check_features(features, weights.shape[1])
            return layer_energy(np.minimum(unit(features), learned["clip"]), weights, bias)

        return score
