"""MaxCosine against a naive loop, MaxLogit, and what must not change it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from activation_samples import FEATURES, HEADS, LINEAR, TEXT, naive_unit
from hypothesis import given
from hypothesis import strategies as st

from lsncli.scores.maxcosine import MaxCosine
from lsncli.scores.maxlogit import MaxLogit


def scores(head, features=FEATURES):
    return MaxCosine().scorer(head, {})(features)


@pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])
def test_scores_equal_a_naive_loop(head):
    rows = naive_unit(head.weights)
    expected = [
        max(math.fsum(w * v for w, v in zip(row, x, strict=True)) for row in rows)
        for x in naive_unit(FEATURES)
    ]
    assert scores(head) == pytest.approx(expected, rel=1e-12)


def test_of_a_text_head_it_is_maxlogit_without_the_scale():
    assert scores(TEXT) == pytest.approx(MaxLogit().scorer(TEXT, {})(FEATURES) / 100, rel=1e-15)


def test_of_a_linear_head_it_is_not_maxlogit():
    order = MaxLogit().scorer(LINEAR, {})(FEATURES).argsort()
    assert not np.array_equal(scores(LINEAR).argsort(), order)


@given(lengths=st.lists(st.floats(1e-3, 1e3), min_size=7, max_size=7), scale=st.floats(0.1, 100))
def test_lengths_of_rows_the_bias_and_the_scale_do_not_matter(lengths, scale):
    stretched = replace(
        LINEAR, weights=LINEAR.weights * np.array(lengths)[:, None], bias=LINEAR.bias + 5, scale=scale
    )
    assert scores(stretched) == pytest.approx(scores(LINEAR), rel=1e-12)


def test_a_feature_on_a_row_scores_one_and_a_row_of_zeros_scores_zero():
    assert scores(LINEAR, 3 * LINEAR.weights) == pytest.approx([1.0] * 7, rel=1e-12)
    empty = replace(LINEAR, weights=np.zeros((7, 12)))
    assert scores(empty).tolist() == [0.0] * 30


def test_cosines_of_prompts_that_depend_on_the_image_are_taken_as_they_are(head, conditional, features):
    assert np.array_equal(scores(conditional, features), conditional.weights(features).max(axis=1))
    assert np.array_equal(scores(conditional, features), scores(head, features))
