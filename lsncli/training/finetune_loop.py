"""The training loop of fine-tuning an image tower and a linear head: AdamW, a cosine rate, any loss."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsncli.backbones.trainable_image_tower import ImageTower, Tune
from lsncli.console import ProgressCallback, silent
from lsncli.device import seeded
from lsncli.errors import LsnError, UsageError
from lsncli.images.item import ImageItem
from lsncli.images.loader import Pixels, load_batches
from lsncli.memory import memory_errors
from lsncli.prompts.loop import Checkpoint, restore, snapshot
from lsncli.training.finetune_losses import LOSSES, TuneLoss
from lsncli.training.linear_probe import LinearProbe
from lsncli.types import Labels

LONGEST_STEP = 1.0
"""The gradient of tower and head together is clipped to this norm."""
SMALLER = "Use a smaller --batch-size, --tune last-blocks or --device cpu. Finished epochs are kept."
"""What to do where there is no memory for a step."""
LOSS_RATE = 1e-3
"""Learning rate of the loss's own parameters, which start at random; it follows the tower's schedule."""


@dataclass(frozen=True)
class TuneSettings:
    """The settings of a fine-tuning."""

    tune: Tune = "last-blocks"
    loss: str = "ce"
    """A key of ``LOSSES``."""
    epochs: int = 10
    batch_size: int = 64
    rate: float = 3e-5
    """Rate and decay of Wortsman et al. (WiSE-FT, CVPR 2022) for CLIP."""
    decay: float = 0.1
    """AdamW's weight decay, of matrices; biases and norms have none."""
    seed: int = 0


def tune_settings(**options: Any) -> TuneSettings:
    """Return settings with ``options`` in place of the defaults; None keeps a default.

    Raises UsageError for an invalid value.
    """
    settings = TuneSettings(**{name: value for name, value in options.items() if value is not None})
    for name, valid in (("tune", get_args(Tune)), ("loss", tuple(LOSSES))):
        value = getattr(settings, name)
        if value not in valid:
            raise UsageError(f"--{name}: expected one of {', '.join(valid)}, found '{value}'.")
    for name in ("epochs", "batch_size", "rate"):
        value = getattr(settings, name)
        if not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')}: expected a number above zero, found {value}.")
    return settings


@dataclass(frozen=True)
class FineTunedHead:
    """A linear head at CLIP's scale: logits = ``scale`` (``weights`` x + ``bias``) for unit features x.

    Divided by the scale (100), weights are about as long as text features, so that one rate suits them and
    the tower.
    """

    weights: Tensor
    bias: Tensor
    scale: float

    @classmethod
    def of(cls, probe: LinearProbe, scale: float, device: torch.device) -> "FineTunedHead":
        """Return a trainable copy of a linear probe."""
        pair = (torch.from_numpy(array / scale).float().to(device) for array in (probe.weights, probe.bias))
        weights, bias = (tensor.requires_grad_() for tensor in pair)
        return cls(weights, bias, scale)

    def __call__(self, features: Tensor) -> Tensor:
        """Return logits (N, C) of unit features (N, D)."""
        return self.scale * (features @ self.weights.T + self.bias)

    def probe(self) -> LinearProbe:
        """Return the head as a linear probe."""
        weights, bias = (tensor.detach().cpu().double().numpy() for tensor in (self.weights, self.bias))
        return LinearProbe(weights * self.scale, bias * self.scale)


def fine_tune(
    tower: ImageTower,
    start: LinearProbe,
    items: Sequence[ImageItem],
    labels: Labels,
    preprocess: Pixels,
    settings: TuneSettings,
    device: torch.device,
    *,
    workers: int = 1,
    progress: ProgressCallback = silent,
    resume: Checkpoint | None = None,
    on_epoch: Callable[[Checkpoint], None] = lambda checkpoint: None,
) -> tuple[LinearProbe, tuple[float, ...]]:
    """Tune ``tower`` in place, from the head ``start``; return the tuned head and each epoch's mean loss.

    ``preprocess`` turns the bytes of an image into pixels, as for extraction and without augmentation. Each
    epoch has another order. The loss is computed on unit features. Deterministic for a seed on one CPU,
    resumed or not. ``progress`` counts images. Raises LsnError if the loss stops being finite, an image can
    no longer be read, or memory runs out.
    """
    generator = seeded(settings.seed)
    tower.module.to(device)
    head = FineTunedHead.of(start, tower.fingerprint.logit_scale, device)
    counts = torch.bincount(torch.from_numpy(labels).long(), minlength=len(start.bias))
    loss = LOSSES[settings.loss](counts, tower.fingerprint.dim, generator, device)
    main = {**tower.parameters, "head.weights": head.weights, "head.bias": head.bias}
    own = {f"loss.{name}": tensor for name, tensor in (loss.parameters | loss.buffers).items()}
    optimizer = _optimizer(list(main.values()), list(loss.parameters.values()), settings)
    history: tuple[float, ...] = ()
    if resume is not None:
        restore(resume, main | own, optimizer, generator)
        history = resume.history
        progress(len(history) * len(items), "resumed")
    steps = settings.epochs * math.ceil(len(items) / settings.batch_size)
    for epoch in range(len(history), settings.epochs):
        loss.begin(epoch / settings.epochs, head)
        step, total = epoch * steps // settings.epochs, 0.0
        order = torch.randperm(len(items), generator=generator).tolist()
        shuffled = [items[row] for row in order], [int(labels[row]) for row in order]
        batches = _batches(*shuffled, preprocess, settings, workers)
        with closing(batches):
            for pixels, truth in batches:
                rate = (1 + math.cos(math.pi * step / steps)) / 2
                with memory_errors(f"a step with {len(truth)} images", SMALLER):
                    on_device = pixels.to(device), truth.to(device)
                    value = _step(tower, head, loss, optimizer, rate, *on_device, main)
                total, step = total + value * len(truth), step + 1
                progress(len(truth), f"epoch {epoch + 1} of {settings.epochs}, loss {value:.3f}")
        history = (*history, total / len(items))
        on_epoch(snapshot(main | own, optimizer, generator, history))
    return head.probe(), history


def _step(
    tower: ImageTower,
    head: FineTunedHead,
    loss: TuneLoss,
    optimizer: torch.optim.Optimizer,
    rate: float,
    pixels: Tensor,
    labels: Tensor,
    clipped: dict[str, Tensor],
) -> float:
    """Take one step at the fraction ``rate`` of the full rates; return the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["full"]
    optimizer.zero_grad(set_to_none=True)
    features = normalize(tower(pixels), dim=-1)
    result = loss(features, head(features), labels, head)
    value = float(result.detach())
    if not math.isfinite(value):
        raise LsnError(f"Training diverged: the loss became {value}.", "Use a lower --rate.")
    result.backward()
    torch.nn.utils.clip_grad_norm_(clipped.values(), LONGEST_STEP)
    optimizer.step()
    return value


def _optimizer(main: list[Tensor], own: list[Tensor], settings: TuneSettings) -> torch.optim.Optimizer:
    def group(parameters: list[Tensor], rate: float, decay: float) -> dict[str, Any]:
        return {"params": parameters, "full": rate, "lr": rate, "weight_decay": decay}

    groups = [
        group([tensor for tensor in main if tensor.ndim > 1], settings.rate, settings.decay),
        group([tensor for tensor in main if tensor.ndim <= 1], settings.rate, 0.0),
        group(own, LOSS_RATE, 0.0),
    ]
    return torch.optim.AdamW([each for each in groups if each["params"]])


def _batches(
    items: Sequence[ImageItem],
    labels: Sequence[int],
    preprocess: Pixels,
    settings: TuneSettings,
    workers: int,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    batches = load_batches(items, preprocess, batch_size=settings.batch_size, workers=workers)
    with closing(batches):
        for batch in batches:
            if batch.failures:
                first = batch.failures[0]
                raise LsnError(
                    f"{first.key} could be read before the training, but no longer: {first.reason}.",
                    "Restore it and run the same command again; it resumes after the last epoch.",
                )
            yield batch.pixels, torch.tensor(labels[batch.start : batch.stop])
