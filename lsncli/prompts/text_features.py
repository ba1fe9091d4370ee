"""Text features of any number of classes in bounded memory, with exact gradients, in two passes over chunks.

The first pass computes features without saving activations. Once the gradient of the loss with respect to
the features is known, the second pass recomputes each chunk with the activations for its gradient. Nothing
is approximated: the gradient of a sum of chunks is the sum of their gradients. Chunking costs one more
forward pass, and only where the whole layout does not fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lsncli.device import memory_for
from lsncli.errors import UsageError
from lsncli.memory import with_less
from lsncli.prompts.layout import Encoder, PromptLayout, TextTower, Vocabulary, text_layout


@dataclass(frozen=True)
class _Chunk:
    """The features of a slice of the groups and a slice of the classes."""

    groups: slice
    classes: slice
    encode: Encoder


def bounded(tower: TextTower, layout: PromptLayout, memory: int, *, raw: bool = False) -> "Bounded":
    """Return an encoder of ``layout`` that saves at most about ``memory`` bytes for its gradient.

    Classes are split if one context with all classes does not fit, contexts (sets, images) if all at once do
    not. The smallest chunk is one class of one context, whatever it needs.
    """
    return Bounded(tower, layout, memory, raw=raw)


class Bounded:
    """An ``Encoder`` in bounded memory; see ``bounded``.

    Where no gradient is asked for and memory runs out nevertheless, it continues with smaller chunks.
    """

    def __init__(self, tower: TextTower, layout: PromptLayout, memory: int, *, raw: bool = False) -> None:
        self._tower, self._layout, self._memory, self._raw = tower, layout, memory, raw
        self._need, self._count = tower.activation_bytes(layout), len(layout.prompts)
        self._groups = 1

    @property
    def _parts(self) -> int:
        """Number of parts that the classes are split into."""
        return min(self._count, -(-self._need // max(1, self._memory)))

    @property
    def _at_once(self) -> int:
        """Number of contexts of a chunk."""
        return max(1, self._memory // max(1, -(-self._need // self._parts)))

    @cached_property
    def _encoders(self) -> list[tuple[slice, Encoder]]:
        edges = [round(i * self._count / self._parts) for i in range(self._parts + 1)]
        return [
            (slice(first, last), self._tower.encoder(self._layout.part(first, last), raw=self._raw))
            for first, last in pairwise(edges)
        ]

    def __call__(self, contexts: Tensor) -> Tensor:
        """Encode contexts; see ``Encoder``."""
        self._groups = len(contexts)
        if torch.is_grad_enabled() and contexts.requires_grad:
            return self._encode(contexts)
        return with_less(lambda: self._encode(contexts), self.halve)

    def halve(self) -> bool:
        """Use half of the memory from now on; return False if chunks cannot be smaller."""
        if self._parts == self._count and min(self._at_once, self._groups) == 1:
            return False
        self._memory = min(self._memory, self._need * self._groups) // 2
        self.__dict__.pop("_encoders", None)
        return True

    def _encode(self, contexts: Tensor) -> Tensor:
        if self._parts == 1 and len(contexts) <= self._at_once:
            return self._encoders[0][1](contexts)
        chunks = [
            _Chunk(slice(first, first + self._at_once), classes, run)
            for first in range(0, len(contexts), self._at_once)
            for classes, run in self._encoders
        ]
        work = _Chunks(chunks, self._layout.specific, (len(contexts), self._count))
        features: Tensor = _TwoPass.apply(contexts, work)  # type: ignore[no-untyped-call]
        return features


@dataclass(frozen=True)
class _Chunks:
    chunks: list[_Chunk]
    specific: bool
    shape: tuple[int, int]

    def of(self, contexts: Tensor) -> Iterator[tuple[_Chunk, Tensor]]:
        """Yield each chunk with a view of the contexts that it needs."""
        for chunk in self.chunks:
            part = contexts[chunk.groups]
            yield chunk, part[:, chunk.classes] if self.specific else part


class _TwoPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, contexts: Tensor, chunks: _Chunks) -> Tensor:
        ctx.save_for_backward(contexts)
        ctx.chunks = chunks
        features: Tensor | None = None
        for chunk, part in chunks.of(contexts):
            encoded = chunk.encode(part)
            if features is None:
                features = encoded.new_empty(*chunks.shape, encoded.shape[-1])
            features[chunk.groups, chunk.classes] = encoded
        assert features is not None  # a layout has classes
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (contexts,) = ctx.saved_tensors
        total = torch.zeros_like(contexts)
        chunks: _Chunks = ctx.chunks
        for (chunk, part), (_, sum_of_part) in zip(chunks.of(contexts), chunks.of(total), strict=True):
            leaf = part.detach().requires_grad_()
            with torch.enable_grad():
                features = chunk.encode(leaf)
            (gradient,) = torch.autograd.grad(features, leaf, gradients[0][chunk.groups, chunk.classes])
            sum_of_part += gradient
        return total, None


INIT_STD = 0.02
"""Standard deviation of a random context vector, as in CoOp."""

TEXT_MEMORY = 1 << 28
"""Largest memory in bytes for the activations of plain texts on a CPU."""
TEXT_SHARE = 1 / 16
"""The same on CUDA, as a share of the card's memory."""


def new_contexts(
    vocabulary: Vocabulary, shape: tuple[int, ...], words: str, generator: torch.Generator
) -> Tensor:
    """Initialise contexts (K, M, W) or (K, C, M, W) of ``shape`` (K, [C,] M), float32 on the CPU.

    Random with standard deviation 0.02, or the embeddings of ``words``, which must be M tokens. Several sets
    from the same words get this noise, too: equal sets would have equal gradients and stay equal.
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
def text_features(tower: TextTower, texts: Sequence[str], *, raw: bool = False) -> Tensor:
    """Return text features (N, D) of plain texts, such as "a photo of a tench".

    They are unit, or with ``raw`` as the tower projects them.
    """
    no_contexts = torch.empty(1, 0, tower.vocabulary.width, device=tower.device)
    memory = memory_for(tower.device, TEXT_MEMORY, TEXT_SHARE)
    return bounded(tower, text_layout(tower.vocabulary, texts), memory, raw=raw)(no_contexts)[0]
