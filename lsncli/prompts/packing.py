"""How the prompts of a layout are packed into rows: what they share once, names without padding.

Behind a causal mask equal beginnings have equal values in every layer, so the tokens that all prompts start
with are computed once. The rows of all prompts then lie one behind the other: shared prefix, learned own
rows, frozen own rows.
"""

from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from lsncli.prompts.attention import Maps
from lsncli.prompts.layout import Layout, Prompt

MASKED = float("-inf")


@dataclass(frozen=True)
class Packing:
    """Row by row: which vector stands where, and the maps for attention. The start of text has no row."""

    prefix: Prompt
    """The shared tokens behind the start of text."""
    learned: Tensor
    """For each learned own row the vector it takes: j of a shared context, or c * M + j of a class's own."""
    learned_positions: Tensor
    frozen: Tensor
    """Token ids of the frozen own rows."""
    frozen_positions: Tensor
    all_rows: Maps
    ends_only: Maps
    """For the last layer, where only the end of each text asks."""
    ends: Tensor
    """(C,) packed row of the end of each text."""


def pack(layout: Layout, device: torch.device, dtype: torch.dtype = torch.float32) -> Packing:
    """Prompts must begin with one start-of-text token and end with the token that is read.

    Masks are of ``dtype``, the tower's own.
    """

    def on(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    prompts = layout.prompts
    shared = _shared(layout)
    prefix = shared - 1
    lengths = [len(prompt) - shared for prompt in prompts]
    rows = [(c, i, prompt[i]) for c, prompt in enumerate(prompts) for i in range(shared, len(prompt))]
    learned = [row for row in rows if row[2] < 0]
    frozen = [row for row in rows if row[2] >= 0]
    place = {(c, position): prefix + i for i, (c, position, _) in enumerate(learned + frozen)}
    longest = max(lengths)
    keys = on([place[c, shared + min(i, n - 1)] for c, n in enumerate(lengths) for i in range(longest)])
    back = on([c * longest + position - shared for c, position, _ in learned + frozen])
    present = torch.where(torch.arange(longest) < torch.tensor(lengths)[:, None], 0.0, MASKED)[:, None]
    causal = torch.full((longest, longest), MASKED).triu(1)
    all_rows = Maps(
        prefix=prefix,
        classes=len(prompts),
        keys=keys,
        keys_back=back,
        queries=keys,
        queries_back=back,
        own_mask=(causal + present).to(device, dtype),
        prefix_mask=torch.full((prefix, 1 + prefix), MASKED).triu(2).to(device, dtype),
    )
    each = on(list(range(len(prompts))))
    ends_only = replace(
        all_rows,
        queries=each,
        queries_back=each,
        own_mask=present.to(device, dtype),
        prefix_mask=torch.zeros(0, 1, device=device, dtype=dtype),
    )
    return Packing(
        prefix=prompts[0][1:shared],
        learned=on([c * layout.length + ~t if layout.specific else ~t for c, _, t in learned]),
        learned_positions=on([position for _, position, _ in learned]),
        frozen=on([token for _, _, token in frozen]),
        frozen_positions=on([position for _, position, _ in frozen]),
        all_rows=all_rows,
        ends_only=ends_only,
        ends=on([place[c, len(prompt) - 1] for c, prompt in enumerate(prompts)]),
    )


def packed_rows(layout: Layout) -> int:
    """How many rows ``pack`` gives: the shared prefix once, and the own rows of every class."""
    shared = _shared(layout)
    return shared - 1 + sum(len(prompt) - shared for prompt in layout.prompts)


def _shared(layout: Layout) -> int:
    """How many tokens all prompts start with, the start of text included and the last of any left out."""
    prompts = layout.prompts
    limit = min(map(len, prompts)) - 1
    alike = [
        all(prompt[i] == prompts[0][i] for prompt in prompts) and not (layout.specific and prompts[0][i] < 0)
        for i in range(limit)
    ]
    return sum(accumulate(alike, lambda before, this: before and this))
