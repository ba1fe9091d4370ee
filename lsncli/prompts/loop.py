"""What both learners share: rows in memory, shuffled batches, the cosine schedule, the loss record."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsncli.console import Tick
from lsncli.errors import LsnError
from lsncli.types import Float64s, Rows, unit


@dataclass(frozen=True)
class Learned:
    """Learned contexts and what the frozen text tower makes of them."""

    context: Tensor
    """Positive (M, W); negative (K, C, M, W); float32 on the CPU."""
    text: Float64s
    """Unit text features: positive (C, D); negative (K, C, D)."""
    history: tuple[float, ...]
    """Mean training loss of each epoch."""


@dataclass(frozen=True)
class Batches:
    """Training rows on the device: unit ``images`` (N, D) float32 and ``labels`` (N,)."""

    images: Tensor
    labels: Tensor
    size: int
    generator: torch.Generator

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: every row once, in a fresh random order."""
        order = torch.randperm(len(self.labels), generator=self.generator).to(self.labels.device)
        for rows in torch.split(order, self.size):
            yield self.images[rows], self.labels[rows]


def batches(rows: Rows, classes: int, size: int, generator: torch.Generator, device: torch.device) -> Batches:
    """Put rows on the device. Raises LsnError for no rows or labels outside 0 .. classes - 1."""
    if len(rows) == 0:
        raise LsnError(
            "Training needs labelled rows; found none.", "Extract a folder with a folder per class."
        )
    if classes < 2:
        raise LsnError(f"Training needs at least 2 classes; found {classes}.")
    low, high = int(rows.labels.min()), int(rows.labels.max())
    if low < 0 or high >= classes:
        raise LsnError(f"Training labels: expected 0 to {classes - 1}, found {low} to {high}.")
    images = normalize(torch.from_numpy(np.asarray(rows.features, dtype=np.float32)), dim=-1)
    return Batches(images.to(device), torch.from_numpy(rows.labels).long().to(device), size, generator)


def run_epoch(
    data: Batches, optimizer: torch.optim.Optimizer, loss_of: Callable[[Tensor, Tensor], Tensor], tick: Tick
) -> float:
    """One pass over the rows, one step a batch; returns the mean loss over rows.

    Raises LsnError when the loss stops being finite.
    """
    total = 0.0
    for images, labels in data:
        loss = loss_of(images, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise LsnError(f"Training diverged: the loss became {value}.", "Use a lower --rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += value * len(labels)
        tick(1, f"loss {value:.3f}")
    return total / len(data.labels)


def train(
    data: Batches,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    tick: Tick,
) -> tuple[float, ...]:
    """All epochs under the cosine schedule; returns the mean loss of each."""
    schedule = cosine(optimizer, epochs)
    history = []
    for _ in range(epochs):
        history.append(run_epoch(data, optimizer, loss_of, tick))
        schedule.step()
    return tuple(history)


def cosine(optimizer: torch.optim.Optimizer, epochs: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The rate falls along half a cosine to zero, one step an epoch, as in CoOp; no warm-up."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)


def as_units(text: Tensor) -> Float64s:
    """Text features as float64 unit rows on the CPU."""
    return unit(text.detach().cpu().double().numpy())
