"""Synthetic outliers against the published procedures by brute force, and the losses against loops."""

import math

import numpy as np
import pytest
import torch
from naive_training import cross_entropy
from scipy.stats import chi2, kstest

from lsncli.device import seeded
from lsncli.scores.outliers import (
    FLOOR,
    Gaussians,
    Mlp,
    boundary_outliers,
    class_gaussians,
    farthest_radii,
    logit_norm_loss,
    separation_loss,
    unlikeliest,
    vos_loss,
    weighted_energy,
)
from lsncli.types import unit


def rng_tensor(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_farthest_radii_are_distributed_as_the_longest_of_many_draws(place):
    drawn = np.random.default_rng(1).normal(size=(3000, 60, 4))
    longest = np.sort(np.linalg.norm(drawn, axis=2), axis=1)[:, ::-1]
    found = farthest_radii(4, 3000, 60, 3, seeded(0)).numpy()
    assert kstest(found[:, place], longest[:, place]).pvalue > 0.02


@pytest.mark.parametrize(("dim", "draws"), [(2, 1), (12, 100), (512, 10_000)])
def test_the_largest_squared_radius_follows_the_power_of_the_chi_square_distribution(dim, draws):
    found = farthest_radii(dim, 4000, draws, 1, seeded(0)).numpy()[:, 0]
    assert kstest(found**2, lambda r: chi2.cdf(r, dim) ** draws).pvalue > 0.02


def test_all_draws_kept_are_all_radii_in_order():
    found = farthest_radii(3, 2000, 5, 5, seeded(0)).numpy()
    assert (np.diff(found, axis=1) <= 0).all()
    assert kstest(found.ravel() ** 2, chi2(3).cdf).pvalue > 0.02


def test_the_unlikeliest_are_distributed_as_those_of_many_samples_by_their_density():
    means = torch.tensor([[1.0, -2.0, 0.5]])
    factor = torch.tensor([[0.5, 0.0, 0.0], [0.3, 0.2, 0.0], [-0.1, 0.4, 1.0]])
    normal = torch.distributions.MultivariateNormal(means[0], scale_tril=factor)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        samples = normal.sample((2500, 80))
    lowest = samples[torch.arange(2500), normal.log_prob(samples).argmin(dim=1)]
    many = Gaussians(means.expand(2500, 3), factor)
    found = unlikeliest(many, 80, 1, seeded(0))
    assert found.shape == (2500, 3)
    for axis in range(3):
        assert kstest(found[:, axis].numpy(), lowest[:, axis].numpy()).pvalue > 0.02
    assert kstest(normal.log_prob(found).numpy(), normal.log_prob(lowest).numpy()).pvalue > 0.02


def test_outliers_of_some_classes_lie_about_their_means_row_after_row():
    gaussians = Gaussians(100.0 * torch.arange(4.0)[:, None].expand(4, 2), torch.eye(2))
    found = unlikeliest(gaussians, 10, 3, seeded(0), only=torch.tensor([2, 0]))
    assert found.shape == (6, 2)
    assert (found[:3] - 200).abs().max() < 10
    assert found[3:].abs().max() < 10


def test_gaussians_equal_loops_over_classes_with_a_relative_ridge():
    features, labels = rng_tensor(30, 4), torch.arange(30) % 3
    found = class_gaussians([(features, labels)], 3, ridge=0.25)
    means = [np.mean([features[i].numpy() for i in range(30) if i % 3 == c], axis=0) for c in range(3)]
    covariance = sum(np.outer(d, d) for d in (features[i].numpy() - means[i % 3] for i in range(30))) / 30
    covariance += 0.25 * np.mean(np.diag(covariance)) * np.eye(4)
    assert found.means.numpy() == pytest.approx(np.array(means), rel=1e-6)
    assert (found.factor @ found.factor.T).numpy() == pytest.approx(covariance, rel=1e-5, abs=1e-7)


def test_gaussians_do_not_depend_on_the_parts():
    features, labels = rng_tensor(30, 4), torch.arange(30) % 3
    whole = class_gaussians([(features, labels)], 3, 0.01)
    parts = class_gaussians([(features[:7], labels[:7]), (features[7:], labels[7:])], 3, 0.01)
    assert parts.factor.numpy() == pytest.approx(whole.factor.numpy(), rel=1e-5, abs=1e-7)


def test_fewer_rows_than_dimensions_still_give_a_gaussian():
    found = class_gaussians([(rng_tensor(4, 20), torch.tensor([0, 0, 1, 1]))], 2, 0.01)
    assert np.isfinite(unlikeliest(found, 100, 2, seeded(0)).numpy()).all()


def test_equal_rows_of_a_class_give_no_gaussian():
    labels = torch.arange(3).repeat_interleave(5)
    rows = torch.from_numpy(unit(rng_tensor(3, 6).numpy())).repeat_interleave(5, dim=0)
    assert class_gaussians([(rows, labels)], 3, 0.01) is None


def naive_boundary(rows, noise, neighbours, boundary, keep):
    """Distances by brute force, all edge rows in order of their distance."""

    def kth(point):
        return sorted(float(np.linalg.norm(point - row)) for row in rows)[neighbours - 1]

    edge = sorted(range(len(rows)), key=lambda i: -kth(rows[i]))[:boundary]
    found = []
    for i in edge:
        candidates = unit(rows[i] + noise)
        found += sorted(candidates.tolist(), key=lambda point: -kth(np.array(point)))[:keep]
    return found


@pytest.mark.parametrize(("neighbours", "boundary", "keep"), [(2, 5, 2), (4, 3, 1), (20, 20, 4)])
def test_boundary_outliers_equal_distances_by_brute_force(neighbours, boundary, keep):
    rows, noise = unit(rng_tensor(20, 5).numpy()), 0.3 * rng_tensor(40, 5, seed=1).numpy()
    found = boundary_outliers(
        torch.from_numpy(rows),
        torch.from_numpy(noise),
        seeded(0),
        neighbours=neighbours,
        boundary=boundary,
        pick=boundary,
        keep=keep,
    )
    expected = naive_boundary(rows, noise, neighbours, boundary, keep)
    assert np.array(sorted(found.tolist())) == pytest.approx(np.array(sorted(expected)), abs=1e-12)


def test_picked_edge_rows_are_some_of_the_edge():
    rows = torch.from_numpy(unit(rng_tensor(20, 5).numpy()))
    counts = {"neighbours": 3, "boundary": 8, "keep": 1}
    still = torch.zeros(1, 5, dtype=torch.float64)
    edge = boundary_outliers(rows, still, seeded(0), pick=8, **counts).tolist()
    picks = [boundary_outliers(rows, still, seeded(seed), pick=2, **counts).tolist() for seed in range(30)]
    assert all(len(pick) == 2 and pick[0] != pick[1] for pick in picks)
    drawn = {tuple(np.round(row, 9)) for pick in picks for row in pick}
    assert drawn == {tuple(np.round(row, 9)) for row in edge}


def test_one_row_is_its_own_edge_and_counts_are_cut_to_what_there_is():
    row, noise = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.1], [0.0, 1.0], [1.0, 0.0]])
    found = boundary_outliers(row, noise, seeded(0), neighbours=9, boundary=9, pick=9, keep=2)
    assert found.numpy() == pytest.approx(unit(np.array([[1.0, 1.0], [1.0, 0.1]])), abs=1e-6)


def naive_energy(logits, weights):
    return math.log(
        math.fsum((max(w, 0.0) + FLOOR) * math.exp(v) for v, w in zip(logits, weights, strict=True))
    )


def test_weighted_energy_equals_loops_and_ignores_how_far_weights_are_below_zero():
    logits, weights = rng_tensor(6, 4), torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
    expected = [naive_energy(row, weights.tolist()) for row in logits.tolist()]
    assert weighted_energy(logits, weights).numpy() == pytest.approx(expected, rel=1e-12)
    lower = weights.clone()
    lower[1] = -7.0
    assert torch.equal(weighted_energy(logits, weights), weighted_energy(logits, lower))


def test_no_weight_above_zero_still_gives_finite_energies():
    assert weighted_energy(rng_tensor(2, 3), -torch.ones(3)).isfinite().all()


def test_separation_loss_equals_loops():
    inside, outside = rng_tensor(5), rng_tensor(3, seed=1)
    total = math.fsum(math.log(1 + math.exp(-v)) for v in inside.tolist())
    total += math.fsum(math.log(1 + math.exp(v)) for v in outside.tolist())
    assert float(separation_loss(inside, outside)) == pytest.approx(total / 8, rel=1e-12)


def test_vos_loss_equals_loops():
    inside, outside = rng_tensor(5, 3), rng_tensor(4, 3, seed=1)
    weights, (slope, shift) = [0.2, 0.9, -0.1], (1.7, -0.4)
    odds = [slope * naive_energy(row, weights) + shift for row in inside.tolist()]
    against = [slope * naive_energy(row, weights) + shift for row in outside.tolist()]
    total = sum(math.log(1 + math.exp(-v)) for v in odds) + sum(math.log(1 + math.exp(v)) for v in against)
    pair = torch.tensor([slope, shift], dtype=torch.float64)
    found = vos_loss(inside, outside, torch.tensor(weights, dtype=torch.float64), pair)
    assert float(found) == pytest.approx(total / 9, rel=1e-12)


def test_logit_norm_loss_equals_loops_and_ignores_the_length_of_logits():
    logits, labels = rng_tensor(5, 3), torch.tensor([0, 2, 1, 1, 0])
    expected = [
        cross_entropy([v / (0.4 * math.hypot(*row)) for v in row], label)
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    assert float(logit_norm_loss(logits, labels, 0.4)) == pytest.approx(np.mean(expected), rel=1e-12)
    lengths = torch.tensor([[0.1], [1.0], [3.0], [10.0], [50.0]], dtype=torch.float64)
    assert float(logit_norm_loss(lengths * logits, labels, 0.4)) == pytest.approx(
        np.mean(expected), rel=1e-12
    )


def test_the_mlp_equals_loops():
    mlp = Mlp(3, seeded(0), torch.device("cpu"), hidden=4)
    first, first_bias, last, last_bias = (p.detach().double().tolist() for p in mlp.parameters)
    features = rng_tensor(6, 3).float()
    expected = []
    for row in features.double().tolist():
        hidden = [
            max(0.0, sum(a * b for a, b in zip(row, weights, strict=True)) + bias)
            for weights, bias in zip(first, first_bias, strict=True)
        ]
        expected.append(sum(a * b for a, b in zip(hidden, last, strict=True)) + last_bias[0])
    assert mlp(features).detach().numpy() == pytest.approx(np.array(expected), rel=1e-5, abs=1e-6)
    assert all(p.requires_grad and p.is_leaf for p in mlp.parameters)
