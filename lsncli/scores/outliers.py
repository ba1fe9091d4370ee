"""Synthesise outliers from ID features, and losses that separate the two: VOS and NPOS.

The functions work on plain tensors, for heads on frozen features as well as for fine-tuned towers. Random
numbers come from a generator on the CPU, so that a seed gives the same numbers on every device.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from scipy.special import gammainccinv
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

FLOOR = 1e-6
"""Added to the energy weights, so that a class with a weight below zero still has an energy."""


@dataclass(frozen=True)
class Gaussians:
    """Class Gaussians N(``means[c]``, L L^T) with one shared covariance, L = ``factor``.

    Shapes (C, D) and (D, D), float32 on the CPU.
    """

    means: Tensor
    factor: Tensor


def class_gaussians(parts: Iterable[tuple[Tensor, Tensor]], classes: int, ridge: float) -> Gaussians | None:
    """Fit class means and the within-class covariance of features (N, D) with labels (N,), given in parts.

    Sums are in float64; ``ridge`` times the mean variance of a coordinate is added to every variance. Returns
    None if no feature differs from its class mean.
    """
    counts = sums = scatter = torch.zeros((), dtype=torch.float64)
    for features, labels in parts:
        wide = features.double()
        mine = torch.zeros(classes, wide.shape[1], dtype=torch.float64)
        counts = counts + torch.bincount(labels, minlength=classes).cpu()
        sums = sums + mine.index_add_(0, labels.cpu(), wide.cpu())  # CUDA adds in an order that changes
        scatter = scatter + (wide.T @ wide).cpu()
    means = sums / counts[:, None]
    covariance = (scatter - sums.T @ means) / counts.sum()
    variance = float(covariance.diagonal().mean())
    if variance <= 1e-12 * float(scatter.diagonal().mean() / counts.sum()):
        return None
    covariance.diagonal().add_(ridge * variance)
    return Gaussians(means.float(), torch.linalg.cholesky(covariance).float())


def farthest_radii(dim: int, classes: int, draws: int, keep: int, generator: torch.Generator) -> Tensor:
    """Sample the ``keep`` largest lengths of ``draws`` standard normal vectors in R^``dim``: (classes, keep).

    The distribution is exact, without drawing the vectors. The squared length has the chi-square distribution
    F. The largest of m has the distribution F^m, hence is F^-1(V^(1/m)) for uniform V, and the next is the
    largest of the remaining m - 1: with u_0 = 1, u_i = u_(i-1) V_i^(1/(m-i+1)), the i-th longest is
    F^-1(u_i). The computation inverts the tail 1 - u, because u is close to 1.
    """
    uniform = torch.rand(classes, keep, generator=generator, dtype=torch.float64).clamp_min(1e-300)
    left = torch.arange(draws, draws - keep, -1, dtype=torch.float64)
    tails = -torch.expm1((uniform.log() / left).cumsum(dim=1))
    return torch.from_numpy(2.0 * gammainccinv(dim / 2.0, tails.numpy())).sqrt()


def unlikeliest(
    gaussians: Gaussians, draws: int, keep: int, generator: torch.Generator, only: Tensor | None = None
) -> Tensor:
    """Sample ``draws`` rows per class (or per class in ``only``), and return the ``keep`` least likely (VOS).

    Shape (classes * keep, D), float32 on the CPU. A sample is mean + L z with standard normal z, and its
    log-likelihood is a constant minus |z|^2 / 2, so the least likely have the longest z. The direction of z
    is uniform and independent of its length, so both are drawn separately (``farthest_radii``). This has the
    same distribution at the cost of ``keep`` samples instead of ``draws``.
    """
    means = gaussians.means if only is None else gaussians.means[only]
    classes, dim = means.shape
    radii = farthest_radii(dim, classes, draws, keep, generator).float()
    directions = normalize(torch.randn(classes, keep, dim, generator=generator), dim=-1)
    spread = (radii[..., None] * directions).flatten(0, 1) @ gaussians.factor.T
    return means.repeat_interleave(keep, dim=0) + spread


def boundary_outliers(
    rows: Tensor,
    noise: Tensor,
    generator: torch.Generator,
    *,
    neighbours: int,
    boundary: int,
    pick: int,
    keep: int,
) -> Tensor:
    """Return NPOS unit outliers (pick * keep, D) near the boundary of one class of unit ``rows`` (n, D).

    Boundary rows are the ``boundary`` rows farthest from their ``neighbours``-th nearest row (each row is its
    own first neighbour); ``pick`` of them are drawn at random. Every row of ``noise`` (M, D) is added to
    each, and the ``keep`` sums farthest from their own ``neighbours``-th nearest row are returned. Counts
    are limited to the available rows. Distances between unit vectors are ranked by cosine.
    """
    position = len(rows) - min(neighbours, len(rows)) + 1  # rank of the neighbour in ascending cosines
    lonely = (rows @ rows.T).kthvalue(position, dim=1).values
    edge = lonely.topk(min(boundary, len(rows)), largest=False).indices
    drawn = rows[edge[torch.randperm(len(edge), generator=generator)[:pick].to(edge.device)]]
    products = (drawn @ rows.T)[:, None] + noise @ rows.T  # (pick, M, n), of sums not yet of length one
    lengths = (drawn.square().sum(1)[:, None] + 2 * drawn @ noise.T + noise.square().sum(1)).sqrt()
    away = products.kthvalue(position, dim=2).values / lengths
    far = away.topk(min(keep, len(noise)), dim=1, largest=False).indices
    return normalize(drawn[:, None] + noise[far], dim=-1).flatten(0, 1)


def weighted_energy(logits: Tensor, weights: Tensor) -> Tensor:
    """Return log sum_c w_c exp(l_c) for logits (N, C), w = max(``weights``, 0) + FLOOR; higher = more ID."""
    return torch.logsumexp(logits + (weights.relu() + FLOOR).log(), dim=1)


def separation_loss(inside: Tensor, outside: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of ID log-odds: target 1 for ``inside``, 0 for ``outside``."""
    targets = torch.cat([torch.ones_like(inside), torch.zeros_like(outside)])
    return binary_cross_entropy_with_logits(torch.cat([inside, outside]), targets)


def vos_loss(inside: Tensor, outside: Tensor, weights: Tensor, logistic: Tensor) -> Tensor:
    """Return the VOS loss: ``separation_loss`` of a E + s, where ``logistic`` is (a, s).

    E is the ``weighted_energy`` of the logits (N, C) of ID rows and of outliers.
    """
    slope, shift = logistic
    return separation_loss(
        slope * weighted_energy(inside, weights) + shift, slope * weighted_energy(outside, weights) + shift
    )


def logit_norm_loss(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the LogitNorm loss: cross-entropy of logits (N, C) / (``temperature`` x their length)."""
    return cross_entropy(normalize(logits, dim=1, eps=1e-7) / temperature, labels)


class Mlp:
    """NPOS classifier from features (N, D) to ID log-odds (N,), with one hidden layer; float32.

    Initial weights and biases are uniform in +-1 / sqrt(inputs), as torch's linear layers do.
    """

    def __init__(self, dim: int, generator: torch.Generator, device: torch.device, hidden: int = 32) -> None:
        def start(*shape: int, inputs: int) -> Tensor:
            values = (2 * torch.rand(*shape, generator=generator) - 1) / math.sqrt(inputs)
            return values.to(device).requires_grad_()

        self.parameters = (
            start(hidden, dim, inputs=dim),
            start(hidden, inputs=dim),
            start(hidden, inputs=hidden),
            start(1, inputs=hidden),
        )

    def __call__(self, features: Tensor) -> Tensor:
        first, first_bias, last, last_bias = self.parameters
        return (features @ first.T + first_bias).relu() @ last + last_bias
