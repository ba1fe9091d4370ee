"""ARPL: score, loss and training against loops, and what the margin does."""

import math

import numpy as np
import pytest
import torch
from naive_training import clusters, cross_entropy, descend

from lsncli.device import seeded
from lsncli.metrics import auroc
from lsncli.scores import ready
from lsncli.scores.arpl import Arpl, arpl_logits, arpl_loss
from lsncli.scores.training import steps
from lsncli.types import unit


def naive_distance(z, point):
    return math.fsum((a - b) ** 2 for a, b in zip(z, point, strict=True)) / len(z)


def naive_logits(z, points):
    return [naive_distance(z, p) - math.fsum(a * b for a, b in zip(z, p, strict=True)) for p in points]


def naive_loss(rows, labels, points, radius, temperature, weight):
    total = 0.0
    for z, label in zip(rows, labels, strict=True):
        logits = naive_logits(z, points)
        excess = max(0.0, naive_distance(z, points[label]) - radius + 1)
        total += cross_entropy([v / temperature for v in logits], label) + weight * excess
    return total / len(rows)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_scores_equal_naive_logits(head, train, features, scale):
    learned = Arpl(epochs=5, scale=scale).fit(head, train)
    z = scale * math.sqrt(12) * unit(features)
    expected = [max(naive_logits(row, learned["points"].astype(float))) for row in z]
    assert Arpl(scale=scale).scorer(head, learned)(features) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("radius", [-3.0, 0.7, 2.5, 40.0])
def test_the_loss_equals_loops_on_both_sides_of_the_margin(radius):
    rng = np.random.default_rng(0)
    rows, labels, points = rng.normal(size=(6, 4)), np.array([0, 2, 1, 1, 0, 2]), rng.normal(size=(3, 4))
    found = arpl_loss(
        torch.from_numpy(rows),
        torch.from_numpy(labels),
        torch.from_numpy(points),
        torch.tensor(radius),
        temperature=0.3,
        weight=0.2,
    )
    assert float(found) == pytest.approx(naive_loss(rows, labels, points, radius, 0.3, 0.2), rel=1e-6)
    expected = [naive_logits(row, points) for row in rows]
    assert arpl_logits(torch.from_numpy(rows), torch.from_numpy(points)).numpy() == pytest.approx(
        np.array(expected), rel=1e-12, abs=1e-12
    )


def test_training_equals_a_naive_loop():
    head, train, _, _ = clusters(2, 4, 3, width=0.8)
    rows = math.sqrt(3) * unit(train.features)

    def loss(flat):
        return naive_loss(rows, train.labels, flat[:6].reshape(2, 3), flat[6], 1.0, 0.1)

    start = np.append(0.1 * torch.randn(2, 3, generator=seeded(0)).double().numpy(), 0.0)
    plan = {"epochs": 10, "rate": 0.05}
    expected = descend(loss, start, decay=1e-4, nesterov=False, schedule=steps, **plan)
    found = Arpl(batch_size=8, **plan).fit(head, train)["points"]
    assert np.abs(expected - start).max() > 0.1
    assert found == pytest.approx(expected[:6].reshape(2, 3), rel=1e-3, abs=1e-4)


def test_points_come_to_lie_opposite_their_class():
    head, train, inside, outside = clusters(4, 32, 16, width=0.1)
    score = Arpl()
    points = unit(score.fit(head, train)["points"])
    assert (np.diag(points @ head.weights.T) < -0.5).all()
    scorer = ready(score, head, train)
    assert auroc(scorer(inside), scorer(outside)) > 0.9


def test_a_zero_feature_scores_the_farthest_point(head, train):
    learned = Arpl(epochs=2).fit(head, train)
    expected = (learned["points"].astype(float) ** 2).mean(axis=1).max()
    assert Arpl().scorer(head, learned)(np.zeros((1, 12))) == pytest.approx([expected])
