"""MCM against closed forms and a naive softmax."""

import math

import numpy as np
import pytest

from lsncli.errors import UsageError
from lsncli.scores.mcm import Mcm


def test_equal_cosines_give_one_over_the_number_of_classes(corners):
    assert Mcm().scorer(corners, {})(np.eye(6)[5:]) == pytest.approx([1 / 5], abs=1e-15)


@pytest.mark.parametrize("tau", [0.01, 1.0, 7.0])
def test_a_class_prompt_itself_scores_the_softmax_of_one_hot(corners, tau):
    expected = math.exp(1 / tau) / (math.exp(1 / tau) + 4)
    assert Mcm(tau=tau).scorer(corners, {})(corners.weights) == pytest.approx([expected] * 5, abs=1e-15)


@pytest.mark.parametrize("tau", [0.05, 1.0, 2.0])
def test_scores_equal_a_naive_softmax(head, features, yes, softmax, tau):
    expected = [max(softmax([cosine / tau for cosine in row])) for row in yes]
    assert Mcm(tau=tau).scorer(head, {})(features) == pytest.approx(expected, abs=1e-12)


def test_the_logit_scale_of_clip_is_not_used(corners):
    found = Mcm().scorer(corners, {})(corners.weights[:1])
    assert found == pytest.approx([math.e / (math.e + 4)], abs=1e-15)


def test_a_tiny_temperature_does_not_overflow(head, features):
    found = Mcm(tau=1e-6).scorer(head, {})(features)
    assert found == pytest.approx(np.ones(len(features)))


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_is_refused(tau):
    with pytest.raises(UsageError, match="'tau' must be a finite number above 0"):
        Mcm(tau=tau)
