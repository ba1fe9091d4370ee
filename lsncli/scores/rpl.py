"""RPL: the distance to learned points of what is not a class."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lsncli.scores.points import ReciprocalPoints, mean_squares
from lsncli.scores.score import Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays


@dataclass(frozen=True)
class Rpl(ReciprocalPoints):
    """S(x) = max_c d_c, d_c = |z - p_c|^2 / D the mean squared distance to the reciprocal point of class c.

    Formula: z = ``scale`` sqrt(D) x, x the unit feature; the point p_c represents all that is not class c, so
    that images of c are far from it, and an OOD image is near all points; higher = more ID. Points and
    radius R are trained on ID rows with

        loss = CE(d / temperature, label) + weight * mean (d_label - R)^2.

    ``form`` "distance" is the paper's score; "softmax" is what their repository passes on as logits,
    max_c softmax_c(d). The prompts do not matter.

    Changes for frozen features. Published features come from a network that chooses their size. Mean squared
    distances of *unit* features are at most 4 / D for points of the same length, and cross-entropy at
    temperature 1 stays at log C to three digits. Hence (both ours) features of length sqrt(D), which have a
    mean square of one as batch-normalised ones have, and temperature 0.03, at which cross-entropy of training
    rows falls to a few tenths in their 100 epochs (at 1 it keeps most of log C).

    On one CPU core at 512 dimensions: 2 s for 10 classes x 128 shots, some 3 min for 1,000 x 128;
    epochs are fewer where they would take over 40,000 steps (``training.STEPS``).

    Paper: Chen et al., Learning open set network with discriminative reciprocal points, ECCV 2020.
    Source: github.com/iCGY96/ARPL, loss/RPLoss.py and loss/Dist.py.
    Default: theirs: 1 point a class, from N(0, 0.1^2), R from 0, weight 0.1, 100 epochs of batch 64, SGD 0.1
    (a tenth after 30, 60 and 90 epochs), decay 1e-4; temperature 1 and no scale there.
    """

    temperature: float = 0.03
    form: Literal["distance", "softmax"] = "distance"

    NAME: ClassVar[str] = "rpl"
    REDUCED: ClassVar[str] = "the image tower stays frozen; points are trained in its features"

    def loss(self, features: Tensor, labels: Tensor, points: Tensor, radius: Tensor) -> Tensor:
        """Return ``rpl_loss`` with the settings of the score."""
        return rpl_loss(features, labels, points, radius, temperature=self.temperature, weight=self.weight)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer against the points; the weights of ``head`` do not matter."""
        points = torch.from_numpy(learned["points"]).double()

        def score(features: FloatArray) -> Float64Array:
            distances = mean_squares(self.scaled(features, points), points)
            logits = distances.softmax(dim=1) if self.form == "softmax" else distances
            return logits.amax(dim=1).numpy()

        return score


def rpl_loss(
    features: Tensor, labels: Tensor, points: Tensor, radius: Tensor, *, temperature: float, weight: float
) -> Tensor:
    """Return cross-entropy of distances plus ``weight`` times the squared gap of own distance and radius."""
    distances = mean_squares(features, points)
    own = distances.gather(1, labels[:, None])[:, 0]
    return cross_entropy(distances / temperature, labels) + weight * (own - radius).square().mean()
