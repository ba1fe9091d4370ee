"""EOE against loops and published values, MCM, and what it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from later_vectors import SCALE, arrays

from lsncli.errors import LsnError, UsageError
from lsncli.methods.spec import parse_method
from lsncli.scores import load_score, score_in_chunks
from lsncli.scores.common import VOCABULARY
from lsncli.scores.eoe import Eoe
from lsncli.scores.mcm import Mcm
from lsncli.types import Head, unit

NAMES = 20


@pytest.fixture(scope="session")
def names(head):
    return unit(np.random.default_rng(32).normal(size=(NAMES, head.weights.shape[1])) + 0.4)


def score(head, features, names, **settings):
    return Eoe(**settings).scorer(head, {VOCABULARY: names})(features)


def test_published_values_are_reproduced():
    known = arrays()
    found = score(Head(tuple("abc"), known.t, SCALE), known.x, known.w)
    assert found == pytest.approx([0.05606253, 0.02742351, 0.03767634, 0.08186119], abs=1e-8)


@pytest.mark.parametrize("beta", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("tau", [0.01, 1.0])
def test_scores_equal_a_naive_softmax(head, features, yes, names, softmax, beta, tau):
    for x, inside, found in zip(
        unit(features), yes, score(head, features, names, beta=beta, tau=tau), strict=True
    ):
        outside = [math.fsum(a * b for a, b in zip(x, name, strict=True)) for name in names]
        parts = softmax([cosine / tau for cosine in (*inside, *outside)])
        assert found == pytest.approx(max(parts[:7]) - beta * max(parts[7:]), abs=1e-11)


def test_without_the_share_it_is_mcm_with_more_classes(head, features, names):
    all_ = Head(tuple(map(str, range(27))), np.concatenate([head.weights, names]))
    of_class = unit(features) @ all_.weights.T
    inside = of_class[:, :7].max(axis=1) > of_class[:, 7:].max(axis=1)
    assert inside.any()
    expected = Mcm().scorer(all_, {})(features)[inside]
    assert score(head, features, names, beta=0.0)[inside] == pytest.approx(expected, rel=1e-13)


def test_equal_cosines_share_the_probability_equally():
    head = Head(tuple("abc"), np.tile([[1.0, 0.0]], (3, 1)))
    found = score(head, np.array([[2.0, 0.0], [0.0, 5.0]]), np.tile([1.0, 0.0], (5, 1)))
    assert found == pytest.approx([0.75 / 8, 0.75 / 8], rel=1e-14)


def test_the_usual_properties_hold(head, conditional, features, names):
    found = score(head, features, names)
    assert found.dtype == np.float64
    assert score(head, 7.5 * features.astype(float), names) == pytest.approx(found, rel=1e-11)
    assert score(replace(head, scale=1.0), features, names) == pytest.approx(found, rel=1e-13)
    assert np.isfinite(score(head, np.zeros((1, 12)), names)).all()
    assert np.isfinite(score(head, features, names, tau=1e-5)).all()
    assert score(head, features[:0], names).shape == (0,)
    assert np.array_equal(score(conditional, features, names), found)
    with pytest.raises(LsnError, match="Expected features of 12 dimensions"):
        score(head, features[:, :5], names)


@given(chunk=st.integers(1, 50), order=st.permutations(range(NAMES)))
def test_neither_chunks_nor_the_order_of_names_matter(head, features, names, chunk, order):
    scorer = Eoe().scorer(head, {VOCABULARY: names[order]})
    assert score_in_chunks(scorer, features, chunk) == pytest.approx(score(head, features, names), rel=1e-11)


def test_it_refuses_what_it_cannot_score(head, train, names):
    with pytest.raises(LsnError, match="'eoe' needs names of what is no class") as caught:
        Eoe().fit(head, train)
    assert "eoe,words=FILE" in caught.value.hint
    with pytest.raises(LsnError, match="a linear probe has none"):
        score(replace(head, bias=np.zeros(7), scale=1.0), train.features, names)
    for settings in ({"beta": -0.1}, {"beta": math.nan}, {"tau": 0.0}):
        with pytest.raises(UsageError, match=f"'{next(iter(settings))}' must be a finite number"):
            load_score("eoe", **settings)


def test_a_file_of_names_is_a_setting():
    method = parse_method("eoe,words=outliers.txt,beta=0.5")
    assert method.settings == {"words": "outliers.txt", "beta": 0.5}
