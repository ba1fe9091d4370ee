"""SCALE: energy of a feature, lengthened by how much its largest activations stand out."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.activations import between, kept_places, layer_energy, whole_over_kept
from lsncli.scores.common import check_features, linear_layer
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, unit


@dataclass(frozen=True)
class Scale(Score):
    """Energy of a feature that is lengthened as ``ash`` does, with no activation removed; higher = more ID.

    Formula: S(x) = log sum_c exp(e^(r(x)) w_c . x + b_c), r(x) = min(t / u, D / K), t = sum_d |x_d|, and u
    that sum over the K = D - round(D percentile / 100) largest entries of x (at least one).

    Signed features: published for activations after a ReLU, here entries of *unit* CLIP features. As in
    ``ash``, "largest" is by value and both sums are of absolute values, the same as published where no entry
    is negative; signed entries would cancel to sums near or below zero. No non-negative feature has t / u
    above D / K. Features whose large entries have a small share are lengthened *more*, as published.

    Paper: Xu et al., Scaling for training time and post-hoc out-of-distribution detection enhancement, ICLR
    2024.
    Source: github.com/kai422/SCALE; OpenOOD's scale_net.py.
    Default: percentile = 85, theirs for ImageNet; OpenOOD tunes it on OOD images. At most 99 here, with which
    exp(r) cannot overflow.
    """

    percentile: float = 85.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __post_init__(self) -> None:
        between(0, 99, percentile=self.percentile)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""
        weights, bias = linear_layer(head, "scale")

        def score(features: FloatArray) -> Float64Array:
            check_features(features, weights.shape[1])
            rows = unit(features)
            largest = np.take_along_axis(rows, kept_places(rows, self.percentile), axis=1)
            return layer_energy(rows * np.exp(whole_over_kept(rows, largest)), weights, bias)

        return score
