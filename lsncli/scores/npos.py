"""NPOS: features adapted to separate from outliers synthesised near the boundary of every class."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from lsncli.device import pick_device, seeded, threads_for
from lsncli.scores.common import check_features, linear_layer, max_softmax, positive
from lsncli.scores.outliers import Mlp, boundary_outliers, logit_norm_loss, separation_loss
from lsncli.scores.score import Score, Scorer
from lsncli.scores.training import (
    Batches,
    Sgd,
    check_training,
    class_rows,
    constant,
    to_keep,
    train_epochs,
    trainable,
    unit_tensor,
)
from lsncli.types import Float64Array, FloatArray, Head, Labels, LearnedArrays, Rows, unit

QUEUE = 1000
"""Most rows of a class from which an epoch makes outliers; ``k`` and ``select`` are for this many."""


@dataclass(frozen=True)
class Npos(Score):
    """S(x) = max_c softmax_c(W f / s + b / s), f = (x + A x) / |x + A x|, A trained; higher = more ID.

    Formula: MSP at temperature 1 of cosines (s is the logit scale: of a linear probe 1) with adapted features
    f, after training A (D, D) from 0 and an MLP g (D-32-1) on unit features of ID rows and, for the last
    epochs, on synthetic outliers o, with l the cosines and T = ``temperature``,

        loss = CE(l / (T |l|), label) + weight * mean[-log sigmoid(g(f)), -log(1 - sigmoid(g(o)))].

    Outliers (``outliers.boundary_outliers``): the rows of a class that are farthest from their k-th nearest
    row are its edge; Gaussian noise is added to ``pick`` of them, and of ``candidates`` sums of each the
    ``keep`` that are farthest from the class stay.

    Changes for frozen features. They train the last blocks of the tower; here it is a linear map x + A x of
    the features, which is what a change of the tower's projection can do. k and ``select`` are out of a
    queue of 1,000 rows, and shrink in proportion for a smaller class. ``noise`` is relative to the feature's
    length (theirs, 0.1 in each of 512 coordinates, is some 0.2 of the length of raw ViT-B/16 features); f
    and o are scaled to length one, so that g cannot tell them apart by length. Outliers are fresh in every
    epoch, not in every step. Their ``logits_compute`` divides features by the length of the *whole batch*,
    so that a score depends on the other images of its batch; here every row by its own. (In training
    LogitNorm undoes the difference.) g only shapes f: the published score does not use it.

    On one CPU core at 512 dimensions: 2 s for 10 classes x 128 shots, some 5 min for 1,000 x 128;
    epochs are fewer where they would take over 40,000 steps (``training.STEPS``).

    Paper: Tao et al., Non-parametric outlier synthesis, ICLR 2023.
    Source: github.com/deeplearning-wisc/npos, CLIP_based/OOD.
    Default: theirs for ImageNet-100: 20 epochs, outliers from half of them on, batch 800, Nesterov SGD 0.1 (a
    tenth for g), decay 1e-4, T = 8, weight 0.1, k = 400, select 300, pick 3, 2 of 1,500 candidates.
    """

    seed: int = 0
    epochs: int = 20
    batch_size: int = 800
    rate: float = 0.1
    weight: float = 0.1
    start: float = 0.5
    temperature: float = 8.0
    k: int = 400
    select: int = 300
    pick: int = 3
    candidates: int = 1500
    keep: int = 2
    noise: float = 0.2

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels", "weights"})
    REDUCED: ClassVar[str] = "the image tower stays frozen; a linear map of its features is trained"

    def __post_init__(self) -> None:
        check_training(
            seed=self.seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rate=self.rate,
            weight=self.weight,
            start=self.start,
        )
        positive(temperature=self.temperature, k=self.k, select=self.select, pick=self.pick)
        positive(candidates=self.candidates, keep=self.keep, noise=self.noise)

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return ``adaptor``, A of the formula: (D, D) float32."""
        linear = linear_layer(head, "npos")
        rows = class_rows(head, train, "npos")
        where, generator = pick_device(device), seeded(self.seed)
        weights, bias = (torch.from_numpy(array / head.scale).float().to(where) for array in linear)
        dim = weights.shape[1]
        adaptor, mlp = trainable(torch.zeros(dim, dim), where), Mlp(dim, generator, where)
        batches = Batches(rows, self.batch_size, generator, where, "npos")
        members = _by_class(rows.labels, len(head.classes))
        outliers = torch.empty(0, dim, device=where)

        def adapt(features: Tensor) -> Tensor:
            return normalize(features + features @ adaptor.T, dim=-1)

        @torch.no_grad()
        def synthesize(_epoch: int) -> None:
            nonlocal outliers
            noise = torch.randn(self.candidates, dim, generator=generator) * self.noise / math.sqrt(dim)
            parts = []
            for mine in members:
                chosen = mine[torch.randperm(len(mine), generator=generator)[:QUEUE].numpy()]
                features = adapt(unit_tensor(rows.features[chosen], where))
                parts.append(self._outliers(features, noise.to(where), generator))
            outliers = torch.cat(parts)

        def plain_loss(features: Tensor, labels: Tensor) -> Tensor:
            return logit_norm_loss(adapt(features) @ weights.T + bias, labels, self.temperature)

        def full_loss(features: Tensor, labels: Tensor) -> Tensor:
            adapted = adapt(features)
            loss = logit_norm_loss(adapted @ weights.T + bias, labels, self.temperature)
            return loss + self.weight * separation_loss(mlp(adapted), mlp(outliers))

        sgd = Sgd(self.epochs, self.rate, 1e-4, nesterov=True, schedule=constant, start=self.start)
        with threads_for(min(weights.shape)):
            train_epochs(
                batches,
                sgd,
                [adaptor],
                plain_loss,
                slow=mlp.parameters,
                outlier_loss_of=full_loss,
                prepare_outliers=synthesize,
            )
        return to_keep(adaptor=adaptor)

    def _outliers(self, features: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
        share = min(1.0, len(features) / QUEUE)
        return boundary_outliers(
            features,
            noise,
            generator,
            neighbours=max(2, round(self.k * share)),  # the first is the row itself
            boundary=max(1, round(self.select * share)),
            pick=self.pick,
            keep=self.keep,
        )

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``, whose weights must be fixed."""
        weights, bias = linear_layer(head, "npos")
        adaptor = learned["adaptor"].astype(np.float64)

        def score(features: FloatArray) -> Float64Array:
            check_features(features, len(adaptor))
            rows = unit(features)
            return max_softmax((unit(rows + rows @ adaptor.T) @ weights.T + bias) / head.scale)

        return score


def _by_class(labels: Labels, classes: int) -> list[NDArray[np.intp]]:
    """Return the row numbers of each class."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=classes))[:-1])
