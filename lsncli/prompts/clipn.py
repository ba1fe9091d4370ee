"""CLIPN: a copy of the text encoder with learnable "no" prompts, trained to describe what an image lacks.

Wang et al., "CLIPN for zero-shot OOD detection: teaching CLIP to say no", ICCV 2023; code: xmed-lab/CLIPN.

The "no" encoder starts as CLIP's text encoder, and all its weights are trained. P "no" prompts, (L, W) each
and zero at first, are added to the token embeddings of a text: in training one of the P or their mean, at
random; otherwise the mean. Image encoder and "yes" text encoder are frozen, so that their features are
computed once, without the random crops (at least 90 % of the area) of the authors' loader.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from lsncli.console import ProgressCallback, silent
from lsncli.device import seeded, threads_for
from lsncli.errors import LsnError, UsageError
from lsncli.memory import InParts, memory_errors, with_less
from lsncli.prompts.loop import Checkpoint, restore, snapshot

EPSILON = 1e-4
"""Keeps the gradient of the distance in TSO finite at the start, where both encoders are equal."""

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class TextFunction:
    """A text encoder as a function of its weights; created in ``backbones/text.py``."""

    weights: dict[str, Tensor]
    """The encoder's weights, float32: all that text features depend on."""
    tokenize: Callable[[Sequence[str]], Tensor]
    """N texts -> ids (N, L) on the device; long texts are truncated, as in CLIP's training."""
    run: Callable[[Weights, Tensor, Tensor], Tensor]
    """Weights, ids (N, L) and an addend of their embeddings (N, L, W) -> features (N, D), not normalised."""
    width: int
    longest: int
    device: torch.device


@dataclass(frozen=True)
class NoSettings:
    """Training settings of a "no" encoder; defaults of the paper and its code (2048 = 4 GPUs x 512)."""

    prompts: int = 16
    epochs: int = 10
    batch_size: int = 2048
    rate: float = 3e-4
    """Learning rate of AdamW (0.9, 0.98, 1e-6); it falls to zero along half a cosine over the steps."""
    weight_decay: float = 0.2
    """Not applied to biases and norms."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("prompts", 1), ("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option}: expected at least {least}, found {getattr(self, name)}.")
        if not (0 < self.rate < float("inf") and 0 <= self.weight_decay < float("inf")):
            raise UsageError(f"--rate: expected a number above zero, found {self.rate}.")


def binary_opposite(images: Tensor, yes: Tensor, no: Tensor, scale: float) -> Tensor:
    """Return the image-text binary-opposite loss (ITBO) of N >= 2 pairs of unit features (N, D).

    With q_ij = exp(s x_i no_j) / (exp(s x_i yes_j) + exp(s x_i no_j)), the probability that "no caption j" is
    the one that fits image i: -1/N sum_i log(1 - q_ii) - 1/(N (N - 1)) sum_(i != j) log q_ij.
    """
    margin = scale * images @ (no - yes).T
    own = -logsigmoid(-margin.diagonal()).mean()
    others = -logsigmoid(margin)
    count = len(images)
    return own + (others.sum() - others.diagonal().sum()) / (count * (count - 1))


def semantic_opposite(yes: Tensor, no: Tensor) -> Tensor:
    """Return the text semantic-opposite loss (TSO), 1/N sum_i (2 - |yes_i - no_i|), of unit features (N, D).

    It is 0 where the two are opposite. The distance is the root of its square plus 1e-4, as in the authors'
    code.
    """
    squares = 2 - 2 * (yes * no).sum(-1) + EPSILON
    return (2 - squares.sqrt()).mean()


def objective(images: Tensor, yes: Tensor, no: Tensor, scale: float) -> Tensor:
    """Return ITBO + TSO of one batch; the authors' code halves it, which makes no difference to AdamW."""
    return binary_opposite(images, yes, no, scale) + semantic_opposite(yes, no)


PROMPTS = "no-prompts"
"""The name of the "no" prompts among the weights."""

CHUNK = 64
"""Number of captions whose activations are in memory at a time."""


def steps(pairs: int, settings: NoSettings) -> int:
    """Return the number of steps of ``learn_no``."""
    return settings.epochs * len(_batches(torch.arange(pairs), settings.batch_size))


@torch.no_grad()
def text_rows(
    encoder: TextFunction, weights: Weights, texts: Sequence[str], progress: ProgressCallback = silent
) -> Tensor:
    """Return unit features (N, D) of texts, on the device; ``weights`` may lack "no" prompts.

    ``progress`` counts texts.
    """
    zeros = torch.zeros(1, encoder.longest, encoder.width, device=encoder.device)
    added = weights[PROMPTS].mean(0, keepdim=True) if PROMPTS in weights else zeros
    features = []

    def encode(part: Sequence[str]) -> Tensor:
        ids = encoder.tokenize(part)
        return normalize(encoder.run(_encoders(weights), ids, added.expand(len(ids), -1, -1)), dim=-1)

    in_parts = InParts(encode, join=torch.cat)
    with threads_for(encoder.width):
        for first in range(0, len(texts), CHUNK):
            features.append(in_parts(texts[first : first + CHUNK]))
            progress(len(features[-1]))
    return torch.cat(features)


@memory_errors(
    "a step of the training", "Use a smaller --batch-size or --device cpu. Finished epochs are kept."
)
def learn_no(
    encoder: TextFunction,
    images: Tensor,
    yes: Tensor,
    captions: Sequence[str],
    scale: float,
    settings: NoSettings,
    *,
    chunk: int = CHUNK,
    progress: ProgressCallback = silent,
    resume: Checkpoint | None = None,
    on_epoch: Callable[[Checkpoint], None] | None = None,
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    """Train the "no" encoder on N pairs: unit features of images and of captions (N, D), and the captions.

    ``yes`` are the caption features of the frozen encoder. More than ``chunk`` captions in a batch are
    encoded twice: once for the features, and in chunks again for the exact gradient. A last batch of one
    pair is skipped, since it has no other caption. Returns the weights, including ``PROMPTS``, and the mean
    loss of each epoch; deterministic for a seed on one machine, resumed or not. Raises LsnError for fewer
    than 2 pairs or divergence.
    """
    if len(captions) < 2:
        raise LsnError(f"A 'no' encoder learns from at least 2 image-caption pairs, found {len(captions)}.")
    if chunk < 1:
        raise UsageError(f"--chunk: expected at least 1, found {chunk}.")
    generator = seeded(settings.seed)
    weights = {name: tensor.detach().clone() for name, tensor in encoder.weights.items()}
    weights[PROMPTS] = torch.zeros(settings.prompts, encoder.longest, encoder.width, device=encoder.device)
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = _optimizer(list(weights.values()), settings)
    history: tuple[float, ...] = ()
    if resume is not None:
        restore(resume, weights, optimizer, generator)
        history = resume.history
    total = steps(len(captions), settings)
    step = len(history) * total // settings.epochs
    if step:
        progress(step, "resumed")
    with threads_for(encoder.width):
        for _ in range(len(history), settings.epochs):
            losses = []
            for rows in _batches(torch.randperm(len(captions), generator=generator), settings.batch_size):
                for group in optimizer.param_groups:
                    group["lr"] = settings.rate * (1 + math.cos(math.pi * step / total)) / 2
                which = torch.randint(settings.prompts + 1, (len(rows),), generator=generator)
                batch = _Batch(encoder, weights, [captions[row] for row in rows.tolist()], which, chunk)
                indices = rows.to(encoder.device)
                loss_of = partial(objective, images[indices], yes[indices], scale=scale)
                loss = with_less(partial(batch.backward, loss_of), batch.halve)
                chunk = batch.chunk
                if not math.isfinite(loss):
                    raise LsnError(f"Training diverged: the loss became {loss}.", "Use a lower --rate.")
                optimizer.step()
                losses.append(loss)
                step += 1
                progress(1, f"loss {loss:.3f}")
            history = (*history, sum(losses) / len(losses))
            if on_epoch is not None:
                on_epoch(snapshot(weights, optimizer, generator, history))
    return {name: tensor.detach() for name, tensor in weights.items()}, history


@dataclass
class _Batch:
    """The captions of a step, with the index of the "no" prompt of each (P: the mean)."""

    encoder: TextFunction
    weights: dict[str, Tensor]
    captions: list[str]
    which: Tensor
    chunk: int

    def halve(self) -> bool:
        """Use chunks half as large from now on; return False if they are single captions."""
        if min(self.chunk, len(self.captions)) < 2:
            return False
        self.chunk = min(self.chunk, len(self.captions)) // 2
        return True

    def backward(self, loss_of: Callable[[Tensor], Tensor]) -> float:
        """Set the gradient of the loss of all features (N, D) in the weights; return the loss."""
        for tensor in self.weights.values():
            tensor.grad = None
        if len(self.captions) <= self.chunk:
            loss = loss_of(next(self._chunks()))
            loss.backward()
            return float(loss.detach())
        with torch.no_grad():
            features = torch.cat(list(self._chunks()))
        features.requires_grad_()
        loss = loss_of(features)
        (gradient,) = torch.autograd.grad(loss, features)
        for chunk, part in zip(self._chunks(), gradient.split(self.chunk), strict=True):
            chunk.backward(part)
        return float(loss.detach())

    def _chunks(self) -> Iterator[Tensor]:
        """Yield the unit "no" features of ``chunk`` captions at a time."""
        for first in range(0, len(self.captions), self.chunk):
            part = slice(first, first + self.chunk)
            prompts = self.weights[PROMPTS]
            pool = torch.cat([prompts, prompts.mean(0, keepdim=True)])
            added = pool[self.which[part].to(pool.device)]
            ids = self.encoder.tokenize(self.captions[part])
            yield normalize(self.encoder.run(_encoders(self.weights), ids, added), dim=-1)


def _encoders(weights: Weights) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if name != PROMPTS}


def _batches(order: Tensor, size: int) -> list[Tensor]:
    return [rows for rows in order.split(size) if len(rows) > 1]


def _optimizer(parameters: list[Tensor], settings: NoSettings) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), eps=1e-6)
