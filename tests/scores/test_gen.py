"""GEN against naive loops and published values, closed forms, and digits that a plain 1 - p would lose."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference_vectors
from activation_samples import FEATURES, HEADS, naive_layer, naive_logits, naive_unit
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import UsageError
from lsncli.scores import ready
from lsncli.scores.gen import Gen
from lsncli.types import Head

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


def naive(head, features, gamma, top):
    layer = naive_layer(head)
    found = []
    for x in naive_unit(features):
        logits = sorted(naive_logits(*layer, x), reverse=True)
        weights = [math.exp(value - logits[0]) for value in logits]
        total = math.fsum(weights)
        others = [math.fsum(weights[:c] + weights[c + 1 :]) for c in range(len(weights))]
        pairs = list(zip(weights, others, strict=True))[:top]
        found.append(-math.fsum((w / total * (o / total)) ** gamma for w, o in pairs))
    return found


def test_published_values_are_reproduced():
    reference_vectors.check("gen", [-1.64681018, -1.73834229, -1.56498151, -1.28272944], top=2)
    all_three = [-2.32536087, -2.53679293, -2.21016645, -1.80277880]
    reference_vectors.check("gen", all_three, top=3)
    reference_vectors.check("gen", all_three)  # top = 100 is more than there are classes


@each_head
@pytest.mark.parametrize("gamma", [0.01, 0.1, 0.9])
@pytest.mark.parametrize("top", [1, 2, 6, 7, 100])
def test_scores_equal_a_naive_loop(head, gamma, top):
    expected = naive(head, FEATURES, gamma, top)
    assert ready(Gen(gamma, top), head)(FEATURES) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_equal_probabilities_give_the_closed_form(classes):
    head = Head(tuple(map(str, range(classes))), np.tile([[1.0, 0.0]], (classes, 1)))
    expected = -classes * ((classes - 1) / classes**2) ** 0.1
    assert ready(Gen(), head)(np.array([[2.0, 1.0]])) == pytest.approx([expected], rel=1e-14)


@given(apart=st.floats(0, 300))
def test_of_two_classes_the_probability_of_the_other_is_not_lost(apart):
    """p (1 - p) = 1 / (2 + 2 cosh d). A plain 1 - p is zero from d = 37 on; CLIP's d are up to 200."""
    head = Head(("a", "b"), np.array([[1.0, 0.0], [0.0, 0.0]]), scale=apart)
    expected = -2 / (2 + 2 * math.cosh(apart)) ** 0.1
    assert ready(Gen(), head)(np.array([[1.0, 0.0]])) == pytest.approx([expected], rel=1e-10)


@given(top=st.integers(1, 8))
def test_each_further_class_adds_entropy(head, features, top):
    fewer, more = (ready(Gen(top=count), head)(features) for count in (top, top + 1))
    assert (more <= fewer).all()
    assert (fewer <= 0).all()


def test_sharper_logits_are_less_uncertain(head, features):
    soft, sharp = (ready(Gen(), replace(head, scale=scale))(features) for scale in (10.0, 100.0))
    assert (sharp > soft).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gamma": 0.0}, "'gamma' must be between 0 and 1, found 0.0"),
        ({"gamma": 1.0}, "'gamma' must be between 0 and 1, found 1.0"),
        ({"gamma": math.nan}, "'gamma' must be between 0 and 1, found nan"),
        ({"top": 0}, "'top' must be at least 1, found 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Gen(**settings)
