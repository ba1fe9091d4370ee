"""ARPL: learned points of what is not a class, by distance and by direction."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lsncli.scores.points import ReciprocalPoints
from lsncli.scores.score import Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class Arpl(ReciprocalPoints):
    """S(x) = max_c (d_c - z . p_c), d_c = |z - p_c|^2 / D and p_c the reciprocal point of class c.

    Formula: as RPL (``rpl``), z = ``scale`` sqrt(D) x, but far is also what points the other way, and the
    radius R is a bound; higher = more ID. Points and R are trained on ID rows with

        loss = CE((d - z . p) / temperature, label) + weight * mean max(0, d_label - R + 1).

    The prompts do not matter.

    Changes for frozen features: as for RPL, features have length sqrt(D) (ours; the margin of 1 is then of
    the size of d). The product, not divided by D, makes cross-entropy learn at the published temperature 1.
    The second part of the paper, confusing samples from a GAN (ARPL+CS), needs images and is left out.

    On one CPU core at 512 dimensions: 2 s for 10 classes x 128 shots, some 4 min for 1,000 x 128;
    epochs are fewer where they would take over 40,000 steps (``training.STEPS``).

    Paper: Chen et al., Adversarial reciprocal points learning for open set recognition, TPAMI 2021.
    Source: github.com/iCGY96/ARPL, loss/ARPLoss.py and osr.py.
    Default: theirs: temperature 1, weight 0.1, margin 1, points from N(0, 0.1^2), R from 0, 100 epochs of
    batch 64, SGD 0.1 (a tenth after 30, 60 and 90 epochs), decay 1e-4; no scale there.
    """

    NAME: ClassVar[str] = "arpl"
    REDUCED: ClassVar[str] = "the image tower stays frozen; points are trained in its features, no GAN"

    def loss(self, features: Tensor, labels: Tensor, points: Tensor, radius: Tensor) -> Tensor:
        """Return ``arpl_loss`` with the settings of the score."""
        return arpl_loss(features, labels, points, radius, temperature=self.temperature, weight=self.weight)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer against the points; the weights of ``head`` do not matter."""
        points = torch.from_numpy(learned["points"]).double()

        def score(features: FloatArray) -> Float64Array:
            return arpl_logits(self.scaled(features, points), points).amax(dim=1).numpy()

        return score


def arpl_logits(features: Tensor, points: Tensor) -> Tensor:
    """Return logits (N, C): mean squared distance minus product, of features (N, D) and points (C, D)."""
    dim = features.shape[1]
    squares = features.square().sum(dim=1, keepdim=True) + points.square().sum(dim=1)
    return squares / dim - (1 + 2 / dim) * (features @ points.T)  # one product serves both terms


def arpl_loss(
    features: Tensor, labels: Tensor, points: Tensor, radius: Tensor, *, temperature: float, weight: float
) -> Tensor:
    """Return the cross-entropy plus the weighted excess of own distances over the radius minus 1."""
    own = (features - points[labels]).square().mean(dim=1)
    excess = (own - radius + 1.0).relu().mean()
    return cross_entropy(arpl_logits(features, points) / temperature, labels) + weight * excess
