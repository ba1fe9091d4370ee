"""ODIN against a naive softmax, MSP, its linear limit, and its refusals."""

import math

import numpy as np
import pytest
from activation_samples import FEATURES, HEADS, naive_layer, naive_logits, naive_unit
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import UsageError
from lsncli.scores.msp import Msp
from lsncli.scores.odin import Odin

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


@each_head
@pytest.mark.parametrize("tau", [1.0, 30.0, 1000.0])
def test_scores_equal_a_naive_softmax(head, tau, softmax):
    layer = naive_layer(head)
    expected = [max(softmax([v / tau for v in naive_logits(*layer, x)])) for x in naive_unit(FEATURES)]
    assert Odin(tau=tau).scorer(head, {})(FEATURES) == pytest.approx(expected, rel=1e-12)


@each_head
def test_at_temperature_one_it_is_msp(head):
    assert np.array_equal(Odin(tau=1.0).scorer(head, {})(FEATURES), Msp().scorer(head, {})(FEATURES))


def test_at_high_temperature_it_is_the_lead_of_the_largest_logit_over_the_mean(corners):
    rows = np.abs(np.random.default_rng(3).normal(size=(20, 6)))
    cosine = (rows / np.linalg.norm(rows, axis=1, keepdims=True))[:, :5]
    lead = 100 * (cosine.max(axis=1) - cosine.mean(axis=1))
    found = Odin(tau=1e6).scorer(corners, {})(rows)
    assert (5 * found - 1) * 1e6 == pytest.approx(lead, rel=1e-3)


@given(eps=st.floats(0, 1))
def test_the_perturbation_is_not_the_scorers_business(eps):
    scorer = Odin(eps=eps).scorer(HEADS[0], {})
    assert np.array_equal(scorer(FEATURES), Odin().scorer(HEADS[0], {})(FEATURES))


def test_what_the_stored_form_leaves_out_is_said():
    assert "pixels" in Odin.REDUCED
    assert not Odin.NEEDS
    assert Odin().eps == 0


@pytest.mark.parametrize("eps", [-1e-9, math.nan, math.inf])
def test_a_perturbation_that_cannot_be_meant_is_refused(eps):
    with pytest.raises(UsageError, match="'eps' must be a finite number of at least 0"):
        Odin(eps=eps)


def test_an_odin_temperature_of_zero_is_refused():
    with pytest.raises(UsageError, match="'tau' must be a finite number above 0"):
        Odin(tau=0.0)
