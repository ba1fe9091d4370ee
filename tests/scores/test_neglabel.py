"""NegLabel: the probability by loops, closed forms, groups, and what it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from later_vectors import SCALE, arrays

from lsncli.errors import LsnError, UsageError
from lsncli.scores import load_score, score_in_chunks
from lsncli.scores.common import VOCABULARY
from lsncli.scores.neglabel import NegLabel
from lsncli.types import Head, unit

WORDS = 30


@pytest.fixture(scope="session")
def words(head) -> np.ndarray:
    return unit(np.random.default_rng(31).normal(size=(WORDS, head.weights.shape[1])) + 0.4)


def cosine(x, t) -> float:
    return math.fsum(map(math.prod, zip(x, t, strict=True))) / math.hypot(*x) / math.hypot(*t)


def score(head, features, words, groups=1):
    return NegLabel(groups).scorer(head, {VOCABULARY: words})(features)


@pytest.mark.parametrize("groups", [1, 2, 7, 30])
@pytest.mark.parametrize("scale", [100.0, 14.2857])
def test_it_is_the_mean_probability_of_a_class_over_groups_of_words(
    head, features, yes, words, groups, scale
):
    head = replace(head, scale=scale)
    other = [[cosine(x, u) for u in words.tolist()] for x in features.astype(float).tolist()]
    for row, found in enumerate(score(head, features, words, groups)):
        inside = math.fsum(math.exp(scale * y) for y in yes[row])
        parts = []
        for group in range(groups):
            members = [u for v, u in enumerate(other[row]) if v % groups == group]
            parts.append(inside / (inside + math.fsum(math.exp(scale * u) for u in members)))
        assert found == pytest.approx(math.fsum(parts) / groups, rel=1e-6)


def test_equal_cosines_share_the_probability_equally() -> None:
    head = Head(tuple("abc"), np.tile([[1.0, 0.0]], (3, 1)))
    images = np.array([[2.0, 0.0], [0.0, 5.0]])
    assert score(head, images, np.tile([1.0, 0.0], (5, 1))) == pytest.approx([3 / 8, 3 / 8], rel=1e-14)
    assert score(head, images, np.tile([1.0, 0.0], (4, 1)), groups=2) == pytest.approx(
        [3 / 5, 3 / 5], rel=1e-14
    )


def test_the_small_decimals_of_an_image_far_from_every_class_are_kept() -> None:
    head = Head(("a",), np.array([[-1.0, 0.0]]))
    found = score(head, np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
    assert found == pytest.approx([math.exp(-200)], rel=1e-10)


def test_the_usual_properties_hold(head, conditional, features, words) -> None:
    found = score(head, features, words)
    assert found.dtype == np.float64
    assert ((found >= 0) & (found <= 1)).all()
    assert score(head, 7.5 * features.astype(float), words) == pytest.approx(found, rel=1e-11)
    assert np.isfinite(score(head, np.zeros((1, 12)), words)).all()
    assert score(head, features[:0], words).shape == (0,)
    assert np.array_equal(score(conditional, features, words), found)


@given(chunk=st.integers(1, 50), order=st.permutations(range(WORDS)))
def test_neither_chunks_nor_the_order_of_words_matter(head, features, words, chunk, order) -> None:
    scorer = NegLabel().scorer(head, {VOCABULARY: words[order]})
    assert score_in_chunks(scorer, features, chunk) == pytest.approx(
        score(head, features, words), rel=1e-11, abs=1e-300
    )


@given(kept=st.integers(1, WORDS))
def test_more_words_never_raise_a_score(head, features, words, kept) -> None:
    assert (score(head, features, words) <= score(head, features, words[:kept]) * (1 + 1e-12)).all()


def test_it_refuses_what_it_cannot_score(head, train, words) -> None:
    with pytest.raises(LsnError, match="'neglabel' needs a vocabulary") as caught:
        NegLabel().fit(head, train)
    assert "lsn eval" in caught.value.hint
    with pytest.raises(LsnError, match="needs a word for each of 31 groups, found 30"):
        score(head, train.features, words, 31)
    with pytest.raises(LsnError, match="a linear probe has none"):
        score(replace(head, bias=np.zeros(7), scale=1.0), train.features, words)
    with pytest.raises(UsageError, match="'groups' must be 0 or more, found -1"):
        load_score("neglabel", groups=-1)


def test_the_numbers_are_those_of_the_authors_code() -> None:
    known = arrays()
    head = Head(tuple("abc"), known.t, scale=SCALE)
    whole = NegLabel(groups=1).scorer(head, {VOCABULARY: known.w})(known.x)
    assert whole == pytest.approx([0.00212824, 0.00012113, 0.00020315, 0.01020526], abs=1e-8)
    # Their groups are words 0, 1 / 2, 3 / 4, 5, and the last is left out; ours take every third word.
    ours = known.w[[0, 2, 4, 1, 3, 5]]
    groups = NegLabel(groups=3).scorer(head, {VOCABULARY: ours})(known.x)
    assert groups == pytest.approx([0.41694380, 0.10587868, 0.08591829, 0.61941010], abs=1e-8)
    drawn = known.w[[2, 5, 3, 0, 1, 4]][[0, 2, 4, 1, 3, 5]]
    groups = NegLabel(groups=3).scorer(head, {VOCABULARY: drawn})(known.x)
    assert groups == pytest.approx([0.44518076, 0.24696672, 0.16482051, 0.62089893], abs=1e-8)


def test_csps_words_are_scored_as_the_authors_do() -> None:
    known = arrays()
    head = Head(tuple("abc"), known.t, scale=SCALE)
    words = unit(known.r.mean(axis=1))
    found = NegLabel(groups=1).scorer(head, {VOCABULARY: words})(known.x)
    expected = [9.50898096e-01, 5.27419509e-04, 3.28815287e-01, 9.94598805e-01]
    assert found == pytest.approx(expected, rel=1e-7)


def test_groups_are_the_authors_where_there_are_words_enough() -> None:
    assert [NegLabel().groups_of(words) for words in (10_499, 1000, 999, 3)] == [100, 100, 1, 1]
    assert [NegLabel(mine="images").groups_of(words) for words in (2000, 49)] == [5, 1]
    assert NegLabel(groups=7).groups_of(10_499) == 7
