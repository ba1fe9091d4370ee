"""MSP against closed forms and a naive softmax."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lsncli.scores.mcm import Mcm
from lsncli.scores.msp import Msp


def test_equal_logits_give_one_over_the_number_of_classes(corners):
    assert Msp().scorer(corners, {})(np.eye(6)[5:]) == pytest.approx([1 / 5], abs=1e-15)


def test_a_class_prompt_itself_scores_the_softmax_of_the_scale(corners):
    head = replace(corners, scale=3.0)
    assert Msp().scorer(head, {})(head.weights[:1]) == pytest.approx(
        [math.exp(3) / (math.exp(3) + 4)], abs=1e-15
    )


def test_scores_equal_a_naive_softmax(head, features, yes, softmax):
    expected = [max(softmax([100 * cosine for cosine in row])) for row in yes]
    assert Msp().scorer(head, {})(features) == pytest.approx(expected, abs=1e-12)


def test_it_is_mcm_at_one_over_the_scale(head, features):
    assert Msp().scorer(head, {})(features) == pytest.approx(
        Mcm(tau=0.01).scorer(head, {})(features), abs=1e-12
    )
