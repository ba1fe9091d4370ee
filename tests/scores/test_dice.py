"""DICE against a naive loop, a hand-made mask, and what its percentile promises."""

from dataclasses import replace

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
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError, UsageError
from lsncli.scores import common, ready
from lsncli.scores.dice import Dice
from lsncli.types import Head, Rows

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


@each_head
@pytest.mark.parametrize("percentile", [0.0, 50.0, 70.0, 90.0])
def test_scores_equal_a_naive_loop(head, percentile):
    weights, bias = naive_layer(head)
    rows = naive_unit(TRAIN.features)
    mean = [sum(x[d] for x in rows) / len(rows) for d in range(12)]
    value = [[w * m for w, m in zip(row, mean, strict=True)] for row in weights]
    limit = naive_percentile([v for row in value for v in row], percentile)
    sparse = [
        [w if v > limit else 0.0 for w, v in zip(row, values, strict=True)]
        for row, values in zip(weights, value, strict=True)
    ]
    expected = [naive_energy(sparse, bias, x) for x in naive_unit(FEATURES)]
    assert ready(Dice(percentile=percentile), head, TRAIN)(FEATURES) == pytest.approx(expected, rel=1e-10)


@each_head
@given(percentile=st.floats(0, 99.9))
def test_the_share_of_weights_that_stay_is_what_the_percentile_says(head, percentile):
    kept = Dice(percentile=percentile).fit(head, TRAIN)["kept"]
    assert kept.shape == (7, 12)
    assert kept.dtype == np.bool_
    assert abs(kept.sum() - 84 * (1 - percentile / 100)) <= 1
    assert kept.any()


def test_weights_that_lower_the_logit_of_a_typical_image_go_first():
    head = Head(("a", "b"), np.array([[1.0, 1.0], [-1.0, 2.0]]), scale=1.0)
    train = Rows(np.array([[3.0, -4.0], [3.0, -4.0]]), np.zeros(2, dtype=np.int32))
    # contributions 0.6, -0.8, -0.6 and -1.6: the median is -0.7
    assert Dice(percentile=50.0).fit(head, train)["kept"].tolist() == [[True, False], [True, False]]


def test_the_scale_of_the_head_does_not_change_the_mask():
    kept = Dice().fit(replace(TEXT, scale=1.0), TRAIN)["kept"]
    assert np.array_equal(kept, Dice().fit(TEXT, TRAIN)["kept"])


def test_chunks_of_training_rows_do_not_change_the_mask():
    whole = Dice().fit(TEXT, TRAIN)["kept"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "CHUNK", 7)
        assert np.array_equal(Dice().fit(TEXT, TRAIN)["kept"], whole)


@pytest.mark.parametrize("percentile", [-1.0, 100.0, np.nan])
def test_a_percentile_that_leaves_no_weight_is_refused(percentile):
    with pytest.raises(UsageError, match=r"'percentile' must be a number from 0 to 99\.9"):
        Dice(percentile=percentile)


def test_training_features_of_another_model_are_refused_by_dice():
    with pytest.raises(LsnError, match="Expected features of 12 dimensions"):
        Dice().fit(TEXT, Rows(TRAIN.features[:, :5], TRAIN.labels))
