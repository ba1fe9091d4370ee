"""The linear probe is the minimum that scikit-learn finds, at any device-sized chunk."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lsncli.errors import UsageError
from lsncli.training import linear_probe as probe
from lsncli.training.linear_probe import SWEEP, LinearProbe, choose_probe, fit_probes
from lsncli.types import Rows, unit

CPU = torch.device("cpu")


def rows(count: int = 90, classes: int = 3, dim: int = 8, seed: int = 0, noise: float = 0.7) -> Rows:
    """Clusters whose unit features share a large mean, as CLIP's do."""
    centres = np.random.default_rng(7).normal(size=(classes, dim))
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % classes).astype(np.int32)
    features = 3 + centres[labels] + noise * random.normal(size=(count, dim))
    return Rows(features.astype(np.float16), labels)


def fit(train: Rows, c: float, classes: int = 3, tolerance: float = 1e-8) -> LinearProbe:
    (found,) = fit_probes(train, classes, [c], CPU, tolerance=tolerance)
    return found


@pytest.mark.parametrize("c", [0.5, 20.0, 500.0])
def test_it_is_scikit_learns_logistic_regression_on_unit_features(c: float) -> None:
    train = rows()
    found = fit(train, c)
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(unit(train.features), train.labels)
    np.testing.assert_allclose(found.weights, theirs.coef_, rtol=0, atol=1e-4 * np.abs(theirs.coef_).max())
    gaps = found.bias - found.bias.mean(), theirs.intercept_ - theirs.intercept_.mean()
    np.testing.assert_allclose(gaps[0], gaps[1], rtol=0, atol=1e-4 * np.abs(gaps[1]).max())


@pytest.mark.parametrize("seed", range(6))
def test_weights_and_biases_sum_to_zero_over_the_classes_also_of_few_rows(seed: int) -> None:
    """Rounding that the optimiser gathers where no row is would decide any pseudo-inverse of the weights."""
    (found,) = fit_probes(rows(40, 3, 64, seed), 3, [1000.0], CPU)
    values = np.linalg.svd(found.weights, compute_uv=False)
    assert values[-1] < 1e-13 * values[0] < values[-2]
    assert abs(found.bias.sum()) < 1e-12 * np.abs(found.bias).max()


def gradient(train: Rows, found: LinearProbe, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Of sum cross-entropy + |W|^2 / (2 C), written from the formula, row by row."""
    by_weights, by_bias = found.weights / c, np.zeros(len(found.bias))
    for x, label in zip(unit(train.features), train.labels, strict=True):
        logits = found.weights @ x + found.bias
        wrong = np.exp(logits - logits.max())
        wrong /= wrong.sum()
        wrong[label] -= 1
        by_weights, by_bias = by_weights + np.outer(wrong, x), by_bias + wrong
    return by_weights, by_bias


@pytest.mark.parametrize("c", [1.0, 1000.0])
def test_the_gradient_of_the_regularised_loss_is_zero_there(c: float) -> None:
    train = rows(seed=3)
    zero = gradient(train, LinearProbe(np.zeros((3, 8)), np.zeros(3)), c)
    for here, there in zip(gradient(train, fit(train, c), c), zero, strict=True):
        assert np.abs(here).max() < 1e-6 * max(1.0, np.abs(there).max())
    usual = fit(train, c, tolerance=probe.TOLERANCE)
    assert np.abs(gradient(train, usual, c)[0]).max() < 1e-2 * np.abs(zero[0]).max()


def test_chunks_do_not_matter(monkeypatch) -> None:
    whole = fit(rows(), 10.0)
    monkeypatch.setattr(probe, "CHUNK", 7)
    parts = fit(rows(), 10.0)
    np.testing.assert_allclose(parts.weights, whole.weights, rtol=0, atol=1e-5)
    assert parts.accuracy_and_loss(rows(seed=1)) == pytest.approx(whole.accuracy_and_loss(rows(seed=1)))


def test_a_start_from_another_strength_ends_at_the_same_probe() -> None:
    train = rows()
    (*_, last) = fit_probes(train, 3, [1.0, 10.0, 100.0], CPU, tolerance=1e-8)
    np.testing.assert_allclose(last.weights, fit(train, 100.0).weights, rtol=0, atol=1e-3)


def test_the_length_of_features_does_not_matter() -> None:
    train = rows()
    longer = Rows((2 * train.features).astype(np.float16), train.labels)
    np.testing.assert_allclose(fit(longer, 5.0).weights, fit(train, 5.0).weights, rtol=0, atol=1e-6)


def test_the_best_strength_is_right_most_often_on_held_out_rows() -> None:
    train, held_out = rows(45, noise=2.0), rows(300, seed=5, noise=2.0)
    c, found = choose_probe(train, held_out, 3, CPU)
    marks = {one: fit(train, one, tolerance=1e-3).accuracy_and_loss(held_out) for one in SWEEP}
    assert marks[c][0] >= max(right for right, _ in marks.values()) - 0.01
    assert found.accuracy_and_loss(held_out)[0] == pytest.approx(marks[c][0], abs=0.01)


def test_among_equally_right_strengths_the_surest_wins() -> None:
    easy = rows(60, noise=0.05)
    c, _ = choose_probe(easy, easy, 3, CPU)
    assert c == SWEEP[-1]


@pytest.mark.parametrize("c", [0.0, -1.0, float("nan"), float("inf")])
def test_a_strength_that_cannot_be_meant_is_refused(c: float) -> None:
    with pytest.raises(UsageError, match="--c: expected a finite number above 0"):
        fit(rows(), c)
