"""Residual: how far a feature lies from the principal subspace of the training features."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.errors import LsnError, UsageError
from lsncli.scores.common import (
    above_rounding,
    check_features,
    linear_layer,
    pseudo_inverse,
    training_rows,
    unit_chunks,
)
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class Residual(Score):
    """S(x) = -||N^T (x - u)||, N the directions that training features hardly use; higher = more ID, <= 0.

    Formula: u = -W^+ b, where the logits W x + b are smallest (0 for text heads, which have no bias);
    N (D, D - dim) the eigenvectors of the smallest eigenvalues of the mean of (x - u)(x - u)^T over training
    features, about u and not about their mean. Published for raw activations, here x are unit CLIP features.
    The pseudo-inverse W^+ takes singular values below 1e-5 of the largest for zero: the weights of a softmax
    head sum to zero over the classes, and the direction that rounding leaves there would decide u.

    Paper: Wang et al., ViM: Out-of-distribution with virtual-logit matching, CVPR 2022; after Ndiour et al.,
    2020.
    Source: github.com/haoqiwang/vim, benchmark.py.
    Default: dim = 0, their rule: 1000 from D = 2048 on, 512 from D = 768 on, else D // 2.
    """

    dim: int = 0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "weights"})
    PROMPTS: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.dim < 0:
            raise UsageError(f"The setting 'dim' must be 0 (the published rule) or more, found {self.dim}.")

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Learn the ``subspace``. Raises LsnError without training rows or fixed weights."""
        weights, bias = linear_layer(head, "residual")
        rows = training_rows(train, "residual", weights.shape[1])
        return subspace("residual", self.dim, weights, bias, rows)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the learned subspace."""

        def score(features: FloatArray) -> Float64Array:
            check_features(features, len(learned["origin"]))
            return -residual_norms(learned, unit(features))

        return score


def subspace(name: str, dim: int, weights: Float64Array, bias: Float64Array, rows: Rows) -> LearnedArrays:
    """Learn "origin" u (D,) and "complement" N (D, D - ``dim``) from ``rows`` for the score ``name``.

    ``weights`` W (C, D) and ``bias`` b (C,) are the head's; ``dim`` 0 is the published rule. Raises LsnError
    for a ``dim`` of D or more, and if the rows span no more than ``dim`` directions: then no row has a
    residual, and which of the unused directions count would be chance.
    """
    size = weights.shape[1]
    dim = dim or published_dim(size)
    if dim >= size:
        raise LsnError(
            f"The score '{name}' needs dim below the {size} dimensions of the features, found {dim}.",
            f"Set dim below {size}, or leave it out.",
        )
    origin = -pseudo_inverse(weights) @ bias
    moment = np.zeros((size, size))
    for part in unit_chunks(rows.features):
        moment += (part - origin).T @ (part - origin)
    values, vectors = np.linalg.eigh(moment / len(rows))  # smallest first
    spanned = int(above_rounding(values).sum())
    if spanned <= dim:
        raise LsnError(
            f"The score '{name}' needs training features that span more than dim = {dim} directions, "
            f"and these {len(rows)} rows span {spanned}.",
            f"Use more training rows, or a dim below {spanned}.",
        )
    return {"origin": origin, "complement": vectors[:, : size - dim].copy()}


def published_dim(size: int) -> int:
    """Return the dimensions of the principal subspace for features of ``size`` dimensions in ViM's code."""
    if size >= 2048:
        return 1000
    return 512 if size >= 768 else size // 2


def residual_norms(learned: LearnedArrays, features: Float64Array) -> Float64Array:
    """Return ||N^T (x - u)|| (N,) of unit ``features`` (N, D)."""
    norms: Float64Array = np.linalg.norm((features - learned["origin"]) @ learned["complement"], axis=1)
    return norms
