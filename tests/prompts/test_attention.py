"""Attention over packed rows against one query at a time, and its gradient against differences."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from tower_samples import CLASSES, HEADS, VOCABULARY, WIDTH, random

from lsncli.prompts.attention import Maps, attend
from lsncli.prompts.layout import Layout, context_layout, text_layout
from lsncli.prompts.packing import pack

CPU = torch.device("cpu")

LAYOUTS = {
    "shared in front": context_layout(VOCABULARY, CLASSES, 3),
    "specific, no prefix": context_layout(VOCABULARY, CLASSES, 2, specific=True),
    "name in front": context_layout(VOCABULARY, ["hen", "hex", "h"], 2, position="front"),
    "one class": context_layout(VOCABULARY, ["ox"], 2),
    "texts": text_layout(VOCABULARY, ["an ox", "a", "a hen"]),
}


@dataclass(frozen=True)
class Inputs:
    """Queries, keys and values of the packed rows, and those of the start of text."""

    q: Tensor
    kv: Tensor
    start_k: Tensor
    start_v: Tensor
    maps: Maps

    @property
    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Maps]:
        return self.q, self.kv, self.start_k, self.start_v, self.maps


def inputs(layout: Layout, *, last: bool, groups: int = 2) -> Inputs:
    packing = pack(layout, CPU)
    rows = packing.all_rows.prefix + len(packing.learned) + len(packing.frozen)
    start = random(2, HEADS, 1, WIDTH // HEADS, seed=3)
    return Inputs(
        q=random(groups, len(layout.prompts) if last else rows, WIDTH, seed=1),
        kv=random(groups, rows, 2 * WIDTH, seed=2),
        start_k=start[0],
        start_v=start[1],
        maps=packing.ends_only if last else packing.all_rows,
    )


def naive(layout: Layout, given: Inputs, *, last: bool) -> Tensor:
    """Row by row: whom it sees is read off the prompt, not off the masks."""
    packing = pack(layout, CPU)
    prefix = packing.all_rows.prefix
    keys = packing.all_rows.keys.view(len(layout.prompts), -1).tolist()
    own = [row[: len(p) - 1 - prefix] for row, p in zip(keys, layout.prompts, strict=True)]
    sees = {row: list(range(row + 1)) for row in range(prefix)}
    for each in own:
        sees |= {row: [*range(prefix), *each[: i + 1]] for i, row in enumerate(each)}
    asking = packing.ends.tolist() if last else sorted(sees)
    out = torch.empty_like(given.q)
    for g in range(len(given.q)):
        for place, row in enumerate(asking):
            heads = []
            for h in range(HEADS):
                part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
                k, v = (side[sees[row], part] for side in given.kv[g].chunk(2, -1))
                k, v = torch.cat([given.start_k[h], k]), torch.cat([given.start_v[h], v])
                heads.append((k @ given.q[g, place, part] / (WIDTH / HEADS) ** 0.5).softmax(0) @ v)
            out[g, place] = torch.cat(heads)
    return out


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_query_sees_the_start_its_prefix_and_its_own_text_so_far(name: str, last: bool) -> None:
    given = inputs(LAYOUTS[name], last=last)
    torch.testing.assert_close(attend(*given.all), naive(LAYOUTS[name], given, last=last))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_written_gradient_is_the_derivative(name: str, last: bool) -> None:
    given = inputs(LAYOUTS[name], last=last)

    def of(q: Tensor, kv: Tensor) -> Tensor:
        return attend(q, kv, given.start_k, given.start_v, given.maps)

    # Fast mode compares along random directions; one layout is compared entry by entry.
    fast = (name, last) != ("name in front", False)
    assert torch.autograd.gradcheck(of, (given.q.requires_grad_(), given.kv.requires_grad_()), fast_mode=fast)


def test_the_gradient_is_that_of_the_naive_loop_in_every_entry() -> None:
    for last in (False, True):
        given = inputs(LAYOUTS["shared in front"], last=last)
        direction = random(*given.q.shape, seed=9)
        leaves = (given.q.requires_grad_(), given.kv.requires_grad_())
        ours = torch.autograd.grad((attend(*given.all) * direction).sum(), leaves)
        # The naive loop writes into one tensor, which autograd follows.
        theirs = torch.autograd.grad(
            (naive(LAYOUTS["shared in front"], given, last=last) * direction).sum(), leaves
        )
        torch.testing.assert_close(ours, theirs)


@given(
    names=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4),
    length=st.integers(1, 3),
    position=st.sampled_from(["end", "middle", "front"]),
    specific=st.booleans(),
    last=st.booleans(),
)
def test_any_prompts_attend_as_each_would_alone(names, length, position, specific, last) -> None:
    layout = context_layout(VOCABULARY, names, length, position=position, specific=specific)
    given = inputs(layout, last=last, groups=1)
    torch.testing.assert_close(attend(*given.all), naive(layout, given, last=last))


def test_a_far_query_does_not_overflow() -> None:
    given = inputs(LAYOUTS["shared in front"], last=False)
    q, kv = given.q * 1e4, given.kv.float()
    out = attend(q.float(), kv, given.start_k.float(), given.start_v.float(), given.maps)
    assert out.isfinite().all()


def test_contexts_of_several_groups_do_not_see_each_other() -> None:
    given = inputs(LAYOUTS["shared in front"], last=False)
    both = attend(*given.all)
    for g in range(2):
        alone = attend(given.q[g : g + 1], given.kv[g : g + 1], given.start_k, given.start_v, given.maps)
        torch.testing.assert_close(both[g : g + 1], alone)
