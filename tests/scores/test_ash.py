"""ASH against naive loops, the published sums on non-negative features, and the guards on signed ones."""

import math

import numpy as np
import pytest
import torch
from activation_samples import FEATURES, HEADS, TEXT, naive_energy, naive_layer, naive_unit
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lsncli.errors import UsageError
from lsncli.scores.ash import Ash, shaped
from lsncli.scores.energy import Energy
from lsncli.types import unit

each_head = pytest.mark.parametrize("head", HEADS, ids=["text", "linear"])
each_form = pytest.mark.parametrize("form", ["p", "b", "s"])


def naive_shape(x, form, percentile):
    count = max(1, len(x) - round(len(x) * percentile / 100))
    top = sorted(range(len(x)), key=lambda d: x[d], reverse=True)[:count]
    total, left = sum(abs(v) for v in x), sum(abs(x[d]) for d in top)
    ratio = min(total / left, len(x) / count) if left else 0.0
    value = {"p": lambda d: x[d], "b": lambda d: total / count, "s": lambda d: x[d] * math.exp(ratio)}[form]
    return [value(d) if d in top else 0.0 for d in range(len(x))]


def published(x, form, percentile):
    """The authors' rules, with plain sums, on (N, D)."""
    dim = x.shape[1]
    values, where = torch.topk(x, dim - int(np.round(dim * percentile / 100.0)), dim=1)
    total = x.sum(dim=1, keepdim=True)
    if form == "b":
        values = (total / values.shape[1]).expand(values.shape)
    if form == "s":
        values = values * torch.exp(total / values.sum(dim=1, keepdim=True))
    return torch.zeros_like(x).scatter(1, where, values).numpy()


@each_head
@each_form
@pytest.mark.parametrize("percentile", [0.0, 40.0, 65.0, 90.0, 99.0])
def test_scores_equal_a_naive_loop(head, form, percentile):
    layer = naive_layer(head)
    expected = [naive_energy(*layer, naive_shape(x, form, percentile)) for x in naive_unit(FEATURES)]
    assert Ash(form=form, percentile=percentile).scorer(head, {})(FEATURES) == pytest.approx(
        expected, rel=1e-9
    )


@each_form
@pytest.mark.parametrize("percentile", [10.0, 65.0, 90.0, 95.0])
def test_without_negative_entries_it_is_the_published_rule(form, percentile):
    x = np.abs(np.random.default_rng(4).normal(size=(50, 64)))
    found = shaped(unit(x), form, percentile)
    assert found == pytest.approx(published(torch.tensor(unit(x)), form, percentile), rel=1e-12, abs=1e-15)


@each_head
def test_nothing_pruned_and_kept_as_it_is_is_the_energy(head):
    found = Ash(form="p", percentile=0.0).scorer(head, {})(FEATURES)
    assert found == pytest.approx(Energy().scorer(head, {})(FEATURES), rel=1e-12)


def test_the_three_forms_by_hand():
    x = np.array([[0.5, -0.1, 0.3, -0.1]])
    assert shaped(x, "p", 50.0).tolist() == [[0.5, 0.0, 0.3, 0.0]]
    assert shaped(x, "b", 50.0) == pytest.approx(np.array([[0.5, 0.0, 0.5, 0.0]]), rel=1e-15)
    sharp = math.exp(1.0 / 0.8)
    assert shaped(x, "s", 50.0) == pytest.approx(np.array([[0.5 * sharp, 0, 0.3 * sharp, 0]]), rel=1e-15)


def test_entries_that_cancel_do_not_turn_the_kept_ones_negative():
    x = unit(np.array([[1.0, 1.0, -3.0, -3.0]]))
    assert (shaped(x, "b", 50.0)[0, :2] > 0).all()
    assert (shaped(x, "s", 50.0)[0, :2] > shaped(x, "p", 50.0)[0, :2]).all()


def test_the_ratio_is_bounded_where_the_large_entries_are_negative():
    x = unit(np.array([[1e-9, -1.0, -1.0, -1.0]]))
    assert shaped(x, "s", 75.0)[0, 0] == pytest.approx(x[0, 0] * math.exp(4), rel=1e-12)
    assert shaped(np.array([[0.0, -1.0, 0.0, 0.0]]), "s", 50.0).tolist() == [[0.0] * 4]


@each_form
@given(
    features=arrays(np.float64, (3, 12), elements=st.floats(-1e6, 1e6, width=32)),
    percentile=st.floats(0, 99),
)
def test_every_feature_gets_a_finite_score(form, features, percentile):
    assert np.isfinite(Ash(form=form, percentile=percentile).scorer(TEXT, {})(features)).all()


def test_the_widest_feature_at_the_highest_percentile_does_not_overflow():
    x = unit(np.random.default_rng(1).normal(size=(2, 1024)) - 3)
    assert np.isfinite(shaped(x, "s", 99.0)).all()


@pytest.mark.parametrize("percentile", [-1.0, 99.5, math.nan])
def test_an_ash_percentile_outside_0_to_99_is_refused(percentile):
    with pytest.raises(UsageError, match="'percentile' must be a number from 0 to 99,"):
        Ash(percentile=percentile)


def test_an_unknown_form_is_refused():
    with pytest.raises(UsageError, match="'form' must be 'p', 'b' or 's', found 'q'"):
        Ash(form="q")
