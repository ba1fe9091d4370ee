"""VOS: a linear head that learned to give low energy to unlikely samples of class Gaussians."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lsncli.device import pick_device, seeded, threads_for
from lsncli.errors import LsnError, UsageError
from lsncli.scores.common import (
    check_features,
    labelled_chunks,
    labelled_rows,
    linear_layer,
    log_sum_exp,
    positive,
)
from lsncli.scores.outliers import FLOOR, Gaussians, class_gaussians, unlikeliest, vos_loss, weighted_energy
from lsncli.scores.score import Score, Scorer
from lsncli.scores.training import (
    Batches,
    Sgd,
    check_training,
    cosine,
    to_keep,
    train_epochs,
    trainable,
)
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class Vos(Score):
    """S(x) = log sum_c w_c exp(l_c), l = W x + b and w >= 0 all trained; higher = more ID.

    Formula: the weighted energy E(l) after training W, b (from the head's own), w (from U(0, 1)) and (a, s)
    on unit features of ID rows and, for the last epochs, on synthetic outliers o, with

        loss = CE(l, label) + weight * mean[-log sigmoid(a E(x) + s), -log(1 - sigmoid(a E(o) + s))].

    Outliers: class Gaussians with one covariance; of ``draws`` samples of each class the ``select`` least
    likely, fresh in every step, from as many random classes as a batch has rows at most. They are drawn
    exactly without the other samples (``outliers.unlikeliest``).

    Changes for frozen features. The published network learns from random weights; here the head starts from
    CLIP's text or the linear probe. Features are of length one, and outliers are scaled to it. No queue of
    1,000 features a class: features stand still, and Gaussians are of all training rows. Variances of unit
    features are below 1 / D, where their + 0.0001 would be a large part: ``ridge`` is relative to the mean
    variance. (a, s) start at 1 and, since logits of scale 100 have energies far from 0, minus the mean
    energy of class means and outliers. (Their CIFAR test script takes the plain energy, w = 1.) w is cut at
    0 and 1e-6 is added, so that a class whose w went below 0 still counts a little. Weights do not decay:
    where
    classes are many and rows separable, it takes off the scale of 100 that features of length one need (at
    200 synthetic classes AUROC fell from 99.7 to 78).

    On one CPU core at 512 dimensions: 3 s for 10 classes x 128 shots, some 8 min for 1,000 x 128;
    epochs are fewer where they would take over 40,000 steps (``training.STEPS``).

    Paper: Du et al., VOS: learning what you don't know by virtual outlier synthesis, ICLR 2022.
    Source: github.com/deeplearning-wisc/vos, classification/CIFAR/train_virtual.py.
    Default: theirs for CIFAR: 100 epochs, outliers from 0.4 of them on, batch 128, Nesterov SGD 0.1 with a
    cosine, weight 0.1, 1 of 10,000 draws; theirs decays weights by 5e-4; ridge = 0.01 (ours).
    """

    seed: int = 0
    epochs: int = 100
    batch_size: int = 128
    rate: float = 0.1
    weight: float = 0.1
    start: float = 0.4
    draws: int = 10_000
    select: int = 1
    ridge: float = 0.01

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels", "weights"})
    REDUCED: ClassVar[str] = "the image tower stays frozen; a linear head is trained on its features"

    def __post_init__(self) -> None:
        check_training(
            seed=self.seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rate=self.rate,
            weight=self.weight,
            start=self.start,
        )
        positive(draws=self.draws, select=self.select, ridge=self.ridge)
        if self.select > self.draws:
            raise UsageError(f"The setting 'select' is {self.select}, but only {self.draws} draws are made.")

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return ``weights`` (C, D), ``bias`` (C,) and ``energy`` (C,), all float32."""
        text, offset = linear_layer(head, "vos")
        rows = labelled_rows(head, train, "vos")
        gaussians = _gaussians(rows, len(head.classes), self.ridge)
        where, generator = pick_device(device), seeded(self.seed)
        weights, bias = trainable(text, where), trainable(offset, where)
        energy = trainable(torch.rand(len(head.classes), generator=generator), where)
        logistic = trainable(torch.tensor([1.0, 0.0]), where)
        batches = Batches(rows, self.batch_size, generator, where, "vos")

        def outlier_logits() -> Tensor:
            some = torch.randperm(len(head.classes), generator=generator)[: self.batch_size]
            outliers = unlikeliest(gaussians, self.draws, self.select, generator, some)
            return normalize(outliers, dim=-1).to(where) @ weights.T + bias

        def plain_loss(features: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(features @ weights.T + bias, labels)

        def full_loss(features: Tensor, labels: Tensor) -> Tensor:
            logits = features @ weights.T + bias
            separation = vos_loss(logits, outlier_logits(), energy, logistic)
            return cross_entropy(logits, labels) + self.weight * separation

        @torch.no_grad()
        def centre_logistic(epoch: int) -> None:
            if epoch == 0:
                centres = normalize(gaussians.means, dim=-1).to(where) @ weights.T + bias
                both = torch.cat([centres, outlier_logits()])
                logistic[1] = -weighted_energy(both, energy).mean()

        sgd = Sgd(self.epochs, self.rate, 0.0, nesterov=True, schedule=cosine, start=self.start)
        with threads_for(min(weights.shape)):
            train_epochs(
                batches,
                sgd,
                [weights, bias, energy, logistic],
                plain_loss,
                outlier_loss_of=full_loss,
                prepare_outliers=centre_logistic,
            )
        return to_keep(weights=weights, bias=bias, energy=energy)

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer of the trained head; ``head`` itself no longer matters."""
        weights = learned["weights"].astype(np.float64)
        energy = np.maximum(learned["energy"].astype(np.float64), 0) + FLOOR
        shift = learned["bias"] + np.log(energy)

        def score(features: FloatArray) -> Float64Array:
            check_features(features, weights.shape[1])
            return log_sum_exp(unit(features) @ weights.T + shift)

        return score


def _gaussians(rows: Rows, classes: int, ridge: float) -> Gaussians:
    """Return the class Gaussians of unit rows. Raises LsnError if rows do not differ within any class."""

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        for part, labels in labelled_chunks(rows):
            yield torch.from_numpy(part), torch.from_numpy(labels).long()

    gaussians = class_gaussians(parts(), classes, ridge)
    if gaussians is None:
        raise LsnError(
            f"The score 'vos' needs training rows that differ within a class, found {len(rows)} rows of "
            f"{classes} classes that do not.",
            "Use 2 or more images of a class.",
        )
    return gaussians
