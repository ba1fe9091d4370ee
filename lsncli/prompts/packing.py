"""Pack the prompts of a layout into rows: the shared prefix once, and no padding.

With a causal mask, equal prefixes have equal activations in every layer, so the tokens that all prompts
start with are computed once. The packed rows are the shared prefix, then learned own rows, then frozen own
rows. For attention, classes are grouped by their number of own rows.

The weights of a causal CLIP text transformer are plain tensors (``Weights``).
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from lsncli.prompts.attention import Bucket
from lsncli.prompts.layout import Prompt, PromptLayout

MASKED = float("-inf")


@dataclass(frozen=True)
class Packing:
    """The vector and position of every packed row, and attention buckets; none for the start of text."""

    prefix: Prompt
    """The shared tokens after the start of text."""
    learned: Tensor
    """The vector index of each learned own row: j of a shared context, or c * M + j if class-specific."""
    learned_positions: Tensor
    period: int
    """Number of learned own rows after which their vectors recur, once for each class; none recurs within."""
    frozen: Tensor
    """Token ids of the frozen own rows."""
    frozen_positions: Tensor
    all_rows: tuple[Bucket, ...]
    """The prefix, if any, then classes by their number of own rows; every row has a query."""
    ends_only: tuple[Bucket, ...]
    """For the last layer, where only the end of each text has a query."""
    ends: Tensor
    """(C,) index of the packed row of the end of each text."""


def pack(layout: PromptLayout, device: torch.device, dtype: torch.dtype = torch.float32) -> Packing:
    """Pack a layout whose prompts begin with one start-of-text token and end with the token that is read.

    Masks have ``dtype``, that of the tower.
    """

    def on(values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    prompts = layout.prompts
    shared = _shared(layout)
    prefix = shared - 1
    rows = [(c, i, prompt[i]) for c, prompt in enumerate(prompts) for i in range(shared, len(prompt))]
    learned = [row for row in rows if row[2] < 0]
    frozen = [row for row in rows if row[2] >= 0]
    index = {(c, position): prefix + i for i, (c, position, _) in enumerate(learned + frozen)}
    by_length: dict[int, list[int]] = defaultdict(list)
    for c, prompt in enumerate(prompts):
        by_length[len(prompt) - shared].append(c)

    def bucket(before: int, rows: Tensor) -> Bucket:
        length = rows.shape[1]
        mask = torch.full((length, 1 + before + length), MASKED, dtype=dtype, device=device)
        mask = mask.triu(2 + before)  # a row attends to itself and to earlier rows
        return Bucket(prefix=before, rows=rows, asking=rows, mask=mask)

    all_rows = [bucket(0, on([list(range(prefix))]))] if prefix else []
    ends_only = [replace(each, asking=each.asking[:, :0], mask=each.mask[:0]) for each in all_rows]
    for length, classes in sorted(by_length.items()):
        own = on([[index[c, shared + i] for i in range(length)] for c in classes])
        each = bucket(prefix, own)
        all_rows.append(each)
        ends_only.append(replace(each, asking=on(classes)[:, None], mask=each.mask[-1:]))
    vectors = [c * layout.length + ~t if layout.specific else ~t for c, _, t in learned]
    return Packing(
        prefix=prompts[0][1:shared],
        learned=on(vectors),
        period=len(set(vectors)),
        learned_positions=on([position for _, position, _ in learned]),
        frozen=on([token for _, _, token in frozen]),
        frozen_positions=on([position for _, position, _ in frozen]),
        all_rows=tuple(all_rows),
        ends_only=tuple(ends_only),
        ends=on([index[c, len(prompt) - 1] for c, prompt in enumerate(prompts)]),
    )


def packed_rows(layout: PromptLayout) -> int:
    """Return the number of packed rows: the shared prefix once, and the own rows of every class."""
    shared = _shared(layout)
    return shared - 1 + sum(len(prompt) - shared for prompt in layout.prompts)


def _shared(layout: PromptLayout) -> int:
    """Return the number of leading tokens that all prompts share; the last token of a prompt never counts."""
    prompts = layout.prompts
    limit = min(map(len, prompts)) - 1
    alike = [
        all(prompt[i] == prompts[0][i] for prompt in prompts) and not (layout.specific and prompts[0][i] < 0)
        for i in range(limit)
    ]
    return sum(accumulate(alike, lambda before, this: before and this))


Activation = Literal["gelu", "quick_gelu"]


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over W: scale and shift (W,)."""

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5


@dataclass(frozen=True)
class Linear:
    """y = x A^T + b with A (out, in) and b (out,)."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class TextBlock:
    """x += out(attention(qkv(norm1 x))); x += down(activation(up(norm2 x)))."""

    norm1: Norm
    qkv: Linear
    """(3 W, W): queries, keys, values."""
    out: Linear
    norm2: Norm
    up: Linear
    down: Linear


@dataclass(frozen=True)
class Weights:
    """The weights of a text tower: positions are added to token embeddings, the end of text is the output."""

    positions: Tensor
    """(longest prompt, W)."""
    blocks: tuple[TextBlock, ...]
    heads: int
    activation: Activation
    final: Norm
    projection: Linear | None
    """(D, W); None where D = W and nothing is projected."""
