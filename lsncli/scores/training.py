"""Training shared by the scores that learn from frozen features: rows, seeded batches, SGD and schedules.

Training is in float32: equal seeds, devices and numbers of threads give equal arrays. Scores are computed
from these arrays in float64. With few classes, training uses one thread (``device.threads_for``). Time is
proportional to steps x batch x classes x dimensions, and ``STEPS`` bounds the steps.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsncli import optimizers
from lsncli.errors import LsnError, UsageError
from lsncli.memory import memory_errors
from lsncli.optimizers import Optimizer
from lsncli.scores.common import labelled_rows, positive
from lsncli.types import FloatArray, Head, LearnedArrays, Rows

MOMENTUM = 0.9
"""Momentum of SGD in all four methods."""

STEPS = 40_000
"""Most steps of a training, about 100 epochs of CIFAR. More rows mean fewer epochs, not more time."""

Schedule = Callable[[float], float]
"""Function from the completed fraction of all epochs to a factor on the learning rate."""

LossOf = Callable[[Tensor, Tensor], Tensor]
"""Function from unit features (B, D) and their labels (B,) to a loss."""


def constant(_fraction: float) -> float:
    """Return 1: the full rate throughout."""
    return 1.0


def cosine(fraction: float) -> float:
    """Return half a cosine, from the full rate towards zero."""
    return (1 + math.cos(math.pi * fraction)) / 2


def steps(fraction: float) -> float:
    """Return the factor of a step schedule, a tenth after each of 30 %, 60 % and 90 % of the epochs."""
    return float(0.1 ** sum(fraction >= mark for mark in (0.3, 0.6, 0.9)))


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent for at most ``epochs``; ``decay`` is the L2 penalty of every parameter."""

    epochs: int
    rate: float
    decay: float
    nesterov: bool
    schedule: Schedule
    start: float = 0.0
    """The fraction of the epochs after which the loss includes outliers."""


@dataclass(frozen=True)
class Batches:
    """Labelled rows in batches of nearly equal size; each epoch visits every row once, in a new random order.

    ``rows`` keep their stored type; only one batch at a time is converted to unit float32 rows on ``device``.
    ``generator`` is on the CPU, so that a seed gives the same numbers on every device.
    """

    rows: Rows
    size: int
    """Largest number of rows of a batch."""
    generator: torch.Generator
    device: torch.device
    name: str
    """The score that trains, for messages."""

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.rows), generator=self.generator).numpy()
        for batch in np.array_split(order, len(self)):
            labels = torch.from_numpy(self.rows.labels[batch]).long()
            yield unit_tensor(self.rows.features[batch], self.device), labels.to(self.device)


def check_training(
    *, seed: int, epochs: int, batch_size: int, rate: float, weight: float, start: float = 0.0
) -> None:
    """Raise UsageError for an invalid training setting; ``start`` is a fraction of the epochs."""
    positive(epochs=epochs, batch_size=batch_size, rate=rate, weight=weight)
    if seed < 0:
        raise UsageError(f"The setting 'seed' must be 0 or above, found {seed}.")
    if not 0 <= start < 1:
        raise UsageError(f"The setting 'start' must be a fraction from 0 to below 1, found {start}.")


def class_rows(head: Head, train: Rows | None, name: str) -> Rows:
    """Return ``labelled_rows``. Raises LsnError for a head of fewer than two classes."""
    if len(head.classes) < 2:
        raise LsnError(f"The score '{name}' needs at least 2 classes, found {len(head.classes)}.")
    return labelled_rows(head, train, name)


def unit_tensor(features: FloatArray, device: torch.device) -> Tensor:
    """Return raw ``features`` (N, D) as unit rows in float32 on ``device``. A zero row stays zero."""
    return normalize(torch.from_numpy(np.asarray(features, dtype=np.float32)), dim=-1).to(device)


def trainable(values: FloatArray | Tensor, device: torch.device) -> Tensor:
    """Return a float32 copy of ``values`` on ``device`` that requires gradients."""
    return torch.as_tensor(values, dtype=torch.float32).clone().to(device).requires_grad_()


def each_epoch(
    batches: Batches, sgd: Sgd, parameters: Sequence[Tensor], slow: Sequence[Tensor] = ()
) -> Iterator[tuple[int, Optimizer]]:
    """Yield the number of each epoch and the optimiser with the rate of that epoch.

    Number 0 is the first epoch whose loss includes outliers; earlier epochs have negative numbers. There are
    as many epochs as ``STEPS`` allow, at least one. ``slow`` parameters have a tenth of the rate.
    """
    groups = [{"params": list(parameters), "share": 1.0}, {"params": list(slow), "share": 0.1}]
    optimizer = optimizers.sgd(
        [group for group in groups if group["params"]],
        sgd.rate,
        momentum=MOMENTUM,
        weight_decay=sgd.decay,
        nesterov=sgd.nesterov,
    )
    count = min(sgd.epochs, max(1, STEPS // len(batches)))
    for epoch in range(count):
        for group in optimizer.param_groups:
            group["lr"] = sgd.rate * sgd.schedule(epoch / count) * group["share"]
        yield epoch - int(sgd.start * count), optimizer


def run_epoch(optimizer: Optimizer, batches: Batches, loss_of: LossOf) -> float:
    """Train for one pass over the rows, one step per batch; return the mean loss.

    Raises LsnError if the loss is not finite.
    """
    losses = []
    for features, labels in batches:
        optimizer.zero_grad()
        loss = loss_of(features, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise LsnError(
            f"The training of the score '{batches.name}' diverged: its loss became {mean}.",
            f"Use a lower rate, such as {batches.name},rate={optimizer.defaults['lr'] / 10:g}.",
        )
    return mean


def train_epochs(
    batches: Batches,
    sgd: Sgd,
    parameters: Sequence[Tensor],
    loss_of: LossOf,
    *,
    slow: Sequence[Tensor] = (),
    outlier_loss_of: LossOf | None = None,
    prepare_outliers: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Minimise ``loss_of`` over all epochs, or ``outlier_loss_of`` in epochs that include outliers.

    ``prepare_outliers`` is called before each epoch that includes outliers, with its number from 0. For
    ``slow``, see ``each_epoch``. Raises LsnError if the loss is not finite or memory runs out.
    """
    smaller = f"{batches.name},batch_size={max(1, batches.size // 4)}"
    hint = f"Use a smaller batch, such as {smaller}, or --device cpu."
    with memory_errors(f"the training of the score '{batches.name}'", hint):
        for epoch, optimizer in each_epoch(batches, sgd, parameters, slow):
            if outlier_loss_of is None or epoch < 0:
                run_epoch(optimizer, batches, loss_of)
            else:
                prepare_outliers(epoch)
                run_epoch(optimizer, batches, outlier_loss_of)


def to_keep(**tensors: Tensor) -> LearnedArrays:
    """Return trained tensors as float32 arrays, to save in a detector."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
