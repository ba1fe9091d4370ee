"""ViM: energy against a virtual logit made from the residual."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.common import linear_layer, log_sum_exp, logits, training_rows, unit_chunks
from lsncli.scores.residual import Residual, residual_norms, subspace
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class Vim(Score):
    """S(x) = logsumexp(l(x)) - alpha ||N^T (x - u)||, u and N as in Residual; higher = more ID.

    Formula: l = W x + b the logits of unit CLIP features x (published for raw activations); alpha the sum of
    the training rows' largest logits over the sum of their residual norms, so that the virtual logit is as
    large as the largest real one. It ranks as minus the virtual class's softmax probability does. A head
    whose largest logits are negative on average (some linear probes) makes alpha negative, as published.

    Paper: Wang et al., ViM: Out-of-distribution with virtual-logit matching, CVPR 2022.
    Source: github.com/haoqiwang/vim, benchmark.py (200,000 random training images; here all rows).
    Default: dim = 0, their rule: 1000 from D = 2048 on, 512 from D = 768 on, else D // 2.
    """

    dim: int = 0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "weights"})

    def __post_init__(self) -> None:
        Residual(self.dim)  # refuses invalid values

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return the principal subspace, as Residual does, and "alpha" (1,)."""
        weights, bias = linear_layer(head, "vim")
        rows = training_rows(train, "vim", weights.shape[1])
        learned = subspace("vim", self.dim, weights, bias, rows)
        largest = residual = 0.0
        for part in unit_chunks(rows.features):
            largest += float((part @ weights.T + bias).max(axis=1).sum())
            residual += float(residual_norms(learned, part).sum())
        return learned | {"alpha": np.array([largest / residual])}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the learned subspace."""

        def score(features: FloatArray) -> Float64Array:
            energy = log_sum_exp(logits(head, features))
            return energy - learned["alpha"] * residual_norms(learned, unit(features))

        return score
