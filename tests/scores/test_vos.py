"""VOS: the score and its training against loops, its limits, and what outliers do to the energy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from naive_training import clusters, cross_entropy, descend, linear_probe
from torch.nn.functional import normalize

from lsncli.device import seeded
from lsncli.errors import LsnError, UsageError
from lsncli.metrics import auroc
from lsncli.scores import ready
from lsncli.scores.energy import Energy
from lsncli.scores.outliers import FLOOR, class_gaussians, unlikeliest
from lsncli.scores.training import cosine
from lsncli.scores.vos import Vos
from lsncli.types import Head, Rows, unit


@pytest.mark.parametrize("probe", [False, True])
def test_scores_equal_a_naive_weighted_energy_of_the_trained_head(head, train, features, probe):
    chosen = linear_probe(head) if probe else head
    vos = Vos(epochs=5)
    learned = {name: array.astype(float) for name, array in vos.fit(chosen, train).items()}
    expected = []
    for x in unit(features):
        terms = [
            (max(e, 0.0) + FLOOR) * math.exp(math.fsum(w * x) + b)
            for w, b, e in zip(learned["weights"], learned["bias"], learned["energy"], strict=True)
        ]
        expected.append(math.log(math.fsum(terms)))
    assert vos.scorer(chosen, vos.fit(chosen, train))(features) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("probe", [False, True])
def test_an_untrained_head_with_weights_of_one_is_energy(head, features, probe):
    chosen = linear_probe(head) if probe else head
    bias = np.zeros(7) if chosen.bias is None else chosen.bias
    learned = {"weights": chosen.scale * chosen.weights, "bias": bias, "energy": np.ones(7)}
    expected = Energy().scorer(chosen, {})(features)
    assert Vos().scorer(chosen, learned)(features) == pytest.approx(expected, abs=2 * FLOOR)


@pytest.mark.parametrize("probe", [False, True])
def test_without_weight_on_outliers_training_equals_naive_cross_entropy(probe):
    head, train, _, _ = clusters(3, 4, 4, width=0.8)
    head = linear_probe(head) if probe else replace(head, scale=5.0)
    rows = unit(train.features)

    def loss(both):
        logits = [[math.fsum(w * x) + b for w, b in zip(both[:, :4], both[:, 4], strict=True)] for x in rows]
        return np.mean([cross_entropy(row, c) for row, c in zip(logits, train.labels, strict=True)])

    bias = np.zeros(3) if head.bias is None else head.bias
    start = np.column_stack([head.scale * head.weights, bias])
    plan = {"epochs": 8, "rate": 0.5}
    expected = descend(loss, start, decay=0.0, nesterov=True, schedule=cosine, **plan)
    found = Vos(weight=1e-12, batch_size=12, **plan).fit(head, train)
    assert np.abs(expected - start).max() > 0.1
    assert found["weights"] == pytest.approx(expected[:, :4], rel=1e-3, abs=1e-4)
    assert found["bias"] == pytest.approx(expected[:, 4], rel=1e-3, abs=1e-4)


def test_training_with_outliers_tells_them_from_id_rows():
    head, train, inside, _ = clusters(5, 40, 16, width=0.15)
    head = linear_probe(head)  # of random weights, with energies that say nothing
    rows, labels = torch.from_numpy(unit(train.features)), torch.from_numpy(train.labels).long()
    gaussians = class_gaussians([(rows, labels)], 5, 0.01)
    outliers = normalize(unlikeliest(gaussians, 10_000, 40, seeded(9)), dim=-1).numpy()

    def separated(weight):
        scorer = ready(Vos(weight=weight), head, train)
        return auroc(scorer(inside), scorer(outliers))

    assert separated(0.1) > separated(1e-12) + 0.03


def test_more_classes_than_rows_of_a_batch_take_turns(head, train):
    found = Vos(epochs=2, batch_size=3, start=0.0).fit(head, train)
    assert all(np.isfinite(array).all() for array in found.values())


def test_one_class_has_an_energy(train, features):
    alone = Head(("a",), unit(np.ones((1, 12))))
    rows = Rows(train.features, np.zeros_like(train.labels))
    assert np.isfinite(ready(Vos(epochs=2), alone, rows)(features)).all()


def test_classes_of_one_row_each_have_no_spread_and_are_refused(head, train):
    one = [int(np.flatnonzero(train.labels == c)[0]) for c in range(7)]
    with pytest.raises(LsnError, match="'vos' needs training rows that differ within a class, found 7 rows"):
        Vos().fit(head, Rows(train.features[one], train.labels[one]))


@pytest.mark.parametrize("settings", [{"draws": 0}, {"select": 0}, {"ridge": 0.0}])
def test_counts_and_ridge_must_be_positive(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=f"'{name}' must be a finite number above 0"):
        Vos(**settings)


def test_no_more_outliers_than_draws_can_be_selected():
    with pytest.raises(UsageError, match="'select' is 6, but only 5 draws are made"):
        Vos(draws=5, select=6)
