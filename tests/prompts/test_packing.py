"""Packed rows: nothing is lost, nothing is twice, and what prompts share is there once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tower_samples import CLASSES, START, VOCABULARY, tokenize

from lsncli.prompts.attention import Bucket
from lsncli.prompts.layout import PromptLayout, context_layout, text_layout
from lsncli.prompts.packing import Packing, pack, packed_rows

CPU = torch.device("cpu")


def contents(packing: Packing, layout: PromptLayout) -> list[tuple[int, int]]:
    """The token and the position of every packed row; ~j for vector j of a context."""
    own = [~(v % layout.length if layout.specific else v) for v in packing.learned.tolist()]
    return [
        *zip(packing.prefix, range(1, 1 + len(packing.prefix)), strict=True),
        *zip(own, packing.learned_positions.tolist(), strict=True),
        *zip(packing.frozen.tolist(), packing.frozen_positions.tolist(), strict=True),
    ]


def own_rows(packing: Packing) -> dict[int, list[int]]:
    """For each class the packed rows that are its own, in the order of its prompt, read off the buckets."""
    own = {}
    for each, end in zip(*class_buckets(packing), strict=True):
        assert len(each.rows) == len(end.asking)
        own |= {int(c): rows for (c,), rows in zip(end.asking.tolist(), each.rows.tolist(), strict=True)}
    return own


def class_buckets(packing: Packing) -> tuple[tuple[Bucket, ...], tuple[Bucket, ...]]:
    """Those of all layers but the last, and of the last, without the prefix."""
    first = 1 if packing.prefix else 0
    return packing.all_rows[first:], packing.ends_only[first:]


def check(layout: PromptLayout) -> Packing:
    """Everything that must hold for any layout."""
    packing = pack(layout, CPU)
    rows, own = contents(packing, layout), own_rows(packing)
    prefix = len(packing.prefix)
    assert len(rows) == packed_rows(layout)
    assert sorted(own) == list(range(len(layout.prompts)))
    for c, prompt in enumerate(layout.prompts):
        assert prompt[0] == START  # which has no row
        seen = [*range(prefix), *own[c]]
        assert [rows[row] for row in seen] == list(zip(prompt[1:], range(1, len(prompt)), strict=True))
        assert packing.ends[c] == own[c][-1]
    everything = sorted(row for each in own.values() for row in each)
    assert everything == list(range(prefix, len(rows)))  # each own row belongs to one class
    check_buckets(packing)
    learned = packing.learned.tolist()
    if learned:  # every class has the vectors of a shared context once, in the same order
        times = len(learned) // packing.period
        assert learned == learned[: packing.period] * times
        assert len(set(learned)) == packing.period
        assert times == (1 if layout.specific else len(layout.prompts))
    if layout.specific:  # vector j of class c is the c * M + j th of them all
        owner = {row: c for c, each in own.items() for row in each}
        for i, vector in enumerate(packing.learned.tolist()):
            assert vector // layout.length == owner[prefix + i]
    return packing


def check_buckets(packing: Packing) -> None:
    prefix = len(packing.prefix)
    if prefix:
        own, end = packing.all_rows[0], packing.ends_only[0]
        assert own.rows.tolist() == end.rows.tolist() == [list(range(prefix))]
        assert (own.prefix, end.prefix) == (0, 0)
        check_mask(own)
        assert end.asking.shape == (1, 0)  # in the last layer no row of the prefix asks
        assert end.mask.shape == (0, 1 + prefix)
    every, last = class_buckets(packing)
    lengths = [bucket.rows.shape[1] for bucket in every]
    assert lengths == sorted(set(lengths))  # classes with equally many rows are together, the shortest first
    for bucket, end in zip(every, last, strict=True):
        assert bucket.prefix == end.prefix == prefix
        assert torch.equal(bucket.rows, end.rows)
        assert torch.equal(bucket.rows, bucket.asking)
        check_mask(bucket)
        assert torch.equal(end.mask, torch.zeros(1, 1 + prefix + bucket.rows.shape[1]))


def check_mask(bucket: Bucket) -> None:
    """A row sees the start of text, the prefix, and its own class's rows up to itself."""
    own = bucket.rows.shape[1]
    assert bucket.mask.shape == (own, 1 + bucket.prefix + own)
    for i, row in enumerate(bucket.mask.tolist()):
        assert [k for k, value in enumerate(row) if value == 0] == list(range(1 + bucket.prefix + i + 1))
    assert set(bucket.mask.unique().tolist()) <= {0.0, float("-inf")}


@given(
    names=st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=6),
    length=st.integers(1, 4),
    position=st.sampled_from(["end", "middle", "front"]),
    specific=st.booleans(),
)
def test_every_token_of_every_prompt_is_packed_exactly_once(names, length, position, specific) -> None:
    check(context_layout(VOCABULARY, names, length, position=position, specific=specific))


@given(texts=st.lists(st.text("ab", max_size=6), min_size=1, max_size=6))
def test_plain_texts_are_packed_too(texts) -> None:
    packing = check(text_layout(VOCABULARY, texts))
    assert len(packing.learned) == 0


def test_a_shared_context_in_front_is_computed_once() -> None:
    packing = check(context_layout(VOCABULARY, CLASSES, 5))
    assert packing.prefix == (~0, ~1, ~2, ~3, ~4)
    assert len(packing.learned) == 0
    assert len(packing.frozen) == sum(len(tokenize(name)) + 2 for name in CLASSES)


def test_contexts_of_their_own_are_never_shared() -> None:
    packing = check(context_layout(VOCABULARY, CLASSES, 5, specific=True))
    assert packing.prefix == ()
    assert packing.learned.tolist() == list(range(15))
    same = check(context_layout(VOCABULARY, ["ox", "ox"], 2, position="front", specific=True))
    assert same.prefix == tuple(tokenize("ox"))


@pytest.mark.parametrize(
    ("position", "names", "shared"),
    [
        ("end", ["oxen", "ox"], (~0, ~1, *tokenize("ox"))),  # names that begin alike, too
        ("middle", ["ox", "hen"], (~0,)),
        ("middle", ["hen", "hex"], (~0, *tokenize("he"))),
        ("front", ["ox", "hen"], ()),
        ("front", ["ox", "ox"], (*tokenize("ox"), ~0, ~1, *tokenize("."))),  # but each has its own end
    ],
)
def test_exactly_what_all_prompts_begin_with_is_shared(position, names, shared) -> None:
    assert check(context_layout(VOCABULARY, names, 2, position=position)).prefix == shared


def test_a_single_prompt_is_all_prefix_but_its_end() -> None:
    packing = check(context_layout(VOCABULARY, ["hen"], 3))
    assert packing.prefix == (~0, ~1, ~2, *tokenize("hen."))
    assert packing.ends.tolist() == [len(packing.prefix)]


def test_texts_with_equal_words_in_front_share_them() -> None:
    packing = check(text_layout(VOCABULARY, ["a photo of a hen", "a photo of an ox", "a photo of"]))
    assert packing.prefix == tuple(tokenize("aphotoof"))


def test_classes_with_equally_many_rows_are_in_one_bucket_in_their_order() -> None:
    packing = check(context_layout(VOCABULARY, ["hen", "ox", "beaver", "ax", "hex"], 2, specific=True))
    _, ends = class_buckets(packing)
    assert [end.asking.flatten().tolist() for end in ends] == [[1, 3], [0, 4], [2]]


def test_everything_lies_on_the_towers_device_in_its_precision() -> None:
    packing = pack(context_layout(VOCABULARY, CLASSES, 2), torch.device("meta"), torch.bfloat16)
    tensors = [value for value in vars(packing).values() if isinstance(value, torch.Tensor)]
    for bucket in (*packing.all_rows, *packing.ends_only):
        tensors += [bucket.rows, bucket.asking, bucket.mask]
        assert bucket.mask.dtype == torch.bfloat16
    assert {tensor.device.type for tensor in tensors} == {"meta"}
