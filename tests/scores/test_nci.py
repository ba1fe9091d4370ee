"""NCI against loops and published values, closed forms, and features at the training mean."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference_vectors
from activation_samples import FEATURES, HEADS, TEXT, TRAIN, naive_layer, naive_logits, naive_unit

from lsncli.errors import LsnError, UsageError
from lsncli.scores import common, ready
from lsncli.scores.nci import Nci
from lsncli.types import Head, Rows

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


def naive(head, features, train, alpha):
    weights, bias = naive_layer(head)
    rows = naive_unit(train.features)
    mean = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    found = []
    for x in naive_unit(features):
        logits = naive_logits(weights, bias, x)
        own = weights[logits.index(max(logits))]
        along = math.fsum(w * (v - m) for w, v, m in zip(own, x, mean, strict=True))
        found.append(along / math.dist(x, mean) + alpha * math.fsum(map(abs, x)))
    return found


def test_published_values_are_reproduced():
    reference_vectors.check("nci", [-1.06332937, -2.42576399, -3.30136526, 0.24347568])


@each_head
@pytest.mark.parametrize("alpha", [0.0, 1e-4, 0.1, 3.0])
def test_scores_equal_a_naive_loop(head, alpha):
    expected = naive(head, FEATURES, TRAIN, alpha)
    assert ready(Nci(alpha), head, TRAIN)(FEATURES) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_a_feature_seen_from_the_mean_along_its_class_scores_the_scale():
    train = Rows(np.array([[0.0, 0.0, 1.0]] * 2), np.zeros(2, dtype=np.int32))
    along = np.array([[1.0, 0.0, -1.0]]) / math.sqrt(2)
    head = Head(("a", "b"), np.concatenate([along, -along]), scale=7.0)
    found = ready(Nci(0.0), head, train)(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert found == pytest.approx([7.0, 3.5], rel=1e-14)


def test_without_the_length_the_score_is_proportional_to_the_scale_of_text():
    one, hundred = (ready(Nci(0.0), replace(TEXT, scale=s), TRAIN)(FEATURES) for s in (1.0, 100.0))
    assert hundred == pytest.approx(100 * one, rel=1e-12)


def test_a_feature_that_is_the_training_mean_has_a_finite_score():
    same = Rows(np.repeat(FEATURES[:1], 4, axis=0), np.zeros(4, dtype=np.int32))
    assert np.isfinite(ready(Nci(), TEXT, same)(FEATURES[:2])).all()


def test_many_rows_are_learned_from_in_chunks(monkeypatch):
    whole = Nci().fit(TEXT, TRAIN)["mean"]
    monkeypatch.setattr(common, "CHUNK", 7)
    assert Nci().fit(TEXT, TRAIN)["mean"] == pytest.approx(whole, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("alpha", [-1.0, math.nan, math.inf])
def test_an_alpha_that_is_no_weight_is_refused(alpha):
    with pytest.raises(UsageError, match="'alpha' must be a finite number, 0 or more"):
        Nci(alpha)


def test_training_features_of_another_model_are_refused_by_nci():
    with pytest.raises(LsnError, match="Expected features of 12 dimensions"):
        Nci().fit(TEXT, Rows(TRAIN.features[:, :5], TRAIN.labels))
