"""The training loop of all learners: shuffled batches, optimisers, learning rates and checkpoints."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsncli.console import ProgressCallback
from lsncli.errors import LsnError
from lsncli.memory import with_less
from lsncli.optimizers import Optimizer, adam, sgd
from lsncli.prompts.settings import PromptSettings
from lsncli.types import Rows

WARMUP_RATE = 1e-5
"""CoOp's constant warm-up rate."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch: parameters, optimiser, random state and losses."""

    tensors: dict[str, Tensor]
    history: tuple[float, ...]
    """Mean training loss of each finished epoch."""


@dataclass(frozen=True)
class TrainingRows:
    """Training rows on the device: unit ``images`` (N, D) float32 and ``labels`` (N,)."""

    images: Tensor
    labels: Tensor
    size: int
    generator: torch.Generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch: every row once, in a new random order."""
        order = torch.randperm(len(self.labels), generator=self.generator).to(self.labels.device)
        for rows in torch.split(order, self.size):
            yield self.images[rows], self.labels[rows]


def batches(
    rows: Rows, classes: int, size: int, generator: torch.Generator, device: torch.device
) -> TrainingRows:
    """Move rows to the device. Raises LsnError for no rows or labels outside 0 .. classes - 1."""
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
    return TrainingRows(images.to(device), torch.from_numpy(rows.labels).long().to(device), size, generator)


def run_epoch(
    data: TrainingRows,
    optimizer: Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    progress: ProgressCallback,
    less: Callable[[], bool] = lambda: False,
) -> float:
    """Train for one pass over the rows, one step per batch; return the mean loss over rows.

    If a gradient takes too much memory, ``less`` is called, and it is computed again if that returns True.
    Raises LsnError if the loss is not finite.
    """
    total = 0.0
    rate = optimizer.param_groups[0]["lr"]

    def gradient(images: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        loss = loss_of(images, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise LsnError(f"Training diverged: the loss became {value}.", "Use a lower --rate.")
        loss.backward()
        return value

    for images, labels in data:
        value = with_less(partial(gradient, images, labels), less)
        optimizer.step()
        total += value * len(labels)
        progress(1, f"loss {value:.3f}, rate {rate:.2g}")
    return total / len(data.labels)


def make_optimizer(parameters: list[Tensor], settings: PromptSettings) -> Optimizer:
    """Return the settings' optimiser. A step skips parameters without a gradient and their momenta."""
    if settings.optimizer == "adam":
        return adam([{"params": parameters}], settings.rate)
    return sgd(
        [{"params": parameters}],
        settings.rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def rate_at(epoch: int, settings: PromptSettings) -> float:
    """Return the learning rate of an epoch, counted from 0.

    It falls along half a cosine from the full rate towards zero, as in CoOp. Warm-up epochs come before the
    cosine and are not part of it, again as in CoOp. A closed form, not a recurrence, so that a resumed run
    has bit-identical rates.
    """
    if epoch < settings.warmup:
        return WARMUP_RATE
    if settings.schedule == "constant":
        return settings.rate
    return settings.rate * (1 + math.cos(math.pi * (epoch - settings.warmup) / settings.epochs)) / 2


def snapshot(
    parameters: Mapping[str, Tensor],
    optimizer: Optimizer | torch.optim.Optimizer,
    generator: torch.Generator,
    history: tuple[float, ...],
) -> Checkpoint:
    """Copy the state after an epoch."""
    tensors = {name: tensor.detach() for name, tensor in parameters.items()} | {
        f"optimizer.{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }
    copies = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
    return Checkpoint(copies | {"generator": generator.get_state()}, history)


@torch.no_grad()
def restore(
    checkpoint: Checkpoint,
    parameters: Mapping[str, Tensor],
    optimizer: Optimizer | torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Restore the state of a ``snapshot``. Raises LsnError if the checkpoint has other parameters."""
    tensors = checkpoint.tensors
    state: dict[int, dict[str, Any]] = {}
    try:
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name].view(parameter.shape))
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor.clone()  # steps change it
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        generator.set_state(tensors["generator"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise LsnError(
            f"The checkpoint does not fit this training: {error}.", "Start again with --restart."
        ) from error
