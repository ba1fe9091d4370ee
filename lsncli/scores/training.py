"""What the scores that train on frozen features share: rows, seeded batches, SGD and its schedules.

Training is in float32: equal seeds, devices and numbers of threads give equal arrays; scores are then
computed from those in float64. One thread works where classes are few (``device.threads_for``). Time grows
with steps x batch x classes x dimensions, and steps are bounded (``STEPS``).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsncli.errors import LsnError, UsageError
from lsncli.scores.common import labelled_rows, positive
from lsncli.types import FloatArray, Head, LearnedArrays, Rows

MOMENTUM = 0.9
"""Of all four methods."""

STEPS = 40_000
"""Of a training at most, about 100 epochs of CIFAR: with more rows, fewer epochs rather than more time."""

Schedule = Callable[[float], float]
"""The done fraction of all epochs to the factor on the rate."""

LossOf = Callable[[Tensor, Tensor], Tensor]
"""Unit features (B, D) and their labels (B,) to a loss."""


def constant(_done: float) -> float:
    """The full rate throughout."""
    return 1.0


def cosine(done: float) -> float:
    """Half a cosine from the full rate towards zero."""
    return (1 + math.cos(math.pi * done)) / 2


def steps(done: float) -> float:
    """A tenth of the rate after 30 %, 60 % and 90 % of the epochs each."""
    return float(0.1 ** sum(done >= mark for mark in (0.3, 0.6, 0.9)))


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent for ``epochs`` at most; ``decay`` is the L2 penalty of every parameter."""

    epochs: int
    rate: float
    decay: float
    nesterov: bool
    schedule: Schedule
    start: float = 0.0
    """The fraction of the epochs after which outliers count."""


@dataclass(frozen=True)
class Batches:
    """Labelled rows of which every epoch sees each once, in a fresh random order and even batches.

    ``rows`` stay as they are stored; only a batch at a time is made float32, of length one, and put on
    ``device``. ``generator`` is on the CPU, so that a seed means the same on every device.
    """

    rows: Rows
    size: int
    """Rows of a batch at most."""
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
    """UsageError for an invalid setting of training; ``start`` is a fraction of the epochs."""
    positive(epochs=epochs, batch_size=batch_size, rate=rate, weight=weight)
    if seed < 0:
        raise UsageError(f"The setting 'seed' must be 0 or above, found {seed}.")
    if not 0 <= start < 1:
        raise UsageError(f"The setting 'start' must be a fraction from 0 to below 1, found {start}.")


def class_rows(head: Head, train: Rows | None, name: str) -> Rows:
    """``labelled_rows`` of a head of two classes or more, without which there is nothing to tell apart."""
    if len(head.classes) < 2:
        raise LsnError(f"The score '{name}' needs at least 2 classes, found {len(head.classes)}.")
    return labelled_rows(head, train, name)


def unit_tensor(features: FloatArray, device: torch.device) -> Tensor:
    """Raw ``features`` (N, D) as unit rows in float32 on ``device``. A zero row stays zero."""
    return normalize(torch.from_numpy(np.asarray(features, dtype=np.float32)), dim=-1).to(device)


def trainable(values: FloatArray | Tensor, device: torch.device) -> Tensor:
    """A float32 copy of ``values`` on ``device`` that gradients are wanted for."""
    return torch.as_tensor(values, dtype=torch.float32).clone().to(device).requires_grad_()


def each_epoch(
    batches: Batches, sgd: Sgd, parameters: Sequence[Tensor], slow: Sequence[Tensor] = ()
) -> Iterator[tuple[int, torch.optim.Optimizer]]:
    """The epochs, as many as ``STEPS`` allow, each with the optimiser set to its rate.

    They are counted from the one in which outliers start to count, which is 0; there always is one. ``slow``
    parameters take a tenth of the rate.
    """
    groups = [{"params": list(parameters), "share": 1.0}, {"params": list(slow), "share": 0.1}]
    optimizer = torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=sgd.rate,
        momentum=MOMENTUM,
        weight_decay=sgd.decay,
        nesterov=sgd.nesterov,
    )
    count = min(sgd.epochs, max(1, STEPS // len(batches)))
    for epoch in range(count):
        for group in optimizer.param_groups:
            group["lr"] = sgd.rate * sgd.schedule(epoch / count) * group["share"]
        yield epoch - int(sgd.start * count), optimizer


def run_epoch(optimizer: torch.optim.Optimizer, batches: Batches, loss_of: LossOf) -> float:
    """One pass over the rows, one step a batch; the mean loss. LsnError when it stops being finite."""
    losses = []
    for features, labels in batches:
        optimizer.zero_grad(set_to_none=True)
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
    """Minimise ``loss_of`` over all epochs; once outliers count, ``outlier_loss_of`` in its place.

    ``prepare_outliers`` is called before each epoch in which outliers count, with its number from 0. ``slow``
    is that of ``each_epoch``. Raises LsnError when the loss stops being finite.
    """
    for epoch, optimizer in each_epoch(batches, sgd, parameters, slow):
        if outlier_loss_of is None or epoch < 0:
            run_epoch(optimizer, batches, loss_of)
        else:
            prepare_outliers(epoch)
            run_epoch(optimizer, batches, outlier_loss_of)


def to_keep(**tensors: Tensor) -> LearnedArrays:
    """Trained tensors as float32 arrays, for a detector to keep."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
