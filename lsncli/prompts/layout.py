"""Prompt layouts: the frozen words and learned vectors of the prompt of every class.

Eq. 2 of the paper writes V(l_c) = [v_1 ... v_M, w_c]. Between the start and the end of text are the
context and "<class name>." with the full stop that CoOp and the authors of LSN use (Zhou et al., "Learning
to prompt for vision-language models", IJCV 2022). The name may also be in the middle or in front, or be
left out.

The frozen text tower g is one protocol with two implementations. ``fast_tower.FastTower`` computes what a
causal CLIP text transformer computes with a twentieth of the work; ``plain_tower.PlainTower`` runs any other
text encoder unchanged. ``backbones/text.py`` inspects the model and selects one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from lsncli.errors import LsnError, UsageError

Prompt = tuple[int, ...]
"""The tokens of one prompt: a token id, or ~j (a negative number) for the j-th learned vector."""

Position = Literal["end", "middle", "front"]


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer and the token embeddings of a text tower."""

    tokenize: Callable[[str], list[int]]
    """Token ids of a text without start and end of text."""
    start: tuple[int, ...]
    """Tokens at the start of every text: CLIP's start of text; none for SigLIP."""
    end: tuple[int, ...]
    embedding: Tensor
    """(vocabulary, W) float32."""
    longest: int
    """The largest number of tokens, start and end of text included."""

    @property
    def width(self) -> int:
        """W, the dimension of token embeddings."""
        return self.embedding.shape[1]

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Return the embeddings (len(ids), W) of token ids, without positions."""
        return self.embedding[torch.as_tensor(list(ids), dtype=torch.long, device=self.embedding.device)]


@dataclass(frozen=True)
class PromptLayout:
    """The prompts of C classes around contexts of ``length`` (M) learned vectors."""

    prompts: tuple[Prompt, ...]
    length: int = 0
    specific: bool = False
    """Whether contexts are class-specific (C, M, W) or shared (M, W)."""

    def part(self, first: int, last: int) -> "PromptLayout":
        """Return the layout of the classes ``first`` to ``last`` (exclusive)."""
        return PromptLayout(self.prompts[first:last], self.length, self.specific)


def context_layout(
    vocabulary: Vocabulary,
    classes: Sequence[str],
    length: int,
    *,
    position: Position = "end",
    names: bool = True,
    specific: bool = False,
) -> PromptLayout:
    """Return prompts with a learned context of ``length`` vectors before, around or after each class name.

    Raises LsnError if a prompt is too long for the tower, UsageError for a shared context without names,
    which would give all classes the same prompt.
    """
    if not names and not specific:
        raise UsageError(
            "Prompts without class names need a context of their own for every class.",
            "Add --specific, or keep the names.",
        )
    context, stop = [~j for j in range(length)], vocabulary.tokenize(".")
    prompts = []
    for name in classes:
        if not names:
            body = context + stop
        elif position == "end":
            body = context + vocabulary.tokenize(f"{name}.")
        else:
            half = length // 2 if position == "middle" else 0
            body = context[:half] + vocabulary.tokenize(name) + context[half:] + stop
        prompt = (*vocabulary.start, *body, *vocabulary.end)
        _check_length(prompt, vocabulary, f"a context of {length} with class '{name}'")
        prompts.append(prompt)
    return PromptLayout(tuple(prompts), length, specific)


def text_layout(vocabulary: Vocabulary, texts: Sequence[str]) -> PromptLayout:
    """Return the layout of plain texts, such as "a photo of a tench". Raises LsnError if one is too long."""
    prompts = []
    for text in texts:
        prompt = (*vocabulary.start, *vocabulary.tokenize(text), *vocabulary.end)
        _check_length(prompt, vocabulary, f"the text '{text}'")
        prompts.append(prompt)
    return PromptLayout(tuple(prompts))


def _check_length(prompt: Prompt, vocabulary: Vocabulary, what: str) -> None:
    if len(prompt) > vocabulary.longest:
        raise LsnError(
            f"Text tower: {what} needs {len(prompt)} tokens, but it reads at most {vocabulary.longest}.",
            "Shorten the class name or use a shorter context.",
        )


Encoder = Callable[[Tensor], Tensor]
"""Contexts -> unit text features (G, C, D) in float32, differentiable in the contexts.

G contexts at a time (sets, or images in CoCoOp): (G, M, W) shared by all classes or (G, C, M, W)
class-specific, as the layout says; (1, 0, W) for plain texts.
"""


class TextTower(Protocol):
    """A frozen text encoder that accepts vectors in place of word embeddings."""

    @property
    def path(self) -> str:
        """``fast`` with the linear kernel, or ``plain`` with the reason, such as "fast (onednn)"."""

    @property
    def kernel(self) -> str:
        """``torch`` or ``onednn``."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokenizer and token embeddings."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def encoder(self, layout: PromptLayout, *, raw: bool = False) -> Encoder:
        """Return the function from contexts to text features, with its constants computed.

        Features are unit, or with ``raw`` as the tower projects them.
        """

    def activation_bytes(self, layout: PromptLayout) -> int:
        """Estimate the bytes that one context of ``layout`` saves for its gradient."""
