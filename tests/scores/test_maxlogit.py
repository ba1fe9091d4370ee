"""MaxLogit against closed forms and a naive maximum."""

import numpy as np
import pytest

from lsncli.scores.maxlogit import MaxLogit


def test_scores_equal_a_naive_maximum(head, features, yes):
    expected = [100 * max(row) for row in yes]
    assert MaxLogit().scorer(head, {})(features) == pytest.approx(expected, abs=1e-10)


def test_a_class_prompt_itself_scores_the_scale(corners):
    assert MaxLogit().scorer(corners, {})(corners.weights) == pytest.approx([100.0] * 5)


def test_a_feature_opposite_to_every_class_scores_below_zero(corners):
    assert MaxLogit().scorer(corners, {})(-np.ones((1, 6))) == pytest.approx([-100 / 6**0.5])
