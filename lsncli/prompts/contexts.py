"""New contexts, and the text features of plain texts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lsncli.errors import UsageError
from lsncli.prompts.chunks import bounded
from lsncli.prompts.layout import Vocabulary, text_layout
from lsncli.prompts.tower import TextTower

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
