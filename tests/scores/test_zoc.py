"""ZOC: the softmax image by image in plain Python, closed forms, and candidates that are classes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError
from lsncli.scores import load_score, ready, zoc
from lsncli.scores.zoc import Candidates, zoc_scores
from lsncli.types import Head, unit

VOCABULARY = 30


def csr(rows: list[list[int]], words: int = VOCABULARY) -> Candidates:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    flat = np.array([i for row in rows for i in row], dtype=np.int64)
    return Candidates(tuple(f"word{i}" for i in range(words)), indptr, flat)


@pytest.fixture(scope="session")
def vocabulary(head) -> np.ndarray:
    return unit(np.random.default_rng(21).normal(size=(VOCABULARY, head.weights.shape[1])) + 0.4)


@pytest.fixture(scope="session")
def rows() -> list[list[int]]:
    random = np.random.default_rng(22)
    return [[], *(random.permutation(VOCABULARY)[: random.integers(1, 12)].tolist() for _ in range(39))]


def naive(head: Head, features, rows, vocabulary) -> list[float]:
    """Every image for itself: all logits in one list, the textbook softmax, the sum behind the classes."""
    found = []
    for row, x in zip(rows, features.astype(float).tolist(), strict=True):
        texts = [*head.weights.tolist(), *(vocabulary[i].tolist() for i in row)]
        logits = [
            head.scale * math.fsum(a * b for a, b in zip(x, t, strict=True)) / math.hypot(*x) for t in texts
        ]
        exponentials = [math.exp(value) for value in logits]
        found.append(-math.fsum(exponentials[len(head.classes) :]) / math.fsum(exponentials))
    return found


@pytest.mark.parametrize("scale", [100.0, 14.2857])
def test_it_is_the_softmax_of_each_image_over_its_own_labels(head, features, rows, vocabulary, scale) -> None:
    head = replace(head, scale=scale)
    found = zoc_scores(head, features, csr(rows), vocabulary)
    assert found.dtype == np.float64
    assert found == pytest.approx(naive(head, features, rows, vocabulary), rel=1e-6, abs=0)
    assert found[0] == 0  # no candidates
    assert ((found >= -1) & (found <= 0)).all()


def test_prompts_that_depend_on_the_image_give_the_same(
    head, conditional, features, rows, vocabulary
) -> None:
    found = zoc_scores(conditional, features, csr(rows), vocabulary)
    assert np.array_equal(found, zoc_scores(head, features, csr(rows), vocabulary))


@given(cells=st.integers(1, 600))
def test_how_rows_are_batched_does_not_matter(head, features, rows, vocabulary, cells) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoc, "CELLS", cells)
        found = zoc_scores(head, features, csr(rows), vocabulary)
    assert found == pytest.approx(zoc_scores(head, features, csr(rows), vocabulary), rel=1e-11, abs=0)


def test_equal_cosines_share_the_softmax_equally() -> None:
    """Of C classes and n candidates that are all alike, candidates hold n / (C + n)."""
    head = Head(tuple("abc"), np.tile([[1.0, 0.0]], (3, 1)))
    found = zoc_scores(
        head, np.array([[2.0, 0.0]] * 3), csr([[], [0], [0, 1, 2]], 3), np.tile([1.0, 0], (3, 1))
    )
    assert found == pytest.approx([0, -1 / 4, -3 / 6], rel=1e-14)


def test_a_candidate_far_nearer_than_any_class_takes_all_and_one_far_off_nothing() -> None:
    head = Head(("a",), np.array([[1.0, 0.0]]))
    images = np.array([[0.0, 1.0], [1.0, 0.0]])
    found = zoc_scores(head, images, csr([[0], [0]], 1), np.array([[0.0, 1.0]]))
    assert found == pytest.approx([-1.0, -math.exp(-100) / (1 + math.exp(-100))], rel=1e-12)
    assert found[1] < 0  # the small decimals are kept


@given(order=st.permutations(range(VOCABULARY)))
def test_the_order_of_the_words_does_not_matter(head, features, rows, vocabulary, order) -> None:
    place = np.argsort(order)
    turned = csr([[int(place[i]) for i in reversed(row)] for row in rows])
    found = zoc_scores(head, features, turned, vocabulary[order])
    assert found == pytest.approx(zoc_scores(head, features, csr(rows), vocabulary), rel=1e-11, abs=0)


def test_more_candidates_never_raise_a_score(head, features, rows, vocabulary) -> None:
    fewer = zoc_scores(head, features, csr([row[: len(row) // 2] for row in rows]), vocabulary)
    # An image whose words stay the same is in a product of another shape: of cosines times 100, in float64.
    last_bits = 1e-12 * np.abs(fewer)
    assert (zoc_scores(head, features, csr(rows), vocabulary) <= fewer + last_bits).all()


def test_words_of_foreign_images_tell_them_from_images_of_the_classes() -> None:
    random = np.random.default_rng(5)
    text, other = unit(random.normal(size=(10, 64))), unit(random.normal(size=(10, 64)))
    images = np.repeat(np.concatenate([text, other]), 20, axis=0) + 0.2 * random.normal(size=(400, 64))
    proposed = [random.permutation(10)[:5].tolist() for _ in range(200)]
    proposed += [[i // 20, (i // 20 + 1) % 10] for i in range(200)]
    found = zoc_scores(Head(tuple("abcdefghij"), text), images, csr(proposed, 10), other)
    assert np.mean(found[:200, None] > found[200:]) > 0.95


def test_words_that_are_classes_are_left_out_in_any_case() -> None:
    given_words = Candidates(
        ("Cat", "sofa", "red  bird", "dog", "tree"),
        np.array([0, 2, 5, 5, 6]),
        np.array([0, 1, 2, 3, 1, 0]),
    )
    left = given_words.without(["cat", "Red Bird", "house"])
    assert left.words == ("sofa", "dog")
    assert left.indptr.tolist() == [0, 1, 3, 3, 3]
    assert left.indices.tolist() == [0, 1, 0]
    none = left.without(["sofa", "dog"])
    assert (none.words, len(none)) == ((), 4)
    assert none.without(["x"]).indptr.tolist() == [0] * 5


def test_without_candidates_every_image_is_as_likely_id(head, features) -> None:
    empty = csr([[] for _ in features], 0)
    assert zoc_scores(head, features, empty, np.empty((0, 12))).tolist() == [0] * len(features)
    assert zoc_scores(head, features[:0], csr([]), np.ones((VOCABULARY, 12))).shape == (0,)


def test_the_length_of_a_feature_does_not_matter_and_a_zero_row_is_finite(head, features, rows, vocabulary):
    wide = features.astype(np.float64)
    found = zoc_scores(head, 7 * wide, csr(rows), vocabulary)
    assert found == pytest.approx(zoc_scores(head, wide, csr(rows), vocabulary), rel=1e-11, abs=0)
    assert np.isfinite(zoc_scores(head, np.zeros((1, 12)), csr([[1, 2]]), vocabulary)).all()


def test_what_does_not_belong_together_is_refused(head, features, rows, vocabulary) -> None:
    with pytest.raises(LsnError, match="Candidates of 40 images in 30 words do not belong to 39 features"):
        zoc_scores(head, features[:39], csr(rows), vocabulary)
    with pytest.raises(LsnError, match="29 text features"):
        zoc_scores(head, features, csr(rows), vocabulary[1:])
    with pytest.raises(LsnError, match="a linear probe has none"):
        zoc_scores(replace(head, bias=np.zeros(7)), features, csr(rows), vocabulary)
    broken = features.copy()
    broken[3, 3] = np.nan
    with pytest.raises(LsnError, match="1 of 40 feature rows"):
        zoc_scores(head, broken, csr(rows), vocabulary)


def test_features_alone_cannot_be_scored(head) -> None:
    score = load_score("zoc")
    assert list(score.NEEDS) == ["candidates"]
    assert score.REDUCED
    with pytest.raises(LsnError, match="'zoc' needs candidate labels of each image") as caught:
        ready(score, head)
    assert "lsn candidates" in caught.value.hint
