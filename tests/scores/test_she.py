"""SHE against loops and published values, and classes that no training image is predicted as."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference_vectors
from activation_samples import FEATURES, HEADS, TEXT, TRAIN, naive_layer, naive_logits, naive_unit

from lsncli.errors import LsnError
from lsncli.scores import ready
from lsncli.scores.common import predict
from lsncli.scores.she import She
from lsncli.types import Head, Rows, unit

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


def naive(head, features, train):
    layer = naive_layer(head)

    def predicted(x):
        logits = naive_logits(*layer, x)
        return logits.index(max(logits))

    rows = list(zip(naive_unit(train.features), train.labels.tolist(), strict=True))
    patterns = []
    for k in range(len(head.classes)):
        own = [x for x, c in rows if c == k]
        own = [x for x in own if predicted(x) == k] or own
        patterns.append([math.fsum(column) / len(own) for column in zip(*own, strict=True)])
    return [
        math.fsum(a * b for a, b in zip(x, patterns[predicted(x)], strict=True)) for x in naive_unit(features)
    ]


def test_published_values_are_reproduced():
    """None of the rows of the first class is predicted right."""
    texts, train = reference_vectors.HEAD, reference_vectors.TRAIN
    assert 0 not in predict(texts, train.features)[train.labels == 0]
    reference_vectors.check("she", [0.30770478, 0.94814980, 0.20841007, 0.31193148])


@each_head
def test_scores_equal_a_naive_loop(head):
    expected = naive(head, FEATURES, TRAIN)
    assert ready(She(), head, TRAIN)(FEATURES) == pytest.approx(expected, abs=1e-13)


@each_head
def test_where_every_image_is_predicted_right_the_patterns_are_the_class_means(head):
    right = Rows(TRAIN.features, predict(head, TRAIN.features))
    head = replace(head, classes=tuple("abcdefg"))
    if len(np.unique(right.labels)) < 7:  # a class needs a row
        pytest.fail("the samples no longer have an image of every class")
    expected = [unit(TRAIN.features)[right.labels == c].mean(axis=0) for c in range(7)]
    assert She().fit(head, right)["patterns"] == pytest.approx(np.array(expected), abs=1e-15)


def test_a_class_that_is_never_predicted_has_the_mean_of_all_its_images():
    weights = np.array([[1.0, 0.0], [-1.0, 0.0]])
    rows = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    learned = She().fit(Head(("a", "b"), weights), Rows(rows, np.array([0, 1, 1], dtype=np.int32)))
    assert learned["patterns"] == pytest.approx(np.array([[1.0, 0.0], [math.sqrt(0.5), 0.0]]))


def test_an_image_predicted_wrong_is_left_out():
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])  # the third counts for neither class
    train = Rows(rows, np.array([0, 1, 0], dtype=np.int32))
    assert She().fit(Head(("a", "b"), np.eye(2)), train)["patterns"].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_scores_are_within_one(head, features, train):
    assert (np.abs(ready(She(), head, train)(features)) <= 1).all()


def test_many_rows_are_learned_from_in_chunks(monkeypatch):
    whole = She().fit(TEXT, TRAIN)["patterns"]
    monkeypatch.setattr("lsncli.scores.she.CHUNK", 7)
    assert She().fit(TEXT, TRAIN)["patterns"] == pytest.approx(whole, abs=1e-14)


def test_a_class_without_rows_is_refused():
    some = Rows(TRAIN.features, np.where(TRAIN.labels == 3, 2, TRAIN.labels).astype(np.int32))
    with pytest.raises(LsnError, match="'she' needs training rows of every class, and 'd' has none"):
        She().fit(TEXT, some)
