"""Attention over packed rows and its gradient, against one query at a time and against differences."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from tower_samples import CLASSES, HEADS, VOCABULARY, WIDTH, random

from lsncli.prompts import attention
from lsncli.prompts.attention import AttentionPlan, plan
from lsncli.prompts.layout import PromptLayout, context_layout, text_layout
from lsncli.prompts.packing import pack, packed_rows

CPU = torch.device("cpu")


class _Attention(torch.autograd.Function):
    """Both passes as one operation of autograd."""

    @staticmethod
    def forward(ctx, q: Tensor, kv: Tensor, start: Tensor, plan: AttentionPlan) -> Tensor:
        out, saved = attention.attend(q, kv, start, plan)
        ctx.plan = plan
        ctx.save_for_backward(*saved)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *attention.attend_backward(gradient, ctx.saved_tensors, ctx.plan), None, None


def attend(q: Tensor, kv: Tensor, start: Tensor, plan: AttentionPlan) -> Tensor:
    out: Tensor = _Attention.apply(q, kv, start, plan)
    return out


LAYOUTS = {
    "shared in front": context_layout(VOCABULARY, CLASSES, 3),
    "specific, no prefix": context_layout(VOCABULARY, CLASSES, 2, specific=True),
    "name in front": context_layout(VOCABULARY, ["hen", "hex", "h"], 2, position="front"),
    "one class": context_layout(VOCABULARY, ["ox"], 2),
    "equal lengths": context_layout(VOCABULARY, ["ox", "ax", "hi"], 2, specific=True),
    "some alike": context_layout(VOCABULARY, ["hen", "ox", "beaver", "ax", "hex"], 1),
    "texts": text_layout(VOCABULARY, ["an ox", "a", "a hen"]),
}


@dataclass(frozen=True)
class Inputs:
    """Queries, keys and values of the packed rows, and those of the start of text."""

    q: Tensor
    kv: Tensor
    start: Tensor
    plan: AttentionPlan

    @property
    def all(self) -> tuple[Tensor, Tensor, Tensor, AttentionPlan]:
        return self.q, self.kv, self.start, self.plan


def inputs(
    layout: PromptLayout,
    *,
    last: bool,
    groups: int = 2,
    dtype: torch.dtype = torch.float64,
    device: torch.device = CPU,
) -> Inputs:
    packing, rows = pack(layout, device, dtype), packed_rows(layout)
    return Inputs(
        q=random(groups, len(layout.prompts) if last else rows, WIDTH, seed=1).to(device, dtype),
        kv=random(groups, rows, 2 * WIDTH, seed=2).to(device, dtype),
        start=random(2, HEADS, 1, WIDTH // HEADS, seed=3).to(device, dtype),
        plan=plan(packing.ends_only if last else packing.all_rows, groups, HEADS),
    )


def own_rows(layout: PromptLayout) -> tuple[int, list[list[int]]]:
    """The prefix's length and each class's packed rows: learned ones of all classes first, then frozen."""
    prefix = len(pack(layout, CPU).prefix)
    prompts = layout.prompts
    tokens = [(c, i) for c, prompt in enumerate(prompts) for i in range(1 + prefix, len(prompt))]
    order = sorted(tokens, key=lambda token: prompts[token[0]][token[1]] >= 0)
    place = {token: prefix + row for row, token in enumerate(order)}
    return prefix, [[place[c, i] for i in range(1 + prefix, len(p))] for c, p in enumerate(prompts)]


def naive(layout: PromptLayout, given: Inputs, *, last: bool) -> Tensor:
    """Row by row: whom it sees is read off the prompts, not off buckets and masks."""
    prefix, own = own_rows(layout)
    sees = {row: list(range(row + 1)) for row in range(prefix)}
    for each in own:
        sees |= {row: [*range(prefix), *each[: i + 1]] for i, row in enumerate(each)}
    asking = [each[-1] for each in own] if last else sorted(sees)
    out = torch.empty_like(given.q)
    for g in range(len(given.q)):
        for place, row in enumerate(asking):
            heads = []
            for h in range(HEADS):
                part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
                k, v = (side[sees[row], part] for side in given.kv[g].chunk(2, -1))
                k, v = torch.cat([given.start[0, h], k]), torch.cat([given.start[1, h], v])
                heads.append((k @ given.q[g, place, part] / (WIDTH / HEADS) ** 0.5).softmax(0) @ v)
            out[g, place] = torch.cat(heads)
    return out


def with_gradients(out: Tensor, given: Inputs) -> tuple[Tensor, ...]:
    """The output and the gradients of queries, keys and values along a random direction."""
    direction = random(*given.q.shape, seed=9).to(out)
    return out.detach(), *torch.autograd.grad((out * direction).sum(), (given.q, given.kv))


def leaves(given: Inputs) -> Inputs:
    return replace(given, q=given.q.requires_grad_(), kv=given.kv.requires_grad_())


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
        return attend(q, kv, given.start, given.plan)

    # Along random directions; the next test compares entry by entry.
    assert torch.autograd.gradcheck(of, (given.q.requires_grad_(), given.kv.requires_grad_()), fast_mode=True)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_gradient_is_that_of_the_naive_loop_in_every_entry(name: str, last: bool, groups: int) -> None:
    given = leaves(inputs(LAYOUTS[name], last=last, groups=groups))
    ours = with_gradients(attend(*given.all), given)
    # The naive loop writes into one tensor, which autograd follows.
    theirs = with_gradients(naive(LAYOUTS[name], given, last=last), given)
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
    given = inputs(LAYOUTS["shared in front"], last=False, dtype=torch.float32)
    assert attend(given.q * 1e4, given.kv, given.start, given.plan).isfinite().all()


def test_contexts_of_several_groups_do_not_see_each_other() -> None:
    layout = LAYOUTS["shared in front"]
    given = inputs(layout, last=False)
    both, alone = attend(*given.all), inputs(layout, last=False, groups=1).plan
    for g in range(2):
        one = attend(given.q[g : g + 1], given.kv[g : g + 1], given.start, alone)
        torch.testing.assert_close(both[g : g + 1], one)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_half_precision_stays_half_and_close(name: str, last: bool, dtype: torch.dtype) -> None:
    exact, half = (leaves(inputs(LAYOUTS[name], last=last, dtype=each)) for each in (torch.float64, dtype))
    expected = with_gradients(attend(*exact.all), exact)
    found = with_gradients(attend(*half.all), half)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() <= 4 * torch.finfo(dtype).eps * other.norm()


@pytest.mark.parametrize("last", [False, True])
def test_nothing_is_left_on_another_device(last: bool) -> None:
    """Stands in for a GPU: an operation between a meta tensor and one on the CPU raises."""
    given = leaves(inputs(LAYOUTS["some alike"], last=last, device=torch.device("meta")))
    out = attend(*given.all)
    assert (out.shape, out.device.type) == (given.q.shape, "meta")
    for leaf, gradient in zip(
        (given.q, given.kv), torch.autograd.grad(out.sum(), (given.q, given.kv)), strict=True
    ):
        assert (gradient.shape, gradient.device.type) == (leaf.shape, "meta")
