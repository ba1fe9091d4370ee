"""Relative Mahalanobis against loops and the authors' numbers, what cancels, and few rows."""

import numpy as np
import pytest
import reference_vectors
from sklearn.covariance import ledoit_wolf_shrinkage

from lsncli.errors import LsnError
from lsncli.scores import load_score, ready
from lsncli.scores.mahalanobis import Mahalanobis
from lsncli.scores.rmds import Rmds
from lsncli.types import Head, Rows, unit

each_space = pytest.mark.parametrize("space", ["unit", "raw"])


def place(features, space):
    return unit(features) if space == "unit" else np.asarray(features, dtype=float)


def naive(features, train, classes, space, shrink=False):
    """d_0 - min_c d_c, one image after the other, with covariances from sums of outer products."""
    rows = place(train.features, space)
    means = [np.mean([x for x, c in zip(rows, train.labels, strict=True) if c == k], axis=0) for k in classes]
    total = sum(rows) / len(rows)

    centred = [x - means[c] for x, c in zip(rows, train.labels, strict=True)]
    sigma = sum(np.outer(x, x) for x in centred) / len(rows)
    background = sum(np.outer(x - total, x - total) for x in rows) / len(rows)
    if shrink:
        weight = max(ledoit_wolf_shrinkage(np.array(centred), assume_centered=True), 1e-3)
        mended = (1 - weight) * sigma + weight * np.trace(sigma) / len(sigma) * np.eye(len(sigma))
        background = mended + (background - sigma)  # what is between classes stays as it is
        sigma = mended
    within, background = np.linalg.inv(sigma), np.linalg.inv(background)
    return [
        (x - total) @ background @ (x - total) - min((x - m) @ within @ (x - m) for m in means)
        for x in place(features, space)
    ]


def test_published_values_are_reproduced():
    reference_vectors.check("rmds", [-30.46255453, -1.48662312, -17.31519771, -15.32577798])
    raw = [-12.67220864, -7.94082941, -35.45527291, -19.10183317]
    reference_vectors.check("rmds", raw, space="raw")


@each_space
def test_scores_equal_loops_over_classes(head, features, train, space):
    expected = naive(features, train, range(7), space)
    assert ready(Rmds(space), head, train)(features) == pytest.approx(expected, rel=1e-9)


@each_space
@pytest.mark.parametrize("rows", [20, 30])  # singular within classes, and the last that count as few
def test_few_rows_take_the_estimate_of_ledoit_and_wolf(head, features, train, space, rows):
    few = Rows(train.features[:rows], np.arange(rows, dtype=np.int32) % 7)
    expected = naive(features, few, range(7), space, shrink=True)
    assert ready(Rmds(space), head, few)(features) == pytest.approx(expected, rel=1e-9)


def test_directions_without_training_rows_do_not_count():
    """As in a real tower whose features lie in a plane; two separate estimates would favour such images."""
    rng = np.random.default_rng(8)
    labels = np.repeat(np.arange(5, dtype=np.int32), 40)
    rows = np.zeros((200, 30))
    rows[:, :20] = rng.normal(size=(5, 20))[labels] + 0.3 * rng.normal(size=(200, 20))
    rows[:, 20:25] = 1e-3 * rng.normal(size=(200, 5))
    train = Rows(rows, labels)
    scorer = ready(Rmds("raw"), Head(tuple("abcde"), np.eye(5, 30)), train)
    outside = rows[:10].copy()
    outside[:, 25:] += 10.0
    assert scorer(outside) == pytest.approx(scorer(rows[:10]), rel=1e-9)


@each_space
def test_of_one_class_both_distances_are_the_same(features, train, space):
    one = Rows(train.features, np.zeros(90, dtype=np.int32))
    head = Head(("a",), np.eye(1, 12))
    assert ready(Rmds(space), head, one)(features) == pytest.approx(np.zeros(40), abs=1e-10)


def test_it_is_mahalanobis_plus_the_distance_from_all_classes_as_one(head, features, train):
    nearest = ready(Mahalanobis(), head, train)(features)
    one = Rows(train.features, np.zeros(90, dtype=np.int32))
    together = ready(Mahalanobis(), Head(("a",), np.eye(1, 12)), one)(features)
    assert ready(Rmds(), head, train)(features) == pytest.approx(nearest - together, rel=1e-10)


def test_raw_scores_do_not_depend_on_the_coordinates(head, features, train):
    rng = np.random.default_rng(6)
    turn, shift = rng.normal(size=(12, 12)), 5 * rng.normal(size=12)
    moved = Rows(train.features.astype(float) @ turn + shift, train.labels)
    found = ready(Rmds("raw"), head, moved)(features.astype(float) @ turn + shift)
    assert found == pytest.approx(ready(Rmds("raw"), head, train)(features), rel=1e-8)


@each_space
def test_many_rows_are_learned_from_in_chunks(head, features, train, monkeypatch, space):
    whole = ready(Rmds(space), head, train)(features)
    monkeypatch.setattr("lsncli.scores.covariance.CHUNK", 7)
    assert ready(Rmds(space), head, train)(features) == pytest.approx(whole, rel=1e-10)


@each_space
def test_rows_of_each_class_that_are_all_equal_are_refused(head, train, space):
    once = Rows(train.features[:7], np.arange(7, dtype=np.int32))
    with pytest.raises(LsnError, match="'rmds' needs rows of a class that differ, found 7 that do not"):
        ready(Rmds(space), head, once)


def test_a_class_without_rows_is_refused(head, train):
    some = Rows(train.features, np.where(train.labels == 3, 2, train.labels).astype(np.int32))
    with pytest.raises(LsnError, match="rows of every class, and 'd' has none"):
        ready(Rmds(), head, some)


def test_another_space_is_refused():
    with pytest.raises(LsnError, match="'unit' or 'raw', found 'half'"):
        load_score("rmds", space="half")
