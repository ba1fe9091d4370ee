"""KL matching against loops and published values, classes never predicted, and probabilities of zero."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference_vectors
from activation_samples import FEATURES, HEADS, LINEAR, TEXT, TRAIN, naive_layer, naive_logits, naive_unit

from lsncli.errors import LsnError
from lsncli.scores import ready
from lsncli.scores.common import predict
from lsncli.scores.klm import Klm
from lsncli.types import Head, Rows

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


def naive(head, features, train):
    layer = naive_layer(head)

    def softmax(x):
        logits = naive_logits(*layer, x)
        weights = [math.exp(value - max(logits)) for value in logits]
        return [w / math.fsum(weights) for w in weights]

    rows = [softmax(x) for x in naive_unit(train.features)]
    typical = []
    for k in range(len(head.classes)):
        own = [p for p in rows if p.index(max(p)) == k]
        if own:
            typical.append([math.fsum(column) / len(own) for column in zip(*own, strict=True)])

    def divergence(p, q):
        return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)

    return [-min(divergence(softmax(x), q) for q in typical) for x in naive_unit(features)]


def test_published_values_are_reproduced():
    reference_vectors.check("klm", [-0.05472619, -0.56471360, -0.05256269, -0.05401573])


@each_head
@pytest.mark.parametrize("scale", [1.0, 7.0, 100.0])
def test_scores_equal_a_naive_loop(head, scale):
    head = replace(head, scale=scale / (1 if head.bias is None else 10))
    expected = naive(head, FEATURES, TRAIN)
    assert ready(Klm(), head, TRAIN)(FEATURES) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_only_training_image_of_a_predicted_class_is_typical_of_it():
    some = Rows(np.eye(12)[:5], np.zeros(5, dtype=np.int32))
    head = Head(tuple("abcde"), np.eye(5, 12), scale=3.0)
    found = ready(Klm(), head, some)(np.concatenate([np.eye(12)[:5], np.eye(12)[11:]]))
    assert found[:5] == pytest.approx(np.zeros(5), abs=1e-15)
    e = math.exp(3.0)
    uniform = math.log(e + 4) - math.log(5) - 3 / 5  # from (e, 1, 1, 1, 1) / (e + 4)
    assert found[5] == pytest.approx(-uniform, rel=1e-12)


def test_a_class_that_no_row_is_predicted_as_is_left_out():
    some = Rows(TRAIN.features[predict(TEXT, TRAIN.features) < 4], np.zeros(0, dtype=np.int32))
    some = replace(some, labels=np.zeros(len(some.features), dtype=np.int32))
    typical = Klm().fit(TEXT, some)["typical"]
    assert typical.shape == (4, 7)
    assert typical.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert ready(Klm(), TEXT, some)(FEATURES) == pytest.approx(naive(TEXT, FEATURES, some), rel=1e-9)


@each_head
def test_no_score_is_above_zero_and_typical_probabilities_sum_to_one(head):
    assert (ready(Klm(), head, TRAIN)(FEATURES) < 1e-14).all()
    assert Klm().fit(head, TRAIN)["typical"].sum(axis=1) == pytest.approx(np.ones(7), rel=1e-14)


def test_probabilities_that_underflow_give_finite_scores():
    steep = replace(LINEAR, scale=1e4)
    found = ready(Klm(), steep, TRAIN)(FEATURES)
    assert np.isfinite(found).all()
    assert np.isfinite(ready(Klm(), steep, TRAIN)(np.zeros((1, 12)))).all()


def test_labels_are_not_looked_at():
    unlabelled = Rows(TRAIN.features, np.full(90, -1, dtype=np.int32))
    assert np.array_equal(Klm().fit(TEXT, unlabelled)["typical"], Klm().fit(TEXT, TRAIN)["typical"])


def test_many_rows_are_learned_from_in_chunks(monkeypatch):
    whole = Klm().fit(TEXT, TRAIN)["typical"]
    monkeypatch.setattr("lsncli.scores.klm.CHUNK", 7)
    assert Klm().fit(TEXT, TRAIN)["typical"] == pytest.approx(whole, rel=1e-12)


def test_training_features_of_another_model_are_refused_by_klm():
    with pytest.raises(LsnError, match="Expected features of 12 dimensions"):
        Klm().fit(TEXT, Rows(TRAIN.features[:, :5], TRAIN.labels))
