"""Packed rows: nothing is lost, nothing is twice, and what prompts share is there once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tower_samples import CLASSES, START, VOCABULARY, tokenize

from lsncli.prompts.layout import Layout, context_layout, text_layout
from lsncli.prompts.packing import Packing, pack

CPU = torch.device("cpu")


def contents(packing: Packing, layout: Layout) -> list[tuple[int, int]]:
    """The token and the position of every packed row; ~j for vector j of a context."""
    own = [~(v % layout.length if layout.specific else v) for v in packing.learned.tolist()]
    return [
        *zip(packing.prefix, range(1, 1 + len(packing.prefix)), strict=True),
        *zip(own, packing.learned_positions.tolist(), strict=True),
        *zip(packing.frozen.tolist(), packing.frozen_positions.tolist(), strict=True),
    ]


def own_rows(packing: Packing, layout: Layout) -> list[list[int]]:
    """For each class the packed rows that are its own, in the order of its prompt, padding dropped."""
    shared = 1 + len(packing.prefix)
    keys = packing.all_rows.keys.view(len(layout.prompts), -1).tolist()
    return [row[: len(prompt) - shared] for row, prompt in zip(keys, layout.prompts, strict=True)]


def check(layout: Layout) -> Packing:
    """Everything that must hold for any layout."""
    packing = pack(layout, CPU)
    rows, own = contents(packing, layout), own_rows(packing, layout)
    prefix = packing.all_rows.prefix
    for c, prompt in enumerate(layout.prompts):
        assert prompt[0] == START  # which has no row
        seen = [*range(prefix), *own[c]]
        assert [rows[row] for row in seen] == list(zip(prompt[1:], range(1, len(prompt)), strict=True))
        assert packing.ends[c] == own[c][-1]
    everything = sorted(row for each in own for row in each)
    assert everything == list(
        range(prefix, len(rows))
    )  # each own row belongs to one class, each class's to it
    check_maps(packing, [len(each) for each in own])
    if layout.specific:  # vector j of class c is the c * M + j th of them all
        owner = {row: c for c, each in enumerate(own) for row in each}
        for i, vector in enumerate(packing.learned.tolist()):
            assert vector // layout.length == owner[prefix + i]
    return packing


def check_maps(packing: Packing, lengths: list[int]) -> None:
    for maps, queries in ((packing.all_rows, max(lengths)), (packing.ends_only, 1)):
        prefix, classes, longest = maps.prefix, len(lengths), max(lengths)
        assert torch.equal(maps.keys[maps.keys_back], torch.arange(prefix, prefix + sum(lengths)))
        assert len(maps.keys) == classes * longest
        assert len(maps.queries) == classes * queries
        own = maps.own_mask
        assert own.shape in [(classes, queries, longest)]
        for c, n in enumerate(lengths):
            for i in range(queries):
                last = n - 1 if maps is packing.ends_only else i
                sees = [r for r in range(longest) if own[c, i, r] == 0]
                assert sees == list(range(min(last + 1, n)))
        assert set(own.unique().tolist()) <= {0.0, float("-inf")}
    assert torch.equal(packing.all_rows.queries, packing.all_rows.keys)
    # In the last layer query c is that of class c, and no row of the prefix asks.
    assert packing.ends_only.queries.tolist() == packing.ends_only.queries_back.tolist()
    assert packing.ends_only.queries.tolist() == list(range(len(lengths)))
    assert packing.ends_only.prefix_mask.shape[0] == 0
    for i, row in enumerate(
        packing.all_rows.prefix_mask.tolist()
    ):  # the start of text, then itself and before
        assert [k for k, value in enumerate(row) if value == 0] == list(range(i + 2))


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
