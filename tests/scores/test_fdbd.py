"""fDBD against loops and published values, duplicate classes, and features at the training mean."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference_vectors
from activation_samples import (
    FEATURES,
    HEADS,
    LINEAR,
    TEXT,
    TRAIN,
    naive_layer,
    naive_logits,
    naive_unit,
)

from lsncli.errors import LsnError
from lsncli.scores import common, fdbd, load_score, ready
from lsncli.scores.fdbd import Fdbd
from lsncli.types import Head, Rows

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


def naive(head, features, train, divisor, same=0.0):
    weights, bias = naive_layer(head)
    rows = naive_unit(train.features)
    mean = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    found = []
    for x in naive_unit(features):
        logits = naive_logits(weights, bias, x)
        k = logits.index(max(logits))
        apart = [math.dist(weights[k], w) for w in weights]
        total = math.fsum((logits[k] - value) / a for value, a in zip(logits, apart, strict=True) if a > same)
        found.append(total / (math.dist(x, mean) if divisor == "mean" else 1.0))
    return found


def test_published_values_are_reproduced():
    reference_vectors.check("fdbd", [0.45733439, 0.10778781, 0.71681903, 0.96072919])
    norm = [0.57114795, 0.13231562, 0.85900048, 0.93996261]
    reference_vectors.check("fdbd", norm, divisor="norm")


@each_head
@pytest.mark.parametrize("divisor", ["mean", "norm"])
def test_scores_equal_a_naive_loop(head, divisor):
    expected = naive(head, FEATURES, TRAIN, divisor)
    assert ready(Fdbd(divisor), head, TRAIN)(FEATURES) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@each_head
@pytest.mark.parametrize("rounding", [0.0, 1e-8, 1e-7])  # none, and that of a text tower in float32
def test_classes_of_the_same_text_have_no_boundary(head, rounding):
    noise = 1 + rounding * np.random.default_rng(0).normal(size=head.weights.shape)
    bias = None if head.bias is None else np.concatenate([head.bias, head.bias])
    weights = np.concatenate([head.weights, head.weights * noise])
    twice = replace(head, classes=tuple("abcdefghijklmn"), weights=weights, bias=bias)
    expected = naive(twice, FEATURES, TRAIN, "mean", same=1e-5 * np.abs(head.scale * head.weights).max())
    found = ready(Fdbd(), twice, TRAIN)(FEATURES)
    assert found == pytest.approx(expected, rel=1e-6)
    once = ready(Fdbd(), head, TRAIN)(FEATURES)
    assert found == pytest.approx(2 * once, rel=1e-4, abs=1e-5)


def test_names_that_differ_little_keep_their_boundary():
    close = np.array([[1.0, 0.0, 0.0], [math.cos(1e-3), math.sin(1e-3), 0.0]])
    found = ready(Fdbd("norm"), Head(("cat", "cats"), close), TRAIN_3)(np.array([[1.0, 0.0, 0.0]]))
    assert found == pytest.approx([math.sin(5e-4)], rel=1e-7)


TRAIN_3 = Rows(np.eye(3), np.zeros(3, dtype=np.int32))


def test_the_distance_from_the_boundary_of_two_classes_gives_the_closed_form():
    """Between the axes; the mean of the training rows is (1/3, 1/3, 1/3)."""
    head = Head(("a", "b"), np.eye(2, 3), scale=7.0)
    x = np.array([[0.8, 0.0, 0.6], [0.0, 0.6, 0.8]])
    distances = np.array([0.8, 0.6]) / math.sqrt(2)
    assert ready(Fdbd("norm"), head, TRAIN_3)(x) == pytest.approx(distances, rel=1e-14)
    from_mean = np.linalg.norm(x - 1 / 3, axis=1)
    assert ready(Fdbd(), head, TRAIN_3)(x) == pytest.approx(distances / from_mean, rel=1e-14)


def test_the_scale_of_text_does_not_matter():
    one, other = (ready(Fdbd(), replace(TEXT, scale=scale), TRAIN)(FEATURES) for scale in (1.0, 100.0))
    assert one == pytest.approx(other, rel=1e-11)


@each_head
def test_no_score_is_negative(head):
    assert (ready(Fdbd(), head, TRAIN)(FEATURES) >= 0).all()


def test_a_feature_that_is_the_training_mean_has_a_finite_score():
    same = Rows(np.repeat(FEATURES[:1], 4, axis=0), np.zeros(4, dtype=np.int32))
    found = ready(Fdbd(), TEXT, same)(FEATURES[:2])
    assert np.isfinite(found).all()
    assert found[0] > 1e6 * found[1]


def test_one_class_has_no_boundary():
    head = Head(("a",), np.eye(1, 12))
    assert ready(Fdbd(), head, TRAIN)(FEATURES) == pytest.approx(np.zeros(30), abs=1e-12)


@each_head
@pytest.mark.parametrize("block", [1, 3, 7])
def test_blocks_of_classes_and_chunks_of_rows_do_not_change_the_scores(head, block, monkeypatch):
    whole = ready(Fdbd(), head, TRAIN)(FEATURES)
    monkeypatch.setattr(fdbd, "BLOCK", block)
    monkeypatch.setattr(common, "CHUNK", 7)
    assert ready(Fdbd(), head, TRAIN)(FEATURES) == pytest.approx(whole, rel=1e-11)


def test_training_features_of_another_model_are_refused_by_fdbd():
    with pytest.raises(LsnError, match="Expected features of 12 dimensions"):
        Fdbd().fit(LINEAR, Rows(TRAIN.features[:, :5], TRAIN.labels))
    with pytest.raises(LsnError, match="'mean' or 'norm', found 'max'"):
        load_score("fdbd", divisor="max")
