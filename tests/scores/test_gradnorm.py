"""GradNorm against autograd, a naive loop, and closed forms."""

import math

import numpy as np
import pytest
import torch
from activation_samples import FEATURES, HEADS, naive_layer, naive_logits, naive_unit
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import UsageError
from lsncli.scores.gradnorm import GradNorm

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


@each_head
@pytest.mark.parametrize("tau", [0.5, 1.0, 20.0])
def test_scores_equal_the_gradient_that_autograd_finds(head, tau):
    weights, bias = naive_layer(head)
    found = GradNorm(tau=tau).scorer(head, {})(FEATURES)
    for score, x in zip(found, naive_unit(FEATURES), strict=True):
        layer = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
        logits = layer @ torch.tensor(x, dtype=torch.float64) + torch.tensor(bias, dtype=torch.float64)
        (-torch.log_softmax(logits / tau, 0)).sum().backward()
        assert score == pytest.approx(layer.grad.abs().sum().item(), rel=1e-10)


@each_head
@pytest.mark.parametrize("tau", [1.0, 7.0])
def test_scores_equal_a_naive_loop(head, tau, softmax):
    weights, bias = naive_layer(head)
    expected = []
    for x in naive_unit(FEATURES):
        chances = softmax([value / tau for value in naive_logits(weights, bias, x)])
        expected.append(sum(abs(v) for v in x) * sum(abs(len(chances) * p - 1) for p in chances) / tau)
    assert GradNorm(tau=tau).scorer(head, {})(FEATURES) == pytest.approx(expected, rel=1e-10)


def test_an_image_of_no_class_does_not_pull(corners):
    assert GradNorm().scorer(corners, {})(np.eye(6)[5:]) == pytest.approx([0.0], abs=1e-14)


def test_a_certain_image_pulls_twice_the_other_classes_times_its_spread(corners):
    spread = np.array([[1.0, 0, 0, 0, 0, 0], [3.0, 0, 0, 0, 0, 4.0]])
    assert GradNorm().scorer(corners, {})(spread) == pytest.approx([8.0, 8.0 * 1.4], rel=1e-12)


@given(tau=st.floats(1e-2, 1e3))
def test_scores_lie_between_zero_and_the_bound(tau):
    found = GradNorm(tau=tau).scorer(HEADS[0], {})(FEATURES)
    assert (found >= 0).all()
    assert (found <= 2 * 6 * math.sqrt(12) / tau * (1 + 1e-12)).all()


def test_prompts_that_depend_on_the_image_are_scored_from_their_logits(head, conditional, features):
    assert np.array_equal(GradNorm().scorer(conditional, {})(features), GradNorm().scorer(head, {})(features))


@pytest.mark.parametrize("tau", [0.0, -1.0, math.inf])
def test_a_gradnorm_temperature_that_is_not_positive_is_refused(tau):
    with pytest.raises(UsageError, match="'tau' must be a finite number above 0"):
        GradNorm(tau=tau)
