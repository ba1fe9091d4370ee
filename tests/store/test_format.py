"""What makes a split valid, and its checksum."""

import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import split

from lsncli.errors import UsageError
from lsncli.store.format import (
    MAX_COSINE_LOSS,
    Checksum,
    check_split_name,
    is_storable,
    shortest_safe_length,
    split_problems,
)
from lsncli.types import Failure


def test_a_sound_split_has_no_problems() -> None:
    assert split_problems(split(), 4) == []
    assert split_problems(split(rows=0), 4) == []


def test_rows_carry_features_and_labels() -> None:
    content = split()
    assert content.rows.features is content.features
    assert content.rows.labels is content.labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((6, 5), np.float16)}, "must be (rows, 4), found (6, 5)"),
        ({"features": np.zeros((6, 4), np.float32)}, "must be float16, found float32"),
        ({"labels": np.zeros(6, np.int64)}, "must be int32, found int64"),
        ({"labels": np.zeros(5, np.int32)}, "must be equally many, found 6, (5,) and 6"),
        ({"keys": ("a",)}, "must be equally many"),
        ({"labels": np.full(6, 2, np.int32)}, "labels must lie in -1..1, found 2..2"),
        ({"labels": np.full(6, -2, np.int32)}, "labels must lie in -1..1, found -2..-2"),
        ({"classes": ()}, "labels must lie in -1..-1"),
        ({"keys": tuple("aabcde")}, "the key 'a' occurs 2 times"),
        ({"classes": ("x", "x")}, "the class 'x' occurs 2 times"),
        ({"keys": ("a", "b", "c", "d", "e", "\0")}, "cannot be stored"),
        ({"failures": (Failure("a", "\ud800"),)}, "cannot be stored"),
        ({"source": "x" * 40_000}, "the source must be at most 32768 bytes long"),
        ({"features": np.full((6, 4), np.inf, np.float16)}, "6 rows are not finite"),
        ({"features": np.zeros((6, 4), np.float16)}, "6 rows are all zero"),
    ],
)
def test_a_broken_split_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    assert any(message in problem for problem in split_problems(replace(split(), **change), 4))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "x" * 65, "a\n", "train.lock"])
def test_names_that_cannot_be_files_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        check_split_name(name)


@pytest.mark.parametrize("name", ["train", "a-b_c.D9", "x" * 64, ".hidden"])
def test_plain_names_are_accepted(name: str) -> None:
    check_split_name(name)


@given(st.text())
def test_storable_texts_are_those_that_come_back(text: str) -> None:
    try:
        back = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        back = None
    assert is_storable(text) == (back == text and "\0" not in text)


def test_an_escaped_byte_pair_that_is_a_letter_would_not_come_back() -> None:
    assert not is_storable("\udcc3\udca9")  # its bytes are those of é
    assert is_storable("\udcc3")


@given(st.lists(st.integers(0, 6), max_size=4))
def test_the_checksum_does_not_see_how_rows_were_cut(cuts: list[int]) -> None:
    content = split()
    borders = [0, *sorted(cuts), 6]
    total = Checksum()
    for start, stop in pairwise(borders):
        total.add(content.features[start:stop], content.labels[start:stop], content.keys[start:stop])
    parts = [
        content.features.tobytes(),
        content.labels.tobytes(),
        b"".join(key.encode("utf-8", "surrogateescape") + b"\0" for key in content.keys),
    ]
    expected = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    assert total.hexdigest() == expected


@pytest.mark.parametrize("dim", [4, 64, 512])
def test_features_of_the_shortest_length_keep_their_direction_in_float16(dim: int) -> None:
    def lost(length: float) -> float:
        wide = np.random.default_rng(dim).normal(size=(200, dim))
        wide *= length / np.linalg.norm(wide, axis=1, keepdims=True)
        half = wide.astype(np.float16).astype(np.float64)
        cosines = (wide * half).sum(axis=1) / length / np.linalg.norm(half, axis=1)
        return float((1 - cosines).max())

    assert 0 < lost(shortest_safe_length(dim)) <= MAX_COSINE_LOSS
    assert lost(shortest_safe_length(dim) / 4) > MAX_COSINE_LOSS
