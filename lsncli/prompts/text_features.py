"""Text features of any number of classes in bounded memory, with exact gradients: two passes, chunk by chunk.

The first pass computes features and keeps nothing else. When the gradient of the loss with respect to the
features is known, the second computes each chunk again, this time with what its gradient needs. Nothing is
approximated: the gradient of a sum of chunks is the sum of their gradients. Chunks cost one more forward
pass, and only where all at once would not fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lsncli.errors import UsageError
from lsncli.prompts.layout import Encoder, PromptLayout, TextTower, Vocabulary, text_layout


@dataclass(frozen=True)
class _Piece:
    """The features of some groups and some classes."""

    groups: slice
    classes: slice
    encode: Encoder


def bounded(tower: TextTower, layout: PromptLayout, memory: int) -> Encoder:
    """An encoder of ``layout`` that keeps at most about ``memory`` bytes for its gradient.

    Classes are split if one context with all of them does not fit, contexts (sets, images) if all at once do
    not. One class of one context is the least there is, whatever it needs.
    """
    need = tower.activation_bytes(layout)
    count = len(layout.prompts)
    chunks = min(count, -(-need // max(1, memory)))
    edges = [round(i * count / chunks) for i in range(chunks + 1)]
    encoders = [
        (slice(first, last), tower.encoder(layout.part(first, last))) for first, last in pairwise(edges)
    ]
    at_once = max(1, memory // max(1, -(-need // chunks)))

    def encode(contexts: Tensor) -> Tensor:
        groups = len(contexts)
        if chunks == 1 and groups <= at_once:
            return encoders[0][1](contexts)
        pieces = [
            _Piece(slice(first, first + at_once), classes, run)
            for first in range(0, groups, at_once)
            for classes, run in encoders
        ]
        work = _Pieces(pieces, layout.specific, (groups, count))
        features: Tensor = _TwoPass.apply(contexts, work)  # type: ignore[no-untyped-call]
        return features

    return encode


@dataclass(frozen=True)
class _Pieces:
    pieces: list[_Piece]
    specific: bool
    shape: tuple[int, int]

    def of(self, contexts: Tensor) -> Iterator[tuple[_Piece, Tensor]]:
        """Each piece with the contexts it needs, as a view."""
        for piece in self.pieces:
            part = contexts[piece.groups]
            yield piece, part[:, piece.classes] if self.specific else part


class _TwoPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, contexts: Tensor, pieces: _Pieces) -> Tensor:
        ctx.save_for_backward(contexts)
        ctx.pieces = pieces
        features: Tensor | None = None
        for piece, part in pieces.of(contexts):
            found = piece.encode(part)
            if features is None:
                features = found.new_empty(*pieces.shape, found.shape[-1])
            features[piece.groups, piece.classes] = found
        assert features is not None  # a layout has classes
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (contexts,) = ctx.saved_tensors
        total = torch.zeros_like(contexts)
        pieces: _Pieces = ctx.pieces
        for (piece, part), (_, sum_of_part) in zip(pieces.of(contexts), pieces.of(total), strict=True):
            leaf = part.detach().requires_grad_()
            with torch.enable_grad():
                features = piece.encode(leaf)
            (gradient,) = torch.autograd.grad(features, leaf, gradients[0][piece.groups, piece.classes])
            sum_of_part += gradient
        return total, None


INIT_STD = 0.02
"""Standard deviation of a random context vector, as in CoOp."""

TEXT_MEMORY = 1 << 28
"""Bytes for the activations of plain texts at a time."""


def new_contexts(
    vocabulary: Vocabulary, shape: tuple[int, ...], words: str, generator: torch.Generator
) -> Tensor:
    """Contexts (K, M, W) or (K, C, M, W) of the given ``shape`` (K, [C,] M), float32 on the CPU.

    Random with standard deviation 0.02, or the embeddings of ``words``, which must be M tokens. Several sets
    from the same words get that much noise, too: equal sets would have equal gradients and stay equal.
    Raises UsageError if the words are not M tokens.
    """
    noise = torch.randn(*shape, vocabulary.width, generator=generator) * INIT_STD
    if not words:
        return noise
    ids = vocabulary.tokenize(words)
    if len(ids) != shape[-1]:
        raise UsageError(
            f"--init '{words}' is {len(ids)} tokens, but the context has {shape[-1]} vectors.",
            f"Use --context-length {len(ids)}.",
        )
    return vocabulary.embed(ids).cpu().float() + (noise if shape[0] > 1 else torch.zeros_like(noise))


@torch.no_grad()
def text_features(tower: TextTower, texts: Sequence[str]) -> Tensor:
    """Unit text features (N, D) of plain texts, such as "a photo of a tench"."""
    nothing = torch.empty(1, 0, tower.vocabulary.width, device=tower.device)
    return bounded(tower, text_layout(tower.vocabulary, texts), TEXT_MEMORY)(nothing)[0]
