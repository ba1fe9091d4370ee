"""CLIPN: a copy of the text encoder, with learnable "no" prompts, learns to say what is not in an image.

Wang et al., "CLIPN for zero-shot OOD detection: teaching CLIP to say no", ICCV 2023; code: xmed-lab/CLIPN.

The "no" encoder starts as CLIP's text encoder, all of whose weights are learned; P "no" prompts, (L, W) each
and zero at first, are added to the token embeddings of a text. A caption takes one of the P or their mean, at
random, and a text that is only read takes the mean. Image encoder and "yes" text encoder are frozen, so that
their features are made once, without the random crops (at least 90 % of the area) of the authors' loader.
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
from lsncli.prompts.loop import Checkpoint, restore, snapshot

EPSILON = 1e-4
"""Keeps the gradient of the distance in TSO finite at the start, where both encoders are the same."""

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class TextFunction:
    """A text encoder as a function of its weights; made in ``backbones/text.py``."""

    weights: dict[str, Tensor]
    """The encoder's own, float32: all that text features depend on."""
    tokenize: Callable[[Sequence[str]], Tensor]
    """N texts -> ids (N, L) on the device; what is too long is cut, as CLIP's training does."""
    run: Callable[[Weights, Tensor, Tensor], Tensor]
    """Weights, ids (N, L) and what is added to their embeddings, (N, L, W) -> features (N, D), raw."""
    width: int
    longest: int
    device: torch.device


@dataclass(frozen=True)
class NoSettings:
    """How a "no" encoder learns; the defaults are the paper's and its code's (2048 = 4 GPUs x 512)."""

    prompts: int = 16
    epochs: int = 10
    batch_size: int = 2048
    rate: float = 3e-4
    """Of AdamW (0.9, 0.98, 1e-6), falling to zero over the steps by half a cosine."""
    weight_decay: float = 0.2
    """Not of biases and norms."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("prompts", 1), ("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option}: expected at least {least}, found {getattr(self, name)}.")
        if not (0 < self.rate < float("inf") and 0 <= self.weight_decay < float("inf")):
            raise UsageError(f"--rate: expected a number above zero, found {self.rate}.")


def binary_opposite(images: Tensor, yes: Tensor, no: Tensor, scale: float) -> Tensor:
    """Image-text binary-opposite loss (ITBO) of N >= 2 pairs of unit features (N, D).

    With q_ij = exp(s x_i no_j) / (exp(s x_i yes_j) + exp(s x_i no_j)), the probability that "no caption j" is
    the one that fits image i: -1/N sum_i log(1 - q_ii) - 1/(N (N - 1)) sum_(i != j) log q_ij.
    """
    margin = scale * images @ (no - yes).T
    own = -logsigmoid(-margin.diagonal()).mean()
    others = -logsigmoid(margin)
    count = len(images)
    return own + (others.sum() - others.diagonal().sum()) / (count * (count - 1))


def semantic_opposite(yes: Tensor, no: Tensor) -> Tensor:
    """Text semantic-opposite loss (TSO), 1/N sum_i (2 - |yes_i - no_i|), of unit features (N, D).

    It is 0 where the two are opposite. The distance is taken of its square plus 1e-4, as the authors do.
    """
    squares = 2 - 2 * (yes * no).sum(-1) + EPSILON
    return (2 - squares.sqrt()).mean()


def objective(images: Tensor, yes: Tensor, no: Tensor, scale: float) -> Tensor:
    """ITBO + TSO of one batch; the authors' code halves it, which AdamW does not notice."""
    return binary_opposite(images, yes, no, scale) + semantic_opposite(yes, no)


PROMPTS = "no-prompts"
"""The name of the "no" prompts among the weights."""

CHUNK = 64
"""Captions whose gradient is in memory at a time."""


def steps(pairs: int, settings: NoSettings) -> int:
    """How many steps ``learn_no`` takes."""
    return settings.epochs * len(_batches(torch.arange(pairs), settings.batch_size))


@torch.no_grad()
def text_rows(
    encoder: TextFunction, weights: Weights, texts: Sequence[str], progress: ProgressCallback = silent
) -> Tensor:
    """Unit features (N, D) of texts, on the device; ``weights`` may lack "no" prompts. Ticks once a text."""
    nothing = torch.zeros(1, encoder.longest, encoder.width, device=encoder.device)
    added = weights[PROMPTS].mean(0, keepdim=True) if PROMPTS in weights else nothing
    found = []
    with threads_for(encoder.width):
        for first in range(0, len(texts), CHUNK):
            ids = encoder.tokenize(texts[first : first + CHUNK])
            found.append(
                normalize(encoder.run(_encoders(weights), ids, added.expand(len(ids), -1, -1)), dim=-1)
            )
            progress(len(ids))
    return torch.cat(found)


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
    """Learn from N pairs: unit features of images and of captions by the "yes" encoder, (N, D), and captions.

    More than ``chunk`` captions in a batch are encoded twice: once for the features, and piece by piece again
    for the exact gradient. A last batch of one pair is left out: it has no foreign caption. Returns the
    weights, ``PROMPTS`` among them, and the mean loss of each epoch's steps; the same for a seed on one
    machine, resumed or not. Raises LsnError for fewer than 2 pairs or divergence.
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
                optimizer.zero_grad(set_to_none=True)
                batch = _Batch(encoder, weights, [captions[row] for row in rows.tolist()], which, chunk)
                here = rows.to(encoder.device)
                loss = batch.backward(partial(objective, images[here], yes[here], scale=scale))
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


@dataclass(frozen=True)
class _Batch:
    """The captions of a step with the number of the "no" prompt that each takes (P = the mean)."""

    encoder: TextFunction
    weights: dict[str, Tensor]
    captions: list[str]
    which: Tensor
    chunk: int

    def backward(self, loss_of: Callable[[Tensor], Tensor]) -> float:
        """Add the gradient of the loss of all features (N, D) to that of the weights; the loss."""
        if len(self.captions) <= self.chunk:
            loss = loss_of(next(self._pieces()))
            loss.backward()
            return float(loss.detach())
        with torch.no_grad():
            features = torch.cat(list(self._pieces()))
        features.requires_grad_()
        loss = loss_of(features)
        (gradient,) = torch.autograd.grad(loss, features)
        for piece, part in zip(self._pieces(), gradient.split(self.chunk), strict=True):
            piece.backward(part)
        return float(loss.detach())

    def _pieces(self) -> Iterator[Tensor]:
        """Unit "no" features of ``chunk`` captions at a time."""
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
