"""Residual against an explicit projection, closed forms, and what cannot be a subspace."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError, UsageError
from lsncli.scores import ready
from lsncli.scores.residual import Residual, published_dim
from lsncli.types import Head, Rows, unit


def probe(head, seed=1):
    """A linear probe: weights of any length, a bias, scale 1."""
    rng = np.random.default_rng(seed)
    return Head(head.classes, rng.normal(size=head.weights.shape), 1.0, None, rng.normal(size=7))


def by_projection(features, train, origin, dim):
    """||x - u|| after the projection on the leading right singular vectors is taken away, row by row."""
    _, _, directions = np.linalg.svd(unit(train.features) - origin, full_matrices=True)
    principal = directions[:dim]
    rests = []
    for x in unit(features) - origin:
        rest = x - sum((x @ direction) * direction for direction in principal)
        rests.append(np.sqrt(sum(value**2 for value in rest)))
    return np.array(rests)


def origin_of(head):
    """-W^+ b by least squares: of all u with the least ||W u + b||, the shortest."""
    return np.linalg.lstsq(head.weights, -head.bias, rcond=None)[0]


@pytest.mark.parametrize("dim", [1, 6, 11])
def test_text_heads_equal_an_explicit_projection(head, features, train, dim):
    found = ready(Residual(dim), head, train)(features)
    assert found == pytest.approx(-by_projection(features, train, np.zeros(12), dim), rel=1e-9)


@pytest.mark.parametrize("dim", [1, 6, 11])
def test_linear_heads_equal_an_explicit_projection_about_their_origin(head, features, train, dim):
    linear = probe(head)
    found = ready(Residual(dim), linear, train)(features)
    assert found == pytest.approx(-by_projection(features, train, origin_of(linear), dim), rel=1e-9)
    assert found != pytest.approx(-by_projection(features, train, np.zeros(12), dim), rel=1e-2)


def test_the_default_is_the_published_rule(head, features, train):
    assert [published_dim(d) for d in (512, 767, 768, 1024, 2047, 2048)] == [256, 383, 512, 512, 512, 1000]
    found = ready(Residual(), head, train)(features)
    assert np.array_equal(found, ready(Residual(6), head, train)(features))


def test_rows_near_a_plane_leave_the_distance_from_the_plane():
    rng = np.random.default_rng(3)
    flat = np.concatenate([rng.normal(size=(50, 2)), 1e-6 * rng.normal(size=(50, 2))], axis=1)
    head = Head(("a",), np.eye(1, 4))
    scorer = ready(Residual(2), head, Rows(flat, np.zeros(50, dtype=np.int32)))
    features = np.array([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 4.0], [3.0, 0.0, 0.0, 4.0]])
    assert scorer(features) == pytest.approx([0.0, -1.0, -0.8], abs=1e-5)


@given(low=st.integers(1, 10))
def test_a_larger_subspace_leaves_less(head, features, train, low):
    smaller, larger = (ready(Residual(dim), head, train)(features) for dim in (low, low + 1))
    assert (smaller <= larger + 1e-12).all()
    assert (larger <= 0).all()


def test_many_rows_are_learned_from_in_chunks(head, features, train, monkeypatch):
    whole = ready(Residual(), head, train)(features)
    monkeypatch.setattr("lsncli.scores.common.CHUNK", 7)
    assert ready(Residual(), head, train)(features) == pytest.approx(whole, rel=1e-10)


def test_rows_that_span_too_few_directions_are_refused(head, train):
    with pytest.raises(LsnError, match="more than dim = 6 directions, and these 5 rows span 5") as caught:
        ready(Residual(), head, Rows(train.features[:5], train.labels[:5]))
    assert "dim below 5" in caught.value.hint
    ready(Residual(4), head, Rows(train.features[:5], train.labels[:5]))


def test_a_subspace_as_large_as_the_space_is_refused(head, train):
    with pytest.raises(LsnError, match="needs dim below the 12 dimensions of the features, found 12"):
        ready(Residual(12), head, train)


def test_a_negative_dim_is_refused():
    with pytest.raises(UsageError, match="'dim' must be 0"):
        Residual(-1)
