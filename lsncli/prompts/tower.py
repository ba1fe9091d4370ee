"""A frozen causal text tower that takes embeddings instead of words, and what it needs around it.

Learned prompts are vectors in the space of word embeddings, so the tower's usual entrance (token ids) is
of no use. This one runs the same layers on given embeddings, cut to the longest prompt: behind a causal
mask nothing after the end-of-text token can change the output, so the cut is exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lsncli.errors import LsnError


@dataclass(frozen=True)
class TextTower:
    """The frozen parts of a CLIP text encoder g (W wide, D-dimensional output), always in float32."""

    tokenize: Callable[[str], list[int]]
    """Token ids of a text without start and end of text."""
    start: int
    end: int
    token_embedding: Tensor  # (vocabulary, W)
    positions: Tensor  # (longest prompt, W)
    transformer: Callable[[Tensor, Tensor], Tensor]
    """(N, L, W) embeddings and an additive (L, L) mask -> (N, L, W)."""
    final_norm: nn.Module
    project: Callable[[Tensor], Tensor]
    """(N, W) -> (N, D)."""

    @property
    def device(self) -> torch.device:
        return self.token_embedding.device

    @property
    def width(self) -> int:
        return self.token_embedding.shape[1]

    @property
    def longest(self) -> int:
        """The number of tokens the tower has positions for, start and end of text included."""
        return self.positions.shape[0]

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token ids -> (len(ids), W) embeddings, without positions."""
        return self.token_embedding[torch.as_tensor(list(ids), dtype=torch.long, device=self.device)]

    def encode(self, prompts: Tensor, ends: Tensor) -> Tensor:
        """Embedded prompts (N, L, W), end-of-text positions (N,) -> text features (N, D), not normalised.

        What stands behind a prompt's end of text does not matter. Raises LsnError if L is too long.
        """
        length = prompts.shape[1]
        check_length(length, self.longest, "a prompt")
        mask = torch.full((length, length), float("-inf"), device=prompts.device).triu(1)
        hidden = self.transformer(prompts + self.positions[:length], mask)
        last = hidden[torch.arange(len(hidden), device=hidden.device), ends]
        return self.project(self.final_norm(last))


def check_length(length: int, longest: int, what: str) -> None:
    """Raise LsnError if a prompt of ``length`` tokens does not fit a tower of ``longest`` positions."""
    if length > longest:
        raise LsnError(
            f"Text tower: {what} needs {length} tokens, but the tower reads at most {longest}.",
            "Shorten the class name or use a shorter context.",
        )
