"""Residual against an explicit projection, closed forms, and what cannot be a subspace."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError, UsageError
from lsncli.scores import ready
from lsncli.scores.residual import Residual, published_dim
from lsncli.scores.vim import Vim
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


CLASSES, DIM = 5, 48


@pytest.fixture(scope="module")
def centred():
    """Weights and bias of a softmax head, which sum to zero over the classes; training rows and OOD rows."""
    rng = np.random.default_rng(2)
    weights, bias = rng.normal(size=(CLASSES, DIM)), 0.5 * rng.normal(size=CLASSES)
    weights, bias = weights - weights.mean(axis=0), bias - bias.mean()
    shape = np.concatenate([np.full(24, 1.0), np.full(24, 0.2)])
    rows = np.ones(DIM) + shape * rng.normal(size=(400, DIM))
    return weights, bias, rows, np.ones(DIM) + shape[::-1] * rng.normal(size=(200, DIM))


def by_definition(weights, bias):
    """-W^+ b of weights that sum to zero: the last row follows from the others, and these have full rank.

    With W = B W', B (C, C - 1) and W' of full rank, W^+ = W'^+ B^+.
    """
    count = len(weights)
    basis = np.vstack([np.eye(count - 1), -np.ones((1, count - 1))])
    first = weights[:-1]
    return -first.T @ np.linalg.inv(first @ first.T) @ np.linalg.inv(basis.T @ basis) @ basis.T @ bias


# What the sum over the classes is off by: float64, an optimiser's last digits, float32 before and after.
ROUNDED = {
    "float64": lambda array: array,
    "an optimiser": lambda array: array + 1e-14 * np.linspace(1, 2, array.size).reshape(array.shape),
    "stopped early": lambda array: array + 1e-7 * np.linspace(1, 2, array.size).reshape(array.shape),
    "float32": lambda array: array.astype(np.float32).astype(float),
    "float32 sums": lambda array: (array.astype(np.float32) + np.float32(0.3)).astype(float) - 0.3,
}


@pytest.mark.parametrize("kind", ROUNDED)
@pytest.mark.parametrize("score", [Residual, Vim])
def test_rounding_of_a_softmax_head_does_not_decide_the_origin(centred, kind, score):
    weights, bias, rows, _ = centred
    head = Head(tuple("abcde"), ROUNDED[kind](weights), 1.0, None, ROUNDED[kind](bias))
    found = score(24).fit(head, Rows(rows, np.zeros(400, dtype=np.int32)))["origin"]
    assert found == pytest.approx(by_definition(weights, bias), abs=1e-6)


def test_without_a_cutoff_rounding_would_decide(centred):
    """What the cutoff is for: at NumPy's default the same head has an origin ten times as far away."""
    weights, bias, rows, outside = centred
    noisy, shifted = weights + 1e-14, bias + 2e-13
    origin = -np.linalg.pinv(noisy) @ shifted
    assert np.linalg.norm(origin) > 10 * np.linalg.norm(by_definition(weights, bias))
    head, train = Head(tuple("abcde"), noisy, 1.0, None, shifted), Rows(rows, np.zeros(400, dtype=np.int32))
    scorer = ready(Residual(24), head, train)
    expected = -by_projection(outside, train, by_definition(weights, bias), 24)
    assert scorer(outside) == pytest.approx(expected, rel=1e-6)
    assert scorer(outside) != pytest.approx(-by_projection(outside, train, origin, 24), rel=1e-2)


def test_small_singular_values_that_are_not_rounding_count(head, train):
    weights = np.zeros((2, 12))
    weights[0, 0], weights[1, 1] = 1.0, 1e-4
    linear = Head(("a", "b"), weights, 1.0, None, np.array([0.5, 1e-4]))
    assert Residual(3).fit(linear, train)["origin"][:2] == pytest.approx([-0.5, -1.0], rel=1e-12)
