"""SCALE against naive loops, the published sums on non-negative features, and its bound on signed ones."""

import math

import numpy as np
import pytest
import torch
from activation_samples import FEATURES, HEADS, TEXT, naive_energy, naive_layer, naive_unit
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lsncli.errors import UsageError
from lsncli.scores import ready
from lsncli.scores.energy import Energy
from lsncli.scores.scale import Scale
from lsncli.types import Head, unit

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])


def naive_scaled(x, percentile):
    count = max(1, len(x) - round(len(x) * percentile / 100))
    total, left = math.fsum(map(abs, x)), math.fsum(abs(v) for v in sorted(x, reverse=True)[:count])
    ratio = min(total / left, len(x) / count) if left else 0.0
    return [v * math.exp(ratio) for v in x]


@each_head
@pytest.mark.parametrize("percentile", [0.0, 40.0, 65.0, 85.0, 99.0])
def test_scores_equal_a_naive_loop(head, percentile):
    layer = naive_layer(head)
    expected = [naive_energy(*layer, naive_scaled(x, percentile)) for x in naive_unit(FEATURES)]
    assert ready(Scale(percentile), head)(FEATURES) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("percentile", [10.0, 65.0, 85.0, 95.0])
def test_without_negative_entries_it_is_the_published_rule(percentile):
    x = torch.tensor(unit(np.abs(np.random.default_rng(4).normal(size=(50, 64)))))
    kept = x.topk(64 - int(np.round(64 * percentile / 100.0)), dim=1).values
    scaled = x * torch.exp(x.sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True))
    head = Head(tuple(map(str, range(9))), unit(np.random.default_rng(5).normal(size=(9, 64))), 10.0)
    expected = torch.logsumexp(10.0 * scaled @ torch.tensor(head.weights).T, dim=1).numpy()
    assert ready(Scale(percentile), head)(x.numpy()) == pytest.approx(expected, rel=1e-12)


@each_head
def test_where_all_entries_are_kept_every_feature_is_lengthened_alike(head):
    weights, bias = naive_layer(head)
    expected = [naive_energy(weights, bias, [math.e * v for v in x]) for x in naive_unit(FEATURES)]
    assert ready(Scale(0.0), head)(FEATURES) == pytest.approx(expected, rel=1e-12)


def test_the_scale_by_hand():
    head = Head(("a",), np.array([[1.0, 0.0, 0.0, 0.0]]), scale=1.0)
    x = unit(np.array([[5.0, -1.0, 3.0, -1.0]]))
    assert ready(Scale(50.0), head)(x) == pytest.approx([5 / 6 * math.exp(10 / 8)], rel=1e-14)


def test_the_ratio_is_bounded_where_the_large_entries_are_negative():
    head = Head(("a",), np.array([[-1.0, 0.0, 0.0, 0.0]]), scale=1.0)
    found = ready(Scale(75.0), head)(np.array([[-1e-9, -1.0, -1.0, -1.0]]))
    assert found == pytest.approx([1e-9 / math.sqrt(3) * math.exp(4)], rel=1e-9)


def test_a_feature_of_zeros_has_the_energy_of_the_bias():
    found = ready(Scale(), HEADS[1])(np.zeros((1, 12)))
    assert found == pytest.approx(ready(Energy(), HEADS[1])(np.zeros((1, 12))), rel=1e-14)


@given(
    features=arrays(np.float64, (3, 12), elements=st.floats(-1e6, 1e6, width=32)),
    percentile=st.floats(0, 99),
)
def test_every_feature_gets_a_finite_score(features, percentile):
    assert np.isfinite(ready(Scale(percentile), TEXT)(features)).all()


@pytest.mark.parametrize("percentile", [-1.0, 99.5, math.nan])
def test_a_percentile_outside_0_to_99_is_refused(percentile):
    with pytest.raises(UsageError, match="'percentile' must be a number from 0 to 99,"):
        Scale(percentile)


def test_the_percentile_is_the_papers_unless_told_otherwise():
    assert Scale().percentile == 85
