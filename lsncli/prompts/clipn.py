"""CLIPN: a copy of the text encoder, with learnable "no" prompts, learns to say what is not in an image.

Wang et al., "CLIPN for zero-shot OOD detection: teaching CLIP to say no", ICCV 2023; code: xmed-lab/CLIPN.

The "no" encoder starts as CLIP's text encoder, all of whose weights are learned; P "no" prompts, (L, W) each
and zero at first, are added to the token embeddings of a text. A caption takes one of the P or their mean, at
random, and a text that is only read takes the mean. Image encoder and "yes" text encoder are frozen, so that
their features are made once, without the random crops (at least 90 % of the area) of the authors' loader.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lsncli.errors import UsageError

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
