"""KNN against geometry, a full sort, and tiles of every size."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from lsncli.errors import LsnError, UsageError
from lsncli.scores import neighbours, ready
from lsncli.scores.knn import Knn
from lsncli.types import Head, Rows, unit

FLAT = Head(classes=("a",), weights=np.array([[1.0, 0.0]]))


def circle(*angles):
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return Rows(features, np.zeros(len(angles), dtype=np.int32))


def by_sorting(features, train, k):
    return -np.sort(cdist(unit(features), unit(train.features)), axis=1)[:, k - 1]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_distances_on_a_circle_are_chords(k):
    angles = [0.3, -0.7, 2.0]
    found = ready(Knn(k=k), FLAT, circle(*angles))(np.array([[5.0, 0.0]]))
    assert found == pytest.approx([-2 * math.sin(abs(angles[k - 1]) / 2)], abs=1e-15)


@pytest.mark.parametrize("angle", [1e-3, 1e-8, 1e-12])
def test_distances_to_near_duplicates_keep_their_digits(angle):
    found = ready(Knn(k=1), FLAT, circle(angle, 1.0))(np.array([[1.0, 0.0]]))
    assert found == pytest.approx([-angle], rel=1e-6, abs=0)


def test_a_training_image_itself_is_at_distance_zero(head, train):
    assert ready(Knn(k=1), head, train)(train.features).tolist() == [0.0] * len(train)


@pytest.mark.parametrize("k", [1, 10, 90])
def test_scores_equal_a_full_sort(head, features, train, k):
    assert ready(Knn(k=k), head, train)(features) == pytest.approx(by_sorting(features, train, k), abs=1e-12)


@settings(max_examples=30)
@given(k=st.integers(1, 90), rows=st.integers(1, 50), bank=st.integers(1, 100))
def test_tiles_do_not_change_the_neighbours(head, features, train, k, rows, bank):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "ROWS", rows)
        patch.setattr(neighbours, "BANK", bank)
        found = ready(Knn(k=k), head, train)(features)
    assert found == pytest.approx(by_sorting(features, train, k), abs=1e-12)


def test_equal_training_rows_count_one_by_one(head, features):
    twice = Rows(np.repeat(features[:3], 2, axis=0), np.zeros(6, dtype=np.int32))
    once = Rows(features[:3], np.zeros(3, dtype=np.int32))
    assert ready(Knn(k=4), head, twice)(features) == pytest.approx(ready(Knn(k=2), head, once)(features))


def test_more_neighbours_than_training_rows_are_refused(head, train):
    with pytest.raises(LsnError, match="k = 91 neighbours among only 90 training rows"):
        ready(Knn(k=91), head, train)


def test_a_missing_bank_is_refused(head):
    with pytest.raises(LsnError, match="needs ID training features"):
        ready(Knn(), head, None)


def test_a_bank_of_another_model_or_with_nan_is_refused_when_fitting(head, train):
    with pytest.raises(LsnError, match="Expected features of 12 dimensions"):
        ready(Knn(k=1), head, Rows(train.features[:, :5], train.labels))
    broken = train.features.copy()
    broken[3, 0] = np.nan
    with pytest.raises(LsnError, match="1 of 90 feature rows"):
        ready(Knn(k=1), head, Rows(broken, train.labels))


def test_k_must_be_positive():
    with pytest.raises(UsageError, match="'k' must be"):
        Knn(k=0)


def test_the_prompts_do_not_matter(head, features, train):
    other = Head(head.classes, unit(np.random.default_rng(1).normal(size=head.weights.shape)), head.scale)
    assert not Knn.PROMPTS
    assert np.array_equal(ready(Knn(), head, train)(features), ready(Knn(), other, train)(features))
