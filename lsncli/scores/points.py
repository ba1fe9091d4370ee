"""Reciprocal points, the base of RPL and ARPL: a trained point per class for all that is not that class."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lsncli.device import pick_device, seeded, threads_for
from lsncli.scores.common import check_features, positive
from lsncli.scores.score import Score
from lsncli.scores.training import (
    Batches,
    Sgd,
    check_training,
    class_rows,
    steps,
    to_keep,
    train_epochs,
    trainable,
)
from lsncli.types import FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class ReciprocalPoints(Score):
    """A score whose points are trained by ``loss`` on unit features of length ``scale`` sqrt(D)."""

    seed: int = 0
    epochs: int = 100
    batch_size: int = 64
    rate: float = 0.1
    weight: float = 0.1
    scale: float = 1.0
    temperature: float = 1.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels"})
    PROMPTS: ClassVar[bool] = False
    NAME: ClassVar[str]

    def __post_init__(self) -> None:
        check_training(
            seed=self.seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rate=self.rate,
            weight=self.weight,
        )
        positive(scale=self.scale, temperature=self.temperature)

    @abstractmethod
    def loss(self, features: Tensor, labels: Tensor, points: Tensor, radius: Tensor) -> Tensor:
        """Return the loss of scaled features (B, D), labels (B,), points (C, D) and the radius ()."""

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Train ``points`` (C, D), float32; the radius is used by the loss alone."""
        rows = class_rows(head, train, self.NAME)
        where, generator = pick_device(device), seeded(self.seed)
        dim = rows.features.shape[1]
        points = trainable(0.1 * torch.randn(len(head.classes), dim, generator=generator), where)
        radius = trainable(torch.zeros(()), where)
        length = self.scale * math.sqrt(dim)
        sgd = Sgd(self.epochs, self.rate, 1e-4, nesterov=False, schedule=steps)
        batches = Batches(rows, self.batch_size, generator, where, self.NAME)

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            return self.loss(length * features, labels, points, radius)

        with threads_for(min(points.shape)):
            train_epochs(batches, sgd, [points, radius], loss)
        return to_keep(points=points)

    def scaled(self, features: FloatArray, points: Tensor) -> Tensor:
        """Scale raw features (N, D) to the length used in training, in float64."""
        check_features(features, points.shape[1])
        return torch.from_numpy(self.scale * math.sqrt(points.shape[1]) * unit(features))


def mean_squares(features: Tensor, points: Tensor) -> Tensor:
    """Return mean squared differences (N, C) over coordinates of features (N, D) and points (C, D)."""
    squares = features.square().sum(dim=1, keepdim=True) + points.square().sum(dim=1)
    return (squares - 2 * features @ points.T) / features.shape[1]
