"""DICE: energy of a classifier without its weak weights."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.activations import between, layer_energy
from lsncli.scores.common import check_features, linear_layer, mean_feature, training_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class Dice(Score):
    """Energy of a classifier that keeps only the weights which contribute most; higher = more ID.

    Formula: S(x) = log sum_c exp((m_c * w_c) . x + b_c). With a the mean training feature, V_cd = a_d W_cd is
    what weight (c, d) contributes on average, and m_cd = 1 where V_cd is above the ``percentile``-th
    percentile of all C x D entries of V, else 0.

    Signed features: the percentile is over the signed contributions, as published. There a ReLU makes a_d
    positive and its size the mean activation; here a is the mean of *unit* CLIP features, whose entries
    have either sign and nearly cancel where a dimension is centred: such a dimension contributes about
    nothing on average and goes, even if it tells classes apart. What stays is led by the few dimensions in
    which all CLIP images (and texts) are alike. V > 0 still means "raises the logit of a typical ID image".

    Paper: Sun and Li, DICE: leveraging sparsification for out-of-distribution detection, ECCV 2022.
    Source: github.com/deeplearning-wisc/dice, models/route.py.
    Default: percentile = 70, theirs for ImageNet (90 for CIFAR). Theirs has p in [0, 100); here at most
    99.9, so that at least one weight stays.
    """

    percentile: float = 70.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "weights"})

    def __post_init__(self) -> None:
        between(0, 99.9, percentile=self.percentile)

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return ``kept`` (C, D), bool: the weights that stay."""
        weights, _ = linear_layer(head, "dice")
        rows = training_rows(train, "dice", weights.shape[1])
        contribution = mean_feature(rows) * weights
        return {"kept": contribution > np.percentile(contribution, self.percentile)}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head`` with the weights that stay."""
        weights, bias = linear_layer(head, "dice")
        sparse = weights * learned["kept"]

        def score(features: FloatArray) -> Float64Array:
            check_features(features, sparse.shape[1])
            return layer_energy(unit(features), sparse, bias)

        return score
