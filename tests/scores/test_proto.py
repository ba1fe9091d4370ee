"""Class-mean cosines against loops and published values, closed forms, and the softmax form."""

import math

import numpy as np
import pytest
import reference_vectors

from lsncli.errors import LsnError, UsageError
from lsncli.scores import load_score, ready
from lsncli.scores.maxcosine import MaxCosine
from lsncli.scores.mcm import Mcm
from lsncli.scores.proto import Proto
from lsncli.types import Head, Rows, unit


def naive(features, train, classes):
    """The cosine of each image with the mean of the unit features of each class."""

    def length_one(x):
        return [v / math.sqrt(math.fsum(u * u for u in x)) for v in x]

    rows = [length_one(x) for x in train.features.astype(float).tolist()]
    prototypes = []
    for k in range(classes):
        own = [x for x, c in zip(rows, train.labels, strict=True) if c == k]
        prototypes.append(length_one([math.fsum(v) / len(own) for v in zip(*own, strict=True)]))
    return [
        [math.fsum(a * b for a, b in zip(length_one(x), p, strict=True)) for p in prototypes]
        for x in features.astype(float).tolist()
    ]


def test_published_values_are_reproduced():
    expected = [1.62946302e-04, 7.61494683e-01, 3.47418810e-01, 2.57921883e-01]
    reference_vectors.check("proto", expected)


def test_scores_equal_loops_over_classes(head, features, train):
    expected = [max(row) for row in naive(features, train, 7)]
    assert ready(Proto(), head, train)(features) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("tau", [0.01, 1.0, 5.0])
def test_the_softmax_form_equals_a_naive_softmax(head, features, train, softmax, tau):
    expected = [max(softmax([cosine / tau for cosine in row])) for row in naive(features, train, 7)]
    assert ready(Proto("softmax", tau), head, train)(features) == pytest.approx(expected, rel=1e-11)


def test_with_the_prototypes_as_texts_the_forms_are_maxcosine_and_mcm(head, features, train):
    texts = Head(head.classes, Proto().fit(head, train)["prototypes"])
    for form, twin in (("cosine", MaxCosine()), ("softmax", Mcm(tau=1.0))):
        found = ready(Proto(form), head, train)(features)
        assert found == pytest.approx(ready(twin, texts)(features), rel=1e-13)


def test_one_image_a_class_is_its_own_prototype(head, train):
    once = Rows(train.features[:7], np.arange(7, dtype=np.int32))
    assert ready(Proto(), head, once)(train.features[:7]) == pytest.approx(np.ones(7), abs=1e-14)


def test_an_image_counts_alike_whatever_its_length():
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 100.0, 0.0]])
    scorer = ready(Proto(), Head(("a",), np.eye(1, 3)), Rows(rows, np.zeros(2, dtype=np.int32)))
    assert scorer(np.array([[7.0, 7.0, 0.0], [0.0, 1.0, 0.0]])) == pytest.approx([1.0, math.sqrt(0.5)])


def test_rows_of_a_class_that_cancel_leave_a_prototype_that_no_image_is_near():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    scorer = ready(Proto(), Head(("a", "b"), np.eye(2)), Rows(rows, np.array([0, 0, 1], dtype=np.int32)))
    assert scorer(np.array([[1.0, 1.0], [1.0, -1.0]])) == pytest.approx([math.sqrt(0.5), 0.0])


def test_many_rows_are_learned_from_in_chunks(head, train, monkeypatch):
    whole = Proto().fit(head, train)["prototypes"]
    monkeypatch.setattr("lsncli.scores.covariance.CHUNK", 7)
    assert Proto().fit(head, train)["prototypes"] == pytest.approx(whole, abs=1e-14)
    assert np.linalg.norm(unit(whole) - whole) < 1e-14


def test_what_cannot_be_meant_is_refused(head, train):
    some = Rows(train.features, np.where(train.labels == 3, 2, train.labels).astype(np.int32))
    with pytest.raises(LsnError, match="'proto' needs training rows of every class, and 'd' has none"):
        ready(Proto(), head, some)
    with pytest.raises(UsageError, match="'tau' must be a finite number above 0, found 0"):
        Proto("softmax", 0.0)
    with pytest.raises(UsageError, match="'cosine' or 'softmax', found 'mean'"):
        load_score("proto", form="mean")
