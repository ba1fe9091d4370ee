"""GradNorm: how hard the image would pull at the classifier towards indecision."""

from dataclasses import dataclass

import numpy as np

from lsncli.scores.common import logits, positive
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, unit


@dataclass(frozen=True)
class GradNorm(Score):
    """L1 norm of the last layer's gradient of the loss towards uniform labels; higher = more ID.

    Formula: S(x) = ||d/dW sum_c -log softmax_c(l / tau)||_1, the target of every class being 1 as in the
    authors' code, with l = W x + b and x of length one. The gradient with respect to row c is
    (C p_c - 1) / tau * x with p = softmax(l / tau), an outer product, hence the closed form used here:
    S(x) = ||x||_1 sum_c |C p_c - 1| / tau; no backward pass. For text heads W is s T, the *scaled* head, s
    CLIP's logit scale. It needs only x and its logits, so for prompts that depend on the image W stands for
    the scaled head of that image.

    Signed features: ||x||_1 is of absolute values and needs no guard. The published networks give longer
    features to ID images, and that is half of the score; CLIP features have length one here, so ||x||_1 only
    says over how many dimensions an image spreads. The other half is at most 2 (C - 1) and nearly so
    wherever the softmax at s = 100 is sure of itself, so that ||x||_1 then decides between images.

    Paper: Huang et al., On the importance of gradients for detecting distributional shifts in the wild,
    NeurIPS 2021.
    Source: github.com/deeplearning-wisc/gradnorm_ood, test_ood.py.
    Default: tau = 1, theirs.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        positive(tau=self.tau)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""

        def score(features: FloatArray) -> Float64Array:
            pull = logits(head, features) / self.tau
            pull -= pull.max(axis=1, keepdims=True)
            np.exp(pull, out=pull)
            pull *= pull.shape[1] / pull.sum(axis=1, keepdims=True)
            pull -= 1.0
            norm: Float64Array = np.abs(pull, out=pull).sum(axis=1) * np.abs(unit(features)).sum(axis=1)
            return norm / self.tau

        return score
