"""Prompts as the paper writes them, Eq. 2: V(l_c) = [v_1 ... v_M, w_c], between start and end of text.

The words behind the context are "<class name>." with the full stop that CoOp and the authors of LSN use
(Zhou et al., "Learning to prompt for vision-language models", IJCV 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from lsncli.prompts.tower import TextTower, check_length

INIT_STD = 0.02
"""Standard deviation of a new context vector, as in CoOp."""


@dataclass(frozen=True)
class Slots:
    """The frozen words around the learned vectors, for C classes."""

    start: Tensor  # (1, W): start of text
    names: Tensor  # (C, R, W): "name." and end of text, zero-padded to the longest name
    ends: Tensor  # (C,): position of the end of text inside ``names``


def slots(tower: TextTower, classes: Sequence[str], length: int) -> Slots:
    """Tokenize and embed the names of ``classes`` once, for contexts of ``length`` vectors.

    Raises LsnError if a prompt would not fit the tower.
    """
    ids = [[*tower.tokenize(f"{name}."), tower.end] for name in classes]
    for name, tokens in zip(classes, ids, strict=True):
        check_length(1 + length + len(tokens), tower.longest, f"a context of {length} with class '{name}'")
    rows = max(len(tokens) for tokens in ids)
    names = torch.stack([pad(tower.embed(t), (0, 0, 0, rows - len(t))) for t in ids])
    ends = torch.tensor([len(t) - 1 for t in ids], device=tower.device)
    return Slots(tower.embed([tower.start]), names, ends)


def new_context(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random context vectors of the given shape (..., M, W), normal with standard deviation 0.02."""
    return torch.randn(shape, generator=generator) * INIT_STD


def prompt_features(tower: TextTower, words: Slots, context: Tensor) -> Tensor:
    """Unit text features g(V(l_c)) (C, D) of every class, differentiable in ``context``.

    ``context`` is (M, W), shared by all classes, or (C, M, W), class-specific.
    """
    classes, length = len(words.names), context.shape[-2]
    start = words.start.expand(classes, 1, -1)
    prompts = torch.cat([start, context.expand(classes, -1, -1), words.names], dim=1)
    return normalize(tower.encode(prompts, words.ends + 1 + length), dim=-1)


@torch.no_grad()
def text_features(tower: TextTower, texts: Sequence[str], chunk: int = 256) -> Tensor:
    """Unit text features (N, D) of plain texts, such as "a photo of a tench", in chunks of prompts."""
    parts = []
    for first in range(0, len(texts), chunk):
        ids = [[tower.start, *tower.tokenize(text), tower.end] for text in texts[first : first + chunk]]
        for text, tokens in zip(texts[first:], ids, strict=False):
            check_length(len(tokens), tower.longest, f"the text '{text}'")
        rows = max(len(tokens) for tokens in ids)
        prompts = torch.stack([pad(tower.embed(t), (0, 0, 0, rows - len(t))) for t in ids])
        ends = torch.tensor([len(t) - 1 for t in ids], device=tower.device)
        parts.append(normalize(tower.encode(prompts, ends), dim=-1))
    return torch.cat(parts)
