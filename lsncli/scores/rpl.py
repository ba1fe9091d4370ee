"""RPL: the distance to learned points of what is not a class."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lsncli.device import pick_device, seeded, threads_for
from lsncli.scores.common import check_features, positive
from lsncli.scores.score import Score, Scorer
from lsncli.scores.training import (
    Batches,
    Sgd,
    check_training,
    class_rows,
    each_epoch,
    run_epoch,
    steps,
    to_keep,
    trainable,
)
from lsncli.types import Float64s, Floats, Head, Learned, Rows, unit

PointLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Scaled features (B, D), labels (B,), points (C, D) and the radius () to a loss."""


@dataclass(frozen=True)
class Rpl(Score):
    """S(x) = max_c d_c, d_c = |z - p_c|^2 / D the mean squared distance to the reciprocal point of class c.

    Formula: z = ``scale`` sqrt(D) x, x the unit feature; the point p_c stands for all that is not class c, so
    that images of c are far from it, and an OOD image is near all points; higher = more ID. Points and
    radius R are trained on ID rows with

        loss = CE(d / temperature, label) + weight * mean (d_label - R)^2.

    ``form`` "distance" is the paper's score; "softmax" is what their repository passes on as logits,
    max_c softmax_c(d). The prompts do not matter.

    What frozen features change. Published features come from a network that chooses their size. Mean squared
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

    seed: int = 0
    epochs: int = 100
    batch_size: int = 64
    rate: float = 0.1
    weight: float = 0.1
    scale: float = 1.0
    temperature: float = 0.03
    form: Literal["distance", "softmax"] = "distance"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels"})
    REDUCED: ClassVar[str] = "the image tower stays frozen; points are trained in its features"

    def __post_init__(self) -> None:
        check_training(
            seed=self.seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rate=self.rate,
            weight=self.weight,
        )
        positive(scale=self.scale, temperature=self.temperature)

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> Learned:
        """``points`` (C, D), float32."""

        def loss_of(features: Tensor, labels: Tensor, points: Tensor, radius: Tensor) -> Tensor:
            return rpl_loss(
                features, labels, points, radius, temperature=self.temperature, weight=self.weight
            )

        rows = class_rows(head, train, "rpl")
        plan = Plan("rpl", self.seed, self.epochs, self.batch_size, self.rate, self.scale)
        return learn_points(rows, len(head.classes), loss_of, plan, device)

    def scorer(self, head: Head, learned: Learned, device: str = "cpu") -> Scorer:
        """The scorer against the points; the weights of ``head`` do not matter."""
        points = torch.from_numpy(learned["points"]).double()

        def score(features: Floats) -> Float64s:
            distances = mean_squares(scaled(features, points, self.scale), points)
            logits = distances.softmax(dim=1) if self.form == "softmax" else distances
            return logits.amax(dim=1).numpy()

        return score


@dataclass(frozen=True)
class Plan:
    """How points are trained, and for which score."""

    name: str
    seed: int
    epochs: int
    batch_size: int
    rate: float
    scale: float


def mean_squares(features: Tensor, points: Tensor) -> Tensor:
    """(N, C): the mean over coordinates of the squared difference of features (N, D) and points (C, D)."""
    squares = features.square().sum(dim=1, keepdim=True) + points.square().sum(dim=1)
    return (squares - 2 * features @ points.T) / features.shape[1]


def rpl_loss(
    features: Tensor, labels: Tensor, points: Tensor, radius: Tensor, *, temperature: float, weight: float
) -> Tensor:
    """Cross-entropy of distances, and how far those to the own class's point are from the radius, squared."""
    distances = mean_squares(features, points)
    own = distances.gather(1, labels[:, None])[:, 0]
    return cross_entropy(distances / temperature, labels) + weight * (own - radius).square().mean()


def learn_points(rows: Rows, classes: int, loss_of: PointLoss, plan: Plan, device: str) -> Learned:
    """Train one point a class, and a radius, which ``loss_of`` alone needs: ``points`` (C, D), float32."""
    where, generator = pick_device(device), seeded(plan.seed)
    dim = rows.features.shape[1]
    points = trainable(0.1 * torch.randn(classes, dim, generator=generator), where)
    radius = trainable(torch.zeros(()), where)
    length = plan.scale * math.sqrt(dim)
    sgd = Sgd(plan.epochs, plan.rate, 1e-4, nesterov=False, schedule=steps)
    batches = Batches(rows, plan.batch_size, generator, where, plan.name)

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        return loss_of(length * features, labels, points, radius)

    with threads_for(min(points.shape)):
        for _, optimizer in each_epoch(batches, sgd, [points, radius]):
            run_epoch(optimizer, batches, loss)
    return to_keep(points=points)


def scaled(features: Floats, points: Tensor, scale: float) -> Tensor:
    """Raw features (N, D) at length ``scale`` sqrt(D), in float64, as points of training saw them."""
    check_features(features, points.shape[1])
    return torch.from_numpy(scale * math.sqrt(points.shape[1]) * unit(features))
