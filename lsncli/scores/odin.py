"""ODIN: maximum softmax probability at a high temperature, of a perturbed image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.errors import UsageError
from lsncli.scores.common import logits, max_softmax, positive
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class Odin(Score):
    """The maximum softmax probability at a high temperature; higher = more ID, in [1/C, 1].

    Formula: S(x) = max_c softmax_c(l(x~) / tau), x~ the features of the image moved by ``eps`` against the
    sign of the gradient of -log max_c softmax_c(l / tau) with respect to its pixels. At tau = 1000 the
    softmax is linear to first order and S ranks images by how far the largest logit leads the mean logit;
    the signal is in the small decimals, hence float64.

    The perturbation needs pixels and a backward pass through the image tower. A scorer sees features only
    and is the same function at every ``eps``: at ``eps`` = 0 it is given stored features, at ``eps`` > 0
    whoever has the images must give it features of perturbed images. ``NEEDS`` is therefore empty, and a
    caller without images must refuse ``eps`` > 0.

    Signed features change nothing: only logits are used.

    Paper: Liang et al., Enhancing the reliability of out-of-distribution image detection in neural
    networks, ICLR 2018.
    Source: github.com/facebookresearch/odin, code/calData.py.
    Default: tau = 1000, theirs; eps = 0, as github.com/deeplearning-wisc/gradnorm_ood takes for ImageNet.
    Theirs for CIFAR is eps = 0.0014, in units of pixels in [0, 1].
    """

    tau: float = 1000.0
    eps: float = 0.0

    REDUCED: ClassVar[str] = "temperature only: the input perturbation needs pixels (eps > 0)"

    def __post_init__(self) -> None:
        positive(tau=self.tau)
        if not (np.isfinite(self.eps) and self.eps >= 0):
            raise UsageError(f"The setting 'eps' must be a finite number of at least 0, found {self.eps}.")

    def inputs(self) -> str:
        """Return the required input; see ``Score.inputs``."""
        return "pixels" if self.eps > 0 else ""

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``; of features of perturbed images where ``eps`` > 0."""

        def score(features: FloatArray) -> Float64Array:
            return max_softmax(logits(head, features) / self.tau)

        return score
