"""What a prompt is made of, token by token."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tower_samples import CLASSES, END, LONGEST, START, STOP, VOCABULARY, tokenize

from lsncli.errors import LsnError, UsageError
from lsncli.prompts.layout import context_layout, text_layout

OX, HEN = (15, 24), (8, 5, 14)
V1, V2, V3 = ~0, ~1, ~2


@pytest.mark.parametrize(
    ("position", "body"),
    [
        ("end", (V1, V2, V3, *HEN, STOP)),
        ("middle", (V1, *HEN, V2, V3, STOP)),
        ("front", (*HEN, V1, V2, V3, STOP)),
    ],
)
@pytest.mark.parametrize("specific", [False, True])
def test_the_name_stands_behind_amid_or_before_the_context(position, body, specific: bool) -> None:
    layout = context_layout(VOCABULARY, ["hen"], 3, position=position, specific=specific)
    assert layout.prompts == ((START, *body, END),)
    assert (layout.length, layout.specific) == (3, specific)


def test_names_can_be_left_out_if_every_class_has_its_own_context() -> None:
    for position in ("end", "middle", "front"):
        layout = context_layout(VOCABULARY, CLASSES, 2, position=position, names=False, specific=True)
        assert layout.prompts == ((START, V1, V2, STOP, END),) * 3


def test_a_shared_context_without_names_would_make_all_prompts_alike() -> None:
    with pytest.raises(UsageError, match=r"^Prompts without class names need a context") as caught:
        context_layout(VOCABULARY, CLASSES, 2, names=False)
    assert "--specific" in caught.value.hint


def test_plain_texts_are_their_words() -> None:
    layout = text_layout(VOCABULARY, ["an ox", ""])
    assert layout.prompts == ((START, 1, 14, *OX, END), (START, END))
    assert (layout.length, layout.specific) == (0, False)


def test_texts_without_a_start_begin_with_their_first_word() -> None:
    layout = context_layout(replace(VOCABULARY, start=()), ["ox"], 1)
    assert layout.prompts == ((V1, *OX, STOP, END),)


def test_a_part_is_some_of_the_classes() -> None:
    layout = context_layout(VOCABULARY, CLASSES, 2, specific=True)
    part = layout.part(1, 3)
    assert part.prompts == layout.prompts[1:]
    assert (part.length, part.specific) == (2, True)


def test_a_prompt_that_does_not_fit_is_named_in_one_sentence() -> None:
    room = LONGEST - 3  # start, full stop, end
    assert len(context_layout(VOCABULARY, ["ox"], room - 2).prompts[0]) == LONGEST
    with pytest.raises(LsnError) as caught:
        context_layout(VOCABULARY, ["ox", "hen"], room - 2)
    assert caught.value.message == (
        "Text tower: a context of 15 with class 'hen' needs 21 tokens, but it reads at most 20."
    )
    assert caught.value.hint == "Shorten the class name or use a shorter context."
    with pytest.raises(LsnError, match=f"^Text tower: the text '{'x' * 19}' needs 21 tokens"):
        text_layout(VOCABULARY, ["short", "x" * 19])


def test_embeddings_are_rows_of_the_table() -> None:
    assert torch.equal(VOCABULARY.embed([3, 3, 0]), VOCABULARY.embedding[[3, 3, 0]])
    assert VOCABULARY.embed([]).shape == (0, VOCABULARY.width)


@given(
    names=st.lists(st.text("abcz", min_size=1, max_size=6), min_size=1, max_size=5),
    length=st.integers(0, 10),
    position=st.sampled_from(["end", "middle", "front"]),
    specific=st.booleans(),
)
def test_every_prompt_has_each_vector_once_in_order_around_its_name(
    names, length, position, specific
) -> None:
    layout = context_layout(VOCABULARY, names, length, position=position, specific=specific)
    for name, prompt in zip(names, layout.prompts, strict=True):
        assert [~token for token in prompt if token < 0] == list(range(length))
        assert [token for token in prompt if token >= 0] == [START, *tokenize(f"{name}."), END]
        at = prompt.index(tokenize(name)[0]) - 1
        assert at == {"end": length, "middle": length // 2, "front": 0}[position]
