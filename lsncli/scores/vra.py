"""VRA: energy of activations that are cut from above and from below."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.errors import UsageError
from lsncli.scores.activations import activation_percentile, between, layer_energy
from lsncli.scores.common import check_features, linear_layer, training_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class Vra(Score):
    """Energy of features whose smallest and largest activations are cut; higher = more ID.

    Formula: S(x) = log sum_c exp(w_c . min(max(x, a), b) + b_c), minimum and maximum taken entry by entry,
    a and b the ``low``-th and ``high``-th percentile of all N x D training activations, exact however many
    rows there are. It is ``react`` with a second side, as in OpenOOD. (The paper sets activations below a to
    zero, which after a ReLU is nearly the same.)

    Signed features: published for activations after a ReLU, here entries of *unit* CLIP features, so a is
    negative and strong negative entries are cut as strong positive ones are. The clipped feature is not
    scaled back to length one, so logits of text heads are no longer cosines.

    Paper: Xu et al., VRA: variational rectified activation for out-of-distribution detection, NeurIPS 2023.
    Source: github.com/Jingkang50/OpenOOD, openood/postprocessors/vra_postprocessor.py.
    Default: low = 10 and high = 90, OpenOOD's, which it also tunes on OOD images. They take them over ID
    validation images; here over the training rows.
    """

    low: float = 10.0
    high: float = 90.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "weights"})

    def __post_init__(self) -> None:
        between(0, 100, low=self.low, high=self.high)
        if self.low >= self.high:
            raise UsageError(
                f"The setting 'low' must be below 'high', found low = {self.low} and high = {self.high}."
            )

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return ``clip`` (2,): the activations a and b."""
        weights, _ = linear_layer(head, "vra")
        features = training_rows(train, "vra", weights.shape[1]).features
        return {"clip": np.array([activation_percentile(features, p) for p in (self.low, self.high)])}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head`` with the activations cut to the range of ``clip``."""
        weights, bias = linear_layer(head, "vra")
        low, high = learned["clip"]

        def score(features: FloatArray) -> Float64Array:
            check_features(features, weights.shape[1])
            return layer_energy(unit(features).clip(low, high), weights, bias)

        return score
