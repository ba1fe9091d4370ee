"""LINe against a naive loop with the whole C x C x D mask, Energy, and its refusals."""

import numpy as np
import pytest
from activation_samples import (
    FEATURES,
    HEADS,
    TEXT,
    TRAIN,
    naive_energy,
    naive_layer,
    naive_logits,
    naive_percentile,
    naive_unit,
)
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError, UsageError
from lsncli.scores import common, ready
from lsncli.scores.line import Line
from lsncli.scores.react import React
from lsncli.types import Head, Rows

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


def naive_scores(head, p_a, p_w, clip):
    weights, bias = naive_layer(head)
    train = naive_unit(TRAIN.features)
    k = naive_percentile([v for x in train for v in x], clip)
    neurons, masked = [], []
    for c, row in enumerate(weights):
        of_class = [x for x, label in zip(train, TRAIN.labels, strict=True) if label == c]
        part = [sum(x[d] * row[d] for x in of_class) / len(of_class) for d in range(12)]
        limit = naive_percentile(part, p_a)
        neurons.append([float(s > limit) for s in part])
        table = [[abs(s) * w for s, w in zip(part, other, strict=True)] for other in weights]
        limit = naive_percentile([v for line in table for v in line], p_w)
        masked.append(
            [
                [w if v > limit else 0.0 for w, v in zip(other, line, strict=True)]
                for other, line in zip(weights, table, strict=True)
            ]
        )
    scores = []
    for x in naive_unit(FEATURES):
        a = [min(v, k) for v in x]
        logits = naive_logits(weights, bias, a)
        c = logits.index(max(logits))
        scores.append(naive_energy(masked[c], bias, [v * f for v, f in zip(a, neurons[c], strict=True)]))
    return scores


@each_head
@pytest.mark.parametrize(("p_a", "p_w", "clip"), [(10, 10, 90), (0, 0, 100), (50, 10, 75), (10, 60, 99)])
def test_scores_equal_a_naive_loop(head, p_a, p_w, clip):
    found = ready(Line(p_a=p_a, p_w=p_w, clip=clip), head, TRAIN)(FEATURES)
    assert found == pytest.approx(naive_scores(head, p_a, p_w, clip), rel=1e-9)


def test_the_neuron_and_the_weight_that_contribute_least_go():
    head = Head(("a", "b"), np.array([[1.0, 0.5], [-1.0, 2.0]]), scale=1.0)
    train = Rows(np.array([[3.0, 4.0], [3.0, 4.0], [4.0, 3.0]]), np.array([0, 0, 1], dtype=np.int32))
    learned = Line(p_a=0, p_w=0).fit(head, train)
    assert learned["contribution"] == pytest.approx(np.array([[0.6, 0.4], [-0.8, 1.2]]), rel=1e-15)
    assert learned["threshold"] == pytest.approx([-0.6, -0.8], rel=1e-15)
    learned["clip"] = np.array([1.0])
    # (1, 0) is class a: neuron 2 (contribution 0.4) and the weight -1 go, so that b has a logit of 0
    assert Line(p_a=0, p_w=0).scorer(head, learned)(np.array([[9.0, 0.0]])) == pytest.approx(
        [np.logaddexp(1.0, 0.0)], rel=1e-14
    )


def test_masks_that_keep_all_of_a_class_leave_react():
    learned = Line().fit(TEXT, TRAIN) | {"threshold": np.full(7, -np.inf)}
    learned["contribution"] = np.tile(np.arange(12.0), (7, 1))
    kept = FEATURES.copy()
    kept[:, 0] = 0  # the one neuron that the smallest p_a removes
    found = Line(p_a=0).scorer(TEXT, learned)(kept)
    assert found == pytest.approx(ready(React(), TEXT, TRAIN)(kept), rel=1e-12)


@given(chunk=st.integers(1, 100))
def test_chunks_of_training_rows_do_not_change_what_is_learned(chunk):
    whole = Line().fit(TEXT, TRAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "CHUNK", chunk)
        parts = Line().fit(TEXT, TRAIN)
    for name, array in whole.items():
        assert parts[name] == pytest.approx(array, rel=1e-12, abs=1e-14)


def test_what_is_learned_is_no_larger_than_the_head():
    shapes = {name: array.shape for name, array in Line().fit(TEXT, TRAIN).items()}
    assert shapes == {"contribution": (7, 12), "threshold": (7,), "clip": (1,)}


def test_a_class_without_rows_is_refused_by_name():
    some = TRAIN.labels != 3
    with pytest.raises(LsnError, match="'line' needs training rows of every class, and 'd' has none"):
        Line().fit(TEXT, Rows(TRAIN.features[some], TRAIN.labels[some]))


@pytest.mark.parametrize(
    ("name", "value"), [("p_a", 100.0), ("p_w", -1.0), ("clip", 101.0), ("clip", np.nan)]
)
def test_percentiles_that_cannot_be_meant_are_refused(name, value):
    with pytest.raises(UsageError, match=f"'{name}' must be a number from 0 to"):
        Line(**{name: value})
