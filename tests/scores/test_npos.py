"""NPOS: the score and its training against loops, MCM as its start, and classes of any size."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from naive_training import clusters, cross_entropy, descend, linear_probe

from lsncli.errors import UsageError
from lsncli.scores import npos, ready
from lsncli.scores.mcm import Mcm
from lsncli.scores.npos import Npos
from lsncli.scores.training import constant
from lsncli.types import Rows, unit


def adapted(x, adaptor):
    moved = [x[i] + math.fsum(adaptor[i] * x) for i in range(len(x))]
    return np.array(moved) / math.hypot(*moved)


@pytest.mark.parametrize("probe", [False, True])
def test_scores_equal_a_naive_softmax_of_adapted_features(head, train, features, softmax, probe):
    chosen = linear_probe(head) if probe else head
    score = Npos(epochs=4, rate=1.0)
    learned = score.fit(chosen, train)
    bias = np.zeros(7) if chosen.bias is None else chosen.bias
    expected = []
    for x in unit(features):
        moved = adapted(x, learned["adaptor"].astype(float))
        expected.append(
            max(softmax([math.fsum(w * moved) + b for w, b in zip(chosen.weights, bias, strict=True)]))
        )
    found = score.scorer(chosen, learned)(features)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found != pytest.approx(Mcm().scorer(chosen, {})(features), rel=1e-4)


def test_an_adaptor_of_zero_is_mcm(head, features):
    found = Npos().scorer(head, {"adaptor": np.zeros((12, 12), np.float32)})(features)
    assert found == pytest.approx(Mcm().scorer(head, {})(features), rel=1e-12)


@pytest.mark.parametrize("probe", [False, True])
def test_without_weight_on_outliers_training_equals_naive_logit_norm(probe):
    head, train, _, _ = clusters(3, 4, 3, width=0.8)
    head = linear_probe(head) if probe else head
    bias = np.zeros(3) if head.bias is None else head.bias

    def loss(adaptor):
        total = 0.0
        for x, label in zip(unit(train.features), train.labels, strict=True):
            moved = adapted(x, adaptor)
            logits = [math.fsum(w * moved) + b for w, b in zip(head.weights, bias, strict=True)]
            total += cross_entropy([v / (0.5 * math.hypot(*logits)) for v in logits], label)
        return total / len(train)

    plan = {"epochs": 6, "rate": 0.2}
    expected = descend(loss, np.zeros((3, 3)), decay=1e-4, nesterov=True, schedule=constant, **plan)
    found = Npos(weight=1e-12, temperature=0.5, batch_size=12, **plan).fit(head, train)
    assert np.abs(expected).max() > 0.1
    assert found["adaptor"] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_outliers_change_what_is_learned(head, train):
    with_them, without = (Npos(weight=weight).fit(head, train)["adaptor"] for weight in (1.0, 1e-12))
    assert np.abs(with_them - without).max() > 1e-3


def test_counts_shrink_with_the_class_and_reach_the_published_ones_at_a_full_queue(monkeypatch):
    seen = []
    monkeypatch.setattr(npos, "boundary_outliers", lambda rows, *_, **counts: seen.append(counts) or rows)
    for count in (1, 10, 128, 1000):
        Npos()._outliers(torch.zeros(count, 4), torch.zeros(1, 4), torch.Generator())
    assert [(s["neighbours"], s["boundary"]) for s in seen] == [(2, 1), (4, 3), (51, 38), (400, 300)]


def test_a_class_larger_than_the_queue_is_sampled(head, train, monkeypatch):
    monkeypatch.setattr(npos, "QUEUE", 4)
    sizes = []
    real = npos.boundary_outliers
    monkeypatch.setattr(
        npos, "boundary_outliers", lambda rows, *a, **k: sizes.append(len(rows)) or real(rows, *a, **k)
    )
    Npos(epochs=2).fit(head, train)
    assert sizes == [4] * 7  # one epoch of two has outliers


def test_one_row_a_class_is_enough(head, train, features):
    one = [int(np.flatnonzero(train.labels == c)[0]) for c in range(7)]
    rows = Rows(train.features[one], train.labels[one])
    assert np.isfinite(ready(Npos(epochs=4), head, rows)(features)).all()


def test_the_scale_of_a_text_head_does_not_matter(head, train, features):
    twice = replace(head, scale=200.0)
    found = ready(Npos(epochs=3), twice, train)(features)
    assert found == pytest.approx(ready(Npos(epochs=3), head, train)(features), rel=1e-5)


@pytest.mark.parametrize("name", ["temperature", "k", "select", "pick", "candidates", "keep", "noise"])
def test_settings_must_be_positive(name):
    with pytest.raises(UsageError, match=f"'{name}' must be a finite number above 0"):
        Npos(**{name: 0})
