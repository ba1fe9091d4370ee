"""The losses of fine-tuning: cross-entropy, and VOS and NPOS, which synthesise outliers."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lsncli.scores.npos import QUEUE, Npos
from lsncli.scores.outliers import (
    Gaussians,
    Mlp,
    boundary_outliers,
    class_gaussians,
    logit_norm_loss,
    separation_loss,
    unlikeliest,
    vos_loss,
    weighted_energy,
)
from lsncli.scores.vos import Vos

Logits = Callable[[Tensor], Tensor]
"""The current head: unit features (N, D) -> logits (N, C)."""


class TuneLoss:
    """Cross-entropy; the base class of the losses that synthesise outliers.

    ``parameters`` are trained with tower and head, ``buffers`` are state; checkpoints hold both. All random
    numbers come from ``generator``, on the CPU.
    """

    TESTED_BY = "msp"
    """The score that the loss's authors apply to the tuned head."""

    def __init__(self, counts: Tensor, dim: int, generator: torch.Generator, device: torch.device) -> None:
        """``counts`` (C,) are the numbers of training images by class, ``dim`` the size of a feature."""
        self.parameters: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        self.counts, self.dim, self.generator, self.device = counts, dim, generator, device

    def begin(self, done: float, head: Logits) -> None:
        """Prepare an epoch; ``done`` is the fraction of epochs completed."""

    def __call__(self, features: Tensor, logits: Tensor, labels: Tensor, head: Logits) -> Tensor:
        """Return the loss () of unit ``features`` (B, D), their ``logits`` (B, C) and ``labels`` (B,)."""
        return cross_entropy(logits, labels)


class _QueueLoss(TuneLoss):
    """A queue of the latest unit features of each class, 1,000 at most, as in both methods.

    The authors' code synthesises outliers from the queue in every step. Here the outliers (NPOS) or the
    Gaussians that they are drawn from (VOS) are computed once an epoch: at fine-tuning rates a step changes
    features little, and with 1,000 classes this would be most of the work.
    """

    def __init__(self, counts: Tensor, dim: int, generator: torch.Generator, device: torch.device) -> None:
        super().__init__(counts, dim, generator, device)
        shape = (len(counts), min(QUEUE, int(counts.max())), dim)
        self.buffers |= {
            "queue": torch.zeros(shape, dtype=torch.float16),
            "seen": torch.zeros(len(counts), dtype=torch.int64),
        }

    def _enqueue(self, features: Tensor, labels: Tensor) -> None:
        queue, seen = self.buffers["queue"], self.buffers["seen"]
        for row, label in zip(features.detach().half().cpu(), labels.tolist(), strict=True):
            queue[label, int(seen[label]) % queue.shape[1]] = row
            seen[label] += 1

    def _queued(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each class and its unit features (n, D)."""
        for label, (rows, seen) in enumerate(zip(self.buffers["queue"], self.buffers["seen"], strict=True)):
            yield label, normalize(rows[: int(seen)].float().to(self.device), dim=-1)


class VosLoss(_QueueLoss):
    """Cross-entropy + 0.1 x the separation of unlikely samples of class Gaussians by weighted energy.

    Du et al., ICLR 2022, with the settings and the outliers of ``scores.vos``.
    """

    TESTED_BY = "energy"

    def __init__(self, counts: Tensor, dim: int, generator: torch.Generator, device: torch.device) -> None:
        super().__init__(counts, dim, generator, device)
        self.settings = Vos()
        self.parameters |= {
            "energy": torch.rand(len(counts), generator=generator).to(device).requires_grad_(),
            "logistic": torch.tensor([1.0, 0.0], device=device).requires_grad_(),
        }
        self.buffers["begun"] = torch.zeros((), dtype=torch.int64)
        self.gaussians: Gaussians | None = None

    def begin(self, done: float, head: Logits) -> None:
        self.gaussians = None
        if done < self.settings.start or not bool(self.buffers["seen"].all()):
            return
        labelled = self._queued()
        parts = ((rows, torch.full((len(rows),), label, device=rows.device)) for label, rows in labelled)
        self.gaussians = class_gaussians(parts, len(self.counts), self.settings.ridge)
        if self.gaussians is None or self.buffers["begun"]:
            return
        with torch.no_grad():
            centres = normalize(self.gaussians.means, dim=-1).float().to(self.device)
            logits = torch.cat([head(centres), head(self._outliers(self.gaussians))])
            self.parameters["logistic"][1] = -weighted_energy(logits, self.parameters["energy"]).mean()
            self.buffers["begun"].fill_(1)

    def __call__(self, features: Tensor, logits: Tensor, labels: Tensor, head: Logits) -> Tensor:
        self._enqueue(features, labels)
        loss = cross_entropy(logits, labels)
        if self.gaussians is None:
            return loss
        outlier_logits = head(self._outliers(self.gaussians))
        separation = vos_loss(logits, outlier_logits, self.parameters["energy"], self.parameters["logistic"])
        return loss + self.settings.weight * separation

    def _outliers(self, gaussians: Gaussians) -> Tensor:
        """Return unit outliers (M, D): the least likely samples of some random classes."""
        classes = torch.randperm(len(self.counts), generator=self.generator)[: self.settings.batch_size]
        outliers = unlikeliest(gaussians, self.settings.draws, self.settings.select, self.generator, classes)
        return normalize(outliers, dim=-1).to(self.device)


class NposLoss(_QueueLoss):
    """LogitNorm + 0.1 x the separation by an MLP of outliers around the boundary of each class.

    Tao et al., ICLR 2023, with the settings, the outliers and the proportions of ``scores.npos``.
    """

    def __init__(self, counts: Tensor, dim: int, generator: torch.Generator, device: torch.device) -> None:
        super().__init__(counts, dim, generator, device)
        self.settings, self.mlp = Npos(), Mlp(dim, generator, device)
        self.parameters |= {f"mlp.{index}": tensor for index, tensor in enumerate(self.mlp.parameters)}
        self.outliers: Tensor | None = None

    def begin(self, done: float, head: Logits) -> None:
        self.outliers = None
        if done >= self.settings.start and bool(self.buffers["seen"].all()):
            size = self.settings.noise / math.sqrt(self.dim)
            noise = torch.randn(self.settings.candidates, self.dim, generator=self.generator) * size
            noise = noise.to(self.device)
            self.outliers = torch.cat([self._outliers_around(rows, noise) for _, rows in self._queued()])

    def __call__(self, features: Tensor, logits: Tensor, labels: Tensor, head: Logits) -> Tensor:
        self._enqueue(features, labels)
        loss = logit_norm_loss(logits, labels, self.settings.temperature)
        if self.outliers is None:
            return loss
        return loss + self.settings.weight * separation_loss(self.mlp(features), self.mlp(self.outliers))

    def _outliers_around(self, rows: Tensor, noise: Tensor) -> Tensor:
        settings, share = self.settings, len(rows) / QUEUE
        return boundary_outliers(
            rows,
            noise,
            self.generator,
            neighbours=max(1, round(settings.k * share)),
            boundary=max(1, round(settings.select * share)),
            pick=settings.pick,
            keep=settings.keep,
        )


LOSSES: dict[str, type[TuneLoss]] = {"ce": TuneLoss, "vos": VosLoss, "npos": NposLoss}
