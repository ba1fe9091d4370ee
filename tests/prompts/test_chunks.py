"""Chunks of classes and contexts: exact whatever the memory, and as few text passes as it allows."""

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from tower_samples import CLASSES, VOCABULARY, WIDTH, random, tower

from lsncli.prompts.layout import Encoder, PromptLayout, Vocabulary, context_layout, text_layout
from lsncli.prompts.text_features import bounded

REAL = tower(torch.float64)


@dataclass(frozen=True)
class CountingTower:
    """A tower of one line, a hundred bytes a class; it writes down the shape of what it encodes."""

    vocabulary: Vocabulary = VOCABULARY
    path: str = "counting"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    calls: list[tuple[int, tuple[tuple[int, ...], ...]]] = field(default_factory=list)
    """Groups and prompts of each call."""

    def activation_bytes(self, layout: PromptLayout) -> int:
        return 100 * len(layout.prompts)

    def encoder(self, layout: PromptLayout, *, raw: bool = False) -> Encoder:
        ends = torch.tensor([prompt[-3] for prompt in layout.prompts], dtype=torch.float64)[:, None]

        def encode(contexts: Tensor) -> Tensor:
            self.calls.append((len(contexts), layout.prompts))
            each = contexts if layout.specific else contexts[:, None].expand(-1, len(ends), -1, -1)
            assert each.shape[1] == len(ends)
            return (each.sum(-2) * ends).sin()

        return encode


def features_and_gradient(
    tower, layout: PromptLayout, memory: int, contexts: Tensor
) -> tuple[Tensor, Tensor]:
    leaf = contexts.clone().requires_grad_()
    features = bounded(tower, layout, memory)(leaf)
    direction = random(*features.shape, seed=7).to(features.dtype)
    (gradient,) = torch.autograd.grad((features * direction).sum(), leaf)
    return features.detach(), gradient


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("position", ["end", "front"])
@pytest.mark.parametrize("groups", [1, 3])
def test_any_memory_gives_the_same_features_and_gradients(specific, position, groups) -> None:
    layout = context_layout(VOCABULARY, CLASSES, 2, position=position, specific=specific)
    contexts = random(groups, *((3,) if specific else ()), 2, WIDTH, seed=4)
    whole = features_and_gradient(REAL, layout, 1 << 30, contexts)
    need = REAL.activation_bytes(layout)
    for memory in (0, 1, need // 2, need, 2 * need, 3 * need):
        found = features_and_gradient(REAL, layout, memory, contexts)
        torch.testing.assert_close(found[0], whole[0], rtol=0, atol=3e-7)  # features are float32
        torch.testing.assert_close(found[1], whole[1], rtol=1e-5, atol=1e-6)


@given(
    count=st.integers(1, 12), groups=st.integers(1, 5), memory=st.integers(0, 7000), specific=st.booleans()
)
def test_every_class_of_every_context_is_encoded_once_a_pass(count, groups, memory, specific) -> None:
    names = [chr(97 + c) for c in range(count)]
    layout = context_layout(VOCABULARY, names, 2, specific=specific)
    contexts = random(groups, *((count,) if specific else ()), 2, WIDTH, seed=count)
    whole = features_and_gradient(CountingTower(), layout, 1 << 30, contexts)
    counting = CountingTower()
    found = features_and_gradient(counting, layout, memory, contexts)
    assert torch.equal(found[0], whole[0])
    torch.testing.assert_close(found[1], whole[1], rtol=1e-12, atol=1e-12)

    # As many passes as the memory asks for: one and no second if all fits at once.
    fits = groups * count * 100 <= memory
    chunks = min(count, -(-count * 100 // max(1, memory)))
    at_once = max(1, memory // -(-count * 100 // chunks))
    one_pass = chunks * -(-groups // at_once)
    assert (one_pass == 1) == (fits or (groups, count) == (1, 1))
    assert len(counting.calls) == (1 if one_pass == 1 else 2 * one_pass)
    for number, prompts in counting.calls:  # classes are dealt out evenly: a chunk can be one over
        assert (number, len(prompts)) == (1, 1) or number * (len(prompts) - 1) * 100 < max(memory, 1)
    per_pass = counting.calls[:one_pass]
    seen = [prompt for number, prompts in per_pass for prompt in prompts * number]
    assert sorted(seen) == sorted(layout.prompts * groups)


def test_without_a_gradient_there_is_no_second_pass() -> None:
    counting = CountingTower()
    with torch.no_grad():
        bounded(counting, context_layout(VOCABULARY, CLASSES, 2), 100)(random(2, 2, WIDTH, seed=1))
    assert len(counting.calls) == 3 * 2


class Tight(CountingTower):
    """Has room for ``ROOM`` prompts, of all groups together."""

    ROOM = 4

    def encoder(self, layout: PromptLayout, *, raw: bool = False) -> Encoder:
        inner = super().encoder(layout)

        def encode(contexts: Tensor) -> Tensor:
            if len(contexts) * len(layout.prompts) > self.ROOM:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return inner(contexts)

        return encode


@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("memory", [1 << 40, 900])
def test_without_a_gradient_chunks_shrink_until_they_fit(groups: int, memory: int) -> None:
    names = [f"{name} {number}" for number in range(3) for name in CLASSES]
    layout = context_layout(VOCABULARY, names, 2)
    contexts = random(groups, 2, WIDTH, seed=1)
    with torch.no_grad():
        found = bounded(Tight(), layout, memory)(contexts)
        expected = bounded(CountingTower(), layout, memory)(contexts)
    assert torch.equal(found, expected)


def test_chunks_shrink_to_one_class_of_one_context_and_no_further() -> None:
    layout = context_layout(VOCABULARY, CLASSES, 2)
    encode, sizes = bounded(CountingTower(), layout, 1 << 40), []
    contexts = random(4, 2, WIDTH, seed=1)
    while True:
        tower = encode._tower
        tower.calls.clear()
        features = encode(contexts)
        sizes.append(max(groups * len(prompts) for groups, prompts in tower.calls))
        if not encode.halve():
            break
        assert encode._memory < 1200
    assert features.shape[:2] == (4, 3)
    assert (sizes[0], sizes[-1]) == (12, 1)
    assert sizes == sorted(sizes, reverse=True)


def test_the_gradient_goes_on_through_what_the_contexts_are_made_of() -> None:
    layout = context_layout(VOCABULARY, CLASSES, 2)
    shift = random(3, 1, WIDTH, seed=2).requires_grad_()
    base = random(1, 2, WIDTH, seed=3).requires_grad_()
    sums = [(bounded(REAL, layout, memory)(base + shift) ** 3).sum() for memory in (0, 1 << 30)]
    found, expected = (torch.autograd.grad(one, (base, shift)) for one in sums)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_plain_texts_without_a_context_can_be_cut_too() -> None:
    layout = text_layout(VOCABULARY, CLASSES)
    nothing = torch.empty(1, 0, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(bounded(REAL, layout, 0)(nothing), REAL.encoder(layout)(nothing))


@pytest.mark.parametrize("specific", [False, True])
def test_a_tower_keeps_no_more_than_it_says(tiny_backbone, specific: bool) -> None:
    model = tiny_backbone.text_tower(kernel="torch")
    names = [f"{name} number {i}" for i in range(10) for name in CLASSES]
    layout = context_layout(model.vocabulary, names, 16, specific=specific)
    kept: dict[int, Tensor] = {}

    def remember(tensor: Tensor) -> Tensor:
        if tensor.ndim > 2:  # weights have one or two dimensions
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    contexts = torch.zeros(1, *((30,) if specific else ()), 16, model.vocabulary.width, requires_grad=True)
    with saved_tensors_hooks(remember, lambda tensor: tensor):
        model.encoder(layout)(contexts)
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert 0.4 < found / model.activation_bytes(layout) <= 1  # the rest is at work or lost to the allocator
