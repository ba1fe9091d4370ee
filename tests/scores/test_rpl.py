"""RPL: score, loss and training against loops, and why unit features need a scale and a temperature."""

import math

import numpy as np
import pytest
import torch
from naive_training import clusters, cross_entropy, descend

from lsncli.device import seeded
from lsncli.errors import UsageError
from lsncli.scores import load_score, ready
from lsncli.scores.points import mean_squares
from lsncli.scores.rpl import Rpl, rpl_loss
from lsncli.scores.training import steps
from lsncli.types import unit


def naive_distances(z, points):
    return [math.fsum((a - b) ** 2 for a, b in zip(z, p, strict=True)) / len(z) for p in points]


def naive_loss(rows, labels, points, radius, temperature, weight):
    total = 0.0
    for z, label in zip(rows, labels, strict=True):
        d = naive_distances(z, points)
        total += cross_entropy([v / temperature for v in d], label) + weight * (d[label] - radius) ** 2
    return total / len(rows)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_scores_equal_naive_distances(head, train, features, softmax, scale):
    learned = Rpl(epochs=5, scale=scale).fit(head, train)
    z = scale * math.sqrt(12) * unit(features)
    distances = [naive_distances(row, learned["points"].astype(float)) for row in z]
    found = Rpl(scale=scale).scorer(head, learned)(features)
    assert found == pytest.approx([max(d) for d in distances], rel=1e-6)
    found = Rpl(scale=scale, form="softmax").scorer(head, learned)(features)
    assert found == pytest.approx([max(softmax(d)) for d in distances], rel=1e-6)


def test_a_point_opposite_is_farthest():
    points = {"points": np.array([[2.0, 0.0], [0.0, 2.0]], np.float32)}
    scorer = Rpl().scorer(None, points)
    x = np.array([[-1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    # z has length sqrt(2); the mean of squares halves |z - p|^2.
    opposite, aside, between = (math.sqrt(2) + 2) ** 2 / 2, 3.0, (1 + 1) / 2
    assert scorer(x) == pytest.approx([opposite, aside, between])


def test_the_loss_equals_loops():
    rng = np.random.default_rng(0)
    rows, labels, points = rng.normal(size=(6, 4)), np.array([0, 2, 1, 1, 0, 2]), rng.normal(size=(3, 4))
    found = rpl_loss(
        torch.from_numpy(rows),
        torch.from_numpy(labels),
        torch.from_numpy(points),
        torch.tensor(0.7),
        temperature=0.3,
        weight=0.2,
    )
    assert float(found) == pytest.approx(naive_loss(rows, labels, points, 0.7, 0.3, 0.2), rel=1e-6)
    distances = [naive_distances(row, points) for row in rows]
    assert mean_squares(torch.from_numpy(rows), torch.from_numpy(points)).numpy() == pytest.approx(
        np.array(distances), rel=1e-12
    )


def test_training_equals_a_naive_loop():
    head, train, _, _ = clusters(2, 4, 3, width=0.8)
    rows = math.sqrt(3) * unit(train.features)

    def loss(flat):
        return naive_loss(rows, train.labels, flat[:6].reshape(2, 3), flat[6], 0.1, 0.1)

    start = np.append(0.1 * torch.randn(2, 3, generator=seeded(0)).double().numpy(), 0.0)
    plan = {"epochs": 10, "rate": 0.05}
    expected = descend(loss, start, decay=1e-4, nesterov=False, schedule=steps, **plan)
    found = Rpl(temperature=0.1, batch_size=8, **plan).fit(head, train)["points"]
    assert np.abs(expected - start).max() > 0.1
    assert found == pytest.approx(expected[:6].reshape(2, 3), rel=1e-3, abs=1e-4)


def training_loss(score, head, train):
    """Cross-entropy of the training rows in units of log C, which is what knowing nothing costs."""
    points = score.fit(head, train)["points"].astype(float)
    z = score.scale * math.sqrt(points.shape[1]) * unit(train.features)
    d = ((z[:, None] - points) ** 2).mean(axis=2) / score.temperature
    own = d[np.arange(len(d)), train.labels]
    return np.mean(np.log(np.exp(d - own[:, None]).sum(axis=1))) / math.log(len(points))


def test_published_settings_hardly_learn_from_unit_features_and_the_defaults_do():
    head, train, _, _ = clusters(5, 32, 64, width=0.1)
    assert training_loss(Rpl(scale=1 / 8, temperature=1.0), head, train) > 0.99
    assert training_loss(Rpl(scale=1.0, temperature=1.0), head, train) > 0.6
    assert training_loss(Rpl(), head, train) < 0.1


def test_the_prompts_do_not_matter(head, train, features):
    other = type(head)(head.classes, head.weights[::-1], 1.0)
    found = ready(Rpl(epochs=2), other, train)(features)
    assert np.array_equal(found, ready(Rpl(epochs=2), head, train)(features))


@pytest.mark.parametrize("name", ["rpl", "arpl"])
@pytest.mark.parametrize("setting", ["scale", "temperature"])
def test_scale_and_temperature_must_be_positive(name, setting):
    with pytest.raises(UsageError, match=f"'{setting}' must be a finite number above 0"):
        load_score(name, **{setting: 0.0})
