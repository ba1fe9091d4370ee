"""DualCoOp's score against plain loops, closed forms, and what it must not depend on."""

import math

import numpy as np
import pytest

from lsncli.errors import LsnError, UsageError
from lsncli.scores.dualcoop import DualCoOp
from lsncli.types import Head, unit


def naive(yes, no, tau):
    """The largest mean over sets of the softmax of a pair, for one image."""
    sets = range(len(no))
    chances = []
    for c, value in enumerate(yes):
        pairs = [(math.exp(value / tau), math.exp(no[k][c] / tau)) for k in sets]
        chances.append(math.fsum(a / (a + b) for a, b in pairs) / len(pairs))
    return max(chances)


@pytest.mark.parametrize("tau", [1.0, 0.05])
def test_it_equals_a_naive_reference(head, features, yes, no, tau):
    found = DualCoOp(tau).scorer(head, {})(features)
    for i, score in enumerate(found):
        assert score == pytest.approx(naive(yes[i], [one[i] for one in no], tau), rel=1e-6)


def test_it_equals_a_naive_reference_on_a_linear_head(features):
    random = np.random.default_rng(8)
    weights, bias = random.normal(size=(4, 12)), random.normal(size=4)
    linear = Head(tuple("abcd"), weights, 1.0, unit(random.normal(size=(1, 4, 12))), bias)
    for feature, score in zip(features, DualCoOp().scorer(linear, {})(features), strict=True):
        x = unit(feature)
        logits = [float(w @ x) + b for w, b in zip(weights, bias, strict=True)]
        assert score == pytest.approx(
            naive(logits, [[float(n @ x) for n in linear.negative[0]]], 1), rel=1e-6
        )


def test_a_half_means_neither_prompt_is_nearer(corners):
    # An image as far from the positive as from the negative prompt of every class.
    assert DualCoOp().scorer(corners, {})(np.eye(6)[5:]) == pytest.approx([0.5], abs=1e-15)


def test_closed_form_of_one_pair():
    head = Head(("a",), np.array([[1.0, 0.0]]), 100.0, np.array([[[0.0, 1.0]]]))
    found = DualCoOp(tau=0.5).scorer(head, {})(np.array([[3.0, 0.0], [0.0, 2.0]]))
    assert found == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))], rel=1e-14)


def test_the_temperature_does_not_change_the_ranking_of_one_pair(head, features):
    pair = Head(head.classes, head.weights, head.scale, head.negative[:1])
    order = [np.argsort(DualCoOp(tau).scorer(pair, {})(features)).tolist() for tau in (1.0, 0.1)]
    assert order[0] == order[1]


def test_unlikely_images_keep_their_order_at_the_training_temperature():
    head = Head(("a",), np.array([[1.0, 0.0]]), 100.0, np.array([[[-1.0, 0.0]]]))
    scores = DualCoOp(0.01).scorer(head, {})(np.array([[-1.0, 0.1], [-1.0, 0.0]]))
    assert scores[0] > scores[1] > 0


def test_what_cannot_be_meant_is_refused(head):
    with pytest.raises(UsageError, match="'tau' must be a finite number above 0"):
        DualCoOp(0.0)
    with pytest.raises(LsnError, match="'dualcoop' needs negative prompts"):
        DualCoOp().scorer(Head(head.classes, head.weights), {})
