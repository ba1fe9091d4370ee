"""ReAct against a naive loop, Energy, and its published clip."""

import numpy as np
import pytest
from activation_samples import (
    FEATURES,
    HEADS,
    TEXT,
    TRAIN,
    naive_energy,
    naive_layer,
    naive_percentile,
    naive_unit,
)

from lsncli.errors import LsnError, UsageError
from lsncli.scores import ready
from lsncli.scores.energy import Energy
from lsncli.scores.react import React
from lsncli.types import Head, Rows

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


@each_head
@pytest.mark.parametrize("percentile", [0.0, 30.0, 77.7, 90.0])
def test_scores_equal_a_naive_loop(head, percentile):
    k = naive_percentile([v for x in naive_unit(TRAIN.features) for v in x], percentile)
    layer = naive_layer(head)
    expected = [naive_energy(*layer, [min(v, k) for v in x]) for x in naive_unit(FEATURES)]
    assert ready(React(percentile=percentile), head, TRAIN)(FEATURES) == pytest.approx(expected, rel=1e-10)


@each_head
def test_training_images_clipped_at_their_maximum_have_their_energy(head):
    found = ready(React(percentile=100.0), head, TRAIN)(TRAIN.features)
    assert found == pytest.approx(Energy().scorer(head, {})(TRAIN.features), rel=1e-12)


def test_only_large_activations_are_cut_and_negative_ones_stay():
    head = Head(("a", "b"), np.array([[1.0, 0.0], [0.0, 1.0]]), scale=1.0)
    scorer = React().scorer(head, {"clip": np.array([0.5])})
    found = scorer(np.array([[0.8, -0.6], [-0.8, 0.6]]))
    expected = [np.logaddexp(0.5, -0.6), np.logaddexp(-0.8, 0.5)]
    assert found == pytest.approx(expected, rel=1e-14)


def test_what_is_learned_is_one_activation():
    learned = React().fit(TEXT, TRAIN)
    assert {name: array.shape for name, array in learned.items()} == {"clip": (1,)}
    assert 0 < learned["clip"][0] < 1


def test_labels_are_not_looked_at():
    unlabelled = Rows(TRAIN.features, np.full(90, -1, dtype=np.int32))
    assert React().fit(TEXT, unlabelled) == React().fit(TEXT, TRAIN)


@pytest.mark.parametrize("percentile", [-1.0, 100.1, np.nan])
def test_a_percentile_outside_0_to_100_is_refused(percentile):
    with pytest.raises(UsageError, match="'percentile' must be a number from 0 to 100"):
        React(percentile=percentile)


def test_training_features_of_another_model_are_refused_by_react():
    with pytest.raises(LsnError, match="Expected features of 12 dimensions"):
        React().fit(TEXT, Rows(TRAIN.features[:, :5], TRAIN.labels))


def test_the_percentile_is_the_papers_unless_told_otherwise():
    assert React().percentile == 90
