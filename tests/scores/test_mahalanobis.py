"""Mahalanobis against loops and scikit-learn, closed forms, and what few rows do to a covariance."""

import math

import numpy as np
import pytest
import reference_vectors
from sklearn.covariance import ledoit_wolf_shrinkage

from lsncli.errors import LsnError
from lsncli.metrics import auroc
from lsncli.scores import load_score, ready
from lsncli.scores.covariance import LEAST
from lsncli.scores.mahalanobis import Mahalanobis
from lsncli.types import Head, Rows, unit


def parts(train, classes, covariance):
    """Class means and rows about the mean that the covariance is about, one row after the other."""
    rows = unit(train.features)
    means = [np.mean([rows[i] for i, c in enumerate(train.labels) if c == k], axis=0) for k in range(classes)]
    total = np.mean(rows, axis=0)
    about = [means[c] if covariance == "within" else total for c in train.labels]
    return means, np.array([x - m for x, m in zip(rows, about, strict=True)])


def naive(features, means, sigma):
    inverse = np.linalg.inv(sigma)
    return [-min(float((x - m) @ inverse @ (x - m)) for m in means) for x in unit(features)]


def clusters(classes, shots, dim, seed=0):
    """Unit centres, training rows about them, as many test rows; directions vary unequally, as CLIP's do."""
    rng = np.random.default_rng(seed)
    width = np.geomspace(1, 0.05, dim)
    centres = unit(rng.normal(size=(classes, dim)))
    labels = np.repeat(np.arange(classes, dtype=np.int32), shots)

    def rows():
        return (centres[labels] + width * rng.normal(size=(len(labels), dim)) / 8).astype(np.float16)

    return Head(tuple(map(str, range(classes))), centres), Rows(rows(), labels), rows()


@pytest.mark.parametrize("covariance", ["within", "total"])
def test_scores_equal_loops_over_classes(head, features, train, covariance):
    means, centred = parts(train, 7, covariance)
    expected = naive(features, means, sum(np.outer(x, x) for x in centred) / len(centred))
    assert ready(Mahalanobis(covariance), head, train)(features) == pytest.approx(expected, rel=1e-9)


def test_published_values_are_reproduced():
    """Mahalanobis++, and the same of raw features; both with a covariance of full rank."""
    reference_vectors.check("mahalanobis", [-56.69396778, -15.73577365, -37.29016848, -33.54210798])
    raw = [-22.54487961, -20.06004304, -43.05467777, -56.21605299]
    reference_vectors.check("mahalanobis", raw, space="raw")


@pytest.mark.parametrize("covariance", ["within", "total"])
def test_raw_scores_do_not_depend_on_the_coordinates(head, features, train, covariance):
    rng = np.random.default_rng(6)
    turn, shift = rng.normal(size=(12, 12)), 5 * rng.normal(size=12)
    moved = Rows(train.features.astype(float) @ turn + shift, train.labels)
    found = ready(Mahalanobis(covariance, "raw"), head, moved)(features.astype(float) @ turn + shift)
    expected = ready(Mahalanobis(covariance, "raw"), head, train)(features)
    assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("covariance", ["within", "total"])
def test_the_prompts_do_not_matter(head, features, train, covariance):
    linear = Head(head.classes, np.random.default_rng(1).normal(size=(7, 12)), 1.0, None, np.arange(7.0))
    assert not Mahalanobis.PROMPTS
    scores = [ready(Mahalanobis(covariance), one, train)(features) for one in (head, linear)]
    assert np.array_equal(*scores)


def test_a_class_mean_scores_zero_and_two_classes_on_a_circle_give_the_closed_form():
    angles = np.array([0.1, -0.1, math.pi / 2 + 0.1, math.pi / 2 - 0.1])
    train = Rows(np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([0, 0, 1, 1], dtype=np.int32))
    # About each mean the rows differ by sin 0.1 along one axis: Sigma = sin(0.1)^2 / 2 times the identity.
    scorer = ready(Mahalanobis(), Head(("a", "b"), np.eye(2)), train)
    between = np.array([[1.0, 1.0]])
    apart = (math.sqrt(0.5) - math.cos(0.1)) ** 2 + 0.5
    assert scorer(between) == pytest.approx([-apart / (math.sin(0.1) ** 2 / 2)], rel=1e-12)
    assert scorer(np.array([[1.0, 0.0]])) == pytest.approx([-2 * (math.tan(0.05)) ** 2], rel=1e-9)


def test_training_rows_are_at_a_mean_distance_of_the_dimension_from_their_own_mean(head, train):
    learned = Mahalanobis().fit(head, train)
    white = (unit(train.features) - learned["centre"]) @ learned["whitening"]
    distances = ((white - learned["means"][train.labels]) ** 2).sum(axis=1)
    assert distances.mean() == pytest.approx(12, rel=1e-10)


def test_many_rows_are_learned_from_in_chunks(head, features, train, monkeypatch):
    whole = ready(Mahalanobis(), head, train)(features)
    monkeypatch.setattr("lsncli.scores.covariance.CHUNK", 7)
    assert ready(Mahalanobis(), head, train)(features) == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("covariance", ["within", "total"])
@pytest.mark.parametrize("shots", [5, 15, 27])  # singular, hardly not, and the last that counts as few
def test_few_rows_take_the_estimate_of_ledoit_and_wolf(covariance, shots):
    head, train, features = clusters(3, shots, 40)
    means, centred = parts(train, 3, covariance)
    weight = ledoit_wolf_shrinkage(centred, assume_centered=True)
    assert LEAST < weight < 1
    sigma = centred.T @ centred / len(centred)
    sigma = (1 - weight) * sigma + weight * np.trace(sigma) / 40 * np.eye(40)
    found = ready(Mahalanobis(covariance), head, train)(features)
    assert found == pytest.approx(naive(features, means, sigma), rel=1e-9)


def test_enough_rows_take_the_covariance_itself():
    head, train, features = clusters(3, 28, 40)
    means, centred = parts(train, 3, "within")
    expected = naive(features, means, centred.T @ centred / len(centred))
    assert ready(Mahalanobis(), head, train)(features) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("covariance", ["within", "total"])
@pytest.mark.parametrize("rounding", [0.0, 1e-8])  # none, and what a projection in float32 leaves
@pytest.mark.parametrize("missing", [10, 1])
def test_a_rank_deficient_covariance_of_many_rows_is_regularised_not_pseudo_inverted(
    covariance, rounding, missing
):
    head, train, _ = clusters(3, 60, 40)
    rng = np.random.default_rng(4)
    flat = unit(train.features)
    flat[:, -missing:] = rounding * rng.normal(size=(180, missing))
    rows = Rows(flat, train.labels)
    means, centred = parts(rows, 3, covariance)
    sigma = centred.T @ centred / len(centred)
    weight = np.clip(ledoit_wolf_shrinkage(centred, assume_centered=True), LEAST, 1)
    mended = (1 - weight) * sigma + weight * np.trace(sigma) / 40 * np.eye(40)
    scorer = ready(Mahalanobis(covariance), head, rows)
    inside, away = flat[:20], flat[:20].copy()
    away[:, 39] = 1.0  # along a direction that no training row has
    for features in (inside, away):
        assert scorer(features) == pytest.approx(naive(features, means, mended), rel=1e-9)
    support = np.linalg.pinv(sigma, rcond=1e-12)
    blind = [-min(float((x - m) @ support @ (x - m)) for m in means) for x in unit(away)]
    assert (scorer(away) < 3 * np.array(blind)).all()  # the pseudo-inverse does not see how far away they are


def test_rows_on_one_line_keep_the_least_weight():
    rows = unit(np.array([[1.0, 0.1, 0.0, 0.0], [1.0, -0.1, 0.0, 0.0]]))
    head, train = Head(("a",), np.eye(1, 4)), Rows(rows, np.zeros(2, dtype=np.int32))
    variance = rows[0, 1] ** 2
    mean = np.array([rows[0, 0], 0.0, 0.0, 0.0])
    mended = LEAST * variance / 4
    expected = -(mean[0] ** 2 / mended + 1 / mended)
    assert ready(Mahalanobis(), head, train)(np.eye(4)[2:3]) == pytest.approx([expected], rel=1e-9)


@pytest.mark.parametrize(("classes", "shots"), [(3, 128), (4, 129), (5, 16), (20, 2), (9, 128)])
@pytest.mark.parametrize("covariance", ["within", "total"])
def test_few_shots_in_many_dimensions_still_tell_images_apart(classes, shots, covariance):
    head, train, inside = clusters(classes, shots, 512)
    outside = clusters(classes, shots, 512, seed=1)[2]
    scorer = ready(Mahalanobis(covariance), head, train)
    assert np.isfinite(scorer(outside)).all()
    assert auroc(scorer(inside), scorer(outside)) > 0.9


def test_rows_of_each_class_that_are_all_equal_are_refused(head, train):
    once = Rows(train.features[:7], np.arange(7, dtype=np.int32))
    with pytest.raises(LsnError, match="'mahalanobis' needs rows of a class that differ, found 7 that do"):
        ready(Mahalanobis(), head, once)
    assert np.isfinite(ready(Mahalanobis("total"), head, once)(train.features)).all()


@pytest.mark.parametrize("length", [1e-9, 1e9])
def test_whether_raw_rows_differ_does_not_depend_on_their_length(head, features, train, length):
    rows = Rows(length * train.features.astype(float), train.labels)
    found = ready(Mahalanobis(space="raw"), head, rows)(length * features.astype(float))
    assert found == pytest.approx(ready(Mahalanobis(space="raw"), head, train)(features), rel=1e-9)
    same = Rows(np.repeat(rows.features[:7], 3, axis=0), np.repeat(np.arange(7, dtype=np.int32), 3))
    with pytest.raises(LsnError, match="rows of a class that differ, found 21 that do not"):
        ready(Mahalanobis(space="raw"), head, same)


def test_a_class_without_rows_is_refused(head, train):
    some = Rows(train.features, np.where(train.labels == 3, 2, train.labels).astype(np.int32))
    with pytest.raises(LsnError, match="rows of every class, and 'd' has none"):
        ready(Mahalanobis(), head, some)


def test_another_covariance_is_refused():
    with pytest.raises(LsnError, match="'within' or 'total', found 'tied'"):
        load_score("mahalanobis", covariance="tied")
