"""VRA against a naive loop, ReAct, Energy, and by hand."""

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
from lsncli.scores.vra import Vra
from lsncli.types import Head, Rows

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


@each_head
@pytest.mark.parametrize(("low", "high"), [(10.0, 90.0), (0.0, 70.0), (33.3, 100.0), (60.0, 61.0)])
def test_scores_equal_a_naive_loop(head, low, high):
    entries = [v for x in naive_unit(TRAIN.features) for v in x]
    a, b = naive_percentile(entries, low), naive_percentile(entries, high)
    layer = naive_layer(head)
    expected = [naive_energy(*layer, [min(max(v, a), b) for v in x]) for x in naive_unit(FEATURES)]
    assert ready(Vra(low, high), head, TRAIN)(FEATURES) == pytest.approx(expected, rel=1e-10)


@each_head
def test_training_images_cut_at_their_extremes_have_their_energy(head):
    found = ready(Vra(0.0, 100.0), head, TRAIN)(TRAIN.features)
    assert found == pytest.approx(ready(Energy(), head)(TRAIN.features), rel=1e-12)


@each_head
@pytest.mark.parametrize("high", [50.0, 90.0])
def test_training_images_not_cut_from_below_have_the_score_of_react(head, high):
    found = ready(Vra(0.0, high), head, TRAIN)(TRAIN.features)
    assert found == pytest.approx(ready(React(high), head, TRAIN)(TRAIN.features), rel=1e-12)


def test_both_ends_are_cut_to_the_ends_of_the_range():
    head = Head(("a", "b"), np.array([[1.0, 0.0], [0.0, 1.0]]), scale=1.0)
    scorer = Vra().scorer(head, {"clip": np.array([-0.2, 0.5])})
    found = scorer(np.array([[0.8, -0.6], [-0.8, 0.6], [0.0, -1.0]]))
    expected = [np.logaddexp(0.5, -0.2), np.logaddexp(-0.2, 0.5), np.logaddexp(0.0, -0.2)]
    assert found == pytest.approx(expected, rel=1e-14)


def test_what_is_learned_is_a_range_and_labels_are_not_looked_at():
    learned = Vra().fit(TEXT, TRAIN)
    unlabelled = Rows(TRAIN.features, np.full(90, -1, dtype=np.int32))
    assert learned["clip"].shape == (2,)
    assert -1 < learned["clip"][0] < 0 < learned["clip"][1] < 1
    assert np.array_equal(learned["clip"], Vra().fit(TEXT, unlabelled)["clip"])


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-1.0, 90.0, "'low' must be a number from 0 to 100"),
        (10.0, 100.5, "'high' must be a number from 0 to 100"),
        (10.0, np.nan, "'high' must be a number from 0 to 100"),
        (90.0, 10.0, "'low' must be below 'high', found low = 90.0 and high = 10.0"),
        (50.0, 50.0, "'low' must be below 'high'"),
    ],
)
def test_percentiles_that_are_no_range_are_refused(low, high, words):
    with pytest.raises(UsageError, match=words):
        Vra(low, high)


def test_training_features_of_another_model_are_refused_by_vra():
    with pytest.raises(LsnError, match="Expected features of 12 dimensions"):
        Vra().fit(TEXT, Rows(TRAIN.features[:, :5], TRAIN.labels))


def test_the_percentiles_are_openoods_unless_told_otherwise():
    assert (Vra().low, Vra().high) == (10, 90)
