"""ViM against an explicit projection, the virtual class's probability, and its limits."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lsncli.errors import LsnError, UsageError
from lsncli.scores import ready
from lsncli.scores.residual import Residual
from lsncli.scores.vim import Vim
from lsncli.types import Head, Rows, unit


@pytest.fixture(scope="module", params=["text", "linear"])
def any_head(request, head):
    if request.param == "text":
        return head
    rng = np.random.default_rng(1)
    return Head(head.classes, rng.normal(size=head.weights.shape), 1.0, None, rng.normal(size=7))


def naive(head, features, train, dim):
    """Logits (lists), virtual logits and scores of ``features``, one row after the other."""
    weights = head.scale * head.weights
    bias = np.zeros(len(weights)) if head.bias is None else head.bias
    origin = -np.linalg.pinv(weights) @ bias
    directions = np.linalg.svd(unit(train.features) - origin)[2][dim:]

    def logits(x):
        rows = zip(weights, bias, strict=True)
        return [math.fsum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in rows]

    def norm(x):
        return math.sqrt(math.fsum(float(direction @ (x - origin)) ** 2 for direction in directions))

    rows = unit(train.features)
    alpha = math.fsum(max(logits(x)) for x in rows) / math.fsum(norm(x) for x in rows)
    found = []
    for x in unit(features):
        own = logits(x)
        top = max(own)
        energy = top + math.log(math.fsum(math.exp(value - top) for value in own))
        found.append((own, alpha * norm(x), energy - alpha * norm(x)))
    return found


@pytest.mark.parametrize("dim", [2, 6, 11])
def test_scores_equal_an_explicit_projection(any_head, features, train, dim):
    expected = [score for _, _, score in naive(any_head, features, train, dim)]
    assert ready(Vim(dim), any_head, train)(features) == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_scores_rank_as_the_probability_of_the_virtual_class(any_head, features, train):
    virtual = []
    for logits, extra, _ in naive(any_head, features, train, 6):
        top = max(*logits, extra)
        parts = [math.exp(value - top) for value in [*logits, extra]]
        virtual.append(parts[-1] / math.fsum(parts))
    scores = ready(Vim(), any_head, train)(features)
    assert [1 / (1 + math.exp(score)) for score in scores] == pytest.approx(virtual, rel=1e-9)


def test_on_training_rows_the_virtual_logit_is_as_large_as_the_largest_logit(any_head, train):
    found = naive(any_head, train.features, train, 6)
    assert sum(extra for _, extra, _ in found) == pytest.approx(sum(max(own) for own, _, _ in found))
    learned = Vim().fit(any_head, train)
    norms = -ready(Residual(), any_head, train)(train.features)
    assert learned["alpha"] * norms.sum() == pytest.approx(sum(max(own) for own, _, _ in found))


def test_the_subspace_is_the_one_of_residual(any_head, train):
    learned, residual = Vim(5).fit(any_head, train), Residual(5).fit(any_head, train)
    assert set(learned) == {"origin", "complement", "alpha"}
    assert all(np.array_equal(learned[name], array) for name, array in residual.items())
    assert learned["complement"].shape == (12, 7)


def test_many_rows_are_learned_from_in_chunks(any_head, train, features, monkeypatch):
    whole = ready(Vim(), any_head, train)(features)
    monkeypatch.setattr("lsncli.scores.common.CHUNK", 7)
    assert ready(Vim(), any_head, train)(features) == pytest.approx(whole, rel=1e-9, abs=1e-10)


def test_the_logit_scale_cancels_against_alpha_in_the_limit_of_sharp_logits(head, train, features):
    sharp, sharper = (ready(Vim(), replace(head, scale=s), train)(features) / s for s in (1e5, 1e6))
    assert sharp == pytest.approx(sharper, abs=1e-4)


def test_too_few_rows_are_refused_by_the_name_of_the_score(head, train):
    with pytest.raises(LsnError, match="'vim' needs training features that span more than dim = 6"):
        ready(Vim(), head, Rows(train.features[:5], train.labels[:5]))


def test_a_negative_dim_is_refused():
    with pytest.raises(UsageError, match="'dim' must be 0"):
        Vim(-1)
