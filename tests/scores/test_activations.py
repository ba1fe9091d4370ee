"""Percentiles of activations against a full sort, and the energy of a layer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsncli.errors import UsageError
from lsncli.scores import activations, common
from lsncli.scores.activations import activation_percentile, between, layer_energy
from lsncli.types import unit


@settings(max_examples=60)
@given(
    rows=st.integers(1, 60),
    percent=st.floats(0, 100),
    half=st.sampled_from([1, 3, 100, 1 << 15]),
    chunk=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_the_percentile_is_that_of_all_entries_however_binned_and_chunked(rows, percent, half, chunk, seed):
    features = np.random.default_rng(seed).normal(size=(rows, 5)).astype(np.float16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activations, "HALF", half)
        patch.setattr(common, "CHUNK", chunk)
        found = activation_percentile(features, percent)
    assert found == pytest.approx(np.percentile(unit(features), percent), rel=1e-12, abs=1e-15)


def test_the_ends_are_the_smallest_and_the_largest_activation():
    features = np.array([[3.0, -4.0], [0.0, 0.0], [-1.0, 0.0]])
    assert activation_percentile(features, 0) == -1.0
    assert activation_percentile(features, 100) == 0.6
    assert activation_percentile(features, 50) == 0.0


def test_equal_activations_have_themselves_as_every_percentile():
    features = np.full((50, 4), 7.0, dtype=np.float16)
    assert [activation_percentile(features, p) for p in (0, 37.5, 90, 100)] == [0.5] * 4


def test_rows_on_an_axis_reach_both_ends_of_the_histogram():
    features = np.concatenate([np.eye(3), -np.eye(3)])
    assert [activation_percentile(features, p) for p in (0, 50, 100)] == [-1.0, 0.0, 1.0]


def test_the_energy_of_a_layer_is_the_log_of_the_sum_of_exponentials():
    weights, bias = np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([0.5, -0.5])
    found = layer_energy(np.array([[1.0, 1.0], [0.0, 0.0]]), weights, bias)
    expected = [2 * math.log(math.exp(2.5)) - 2.5 + math.log(2), math.log(math.exp(0.5) + math.exp(-0.5))]
    assert found == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("value", [-0.1, 100.5, math.nan, math.inf])
def test_what_is_not_between_is_refused_with_its_name(value):
    with pytest.raises(UsageError, match=r"'p' must be a number from 0 to 99\.9, found"):
        between(0, 99.9, q=50.0, p=value)


def test_both_ends_are_allowed():
    between(0, 99.9, low=0.0, high=99.9)
