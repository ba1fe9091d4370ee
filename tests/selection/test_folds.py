"""Folds leave out each class once; parts of the rows are disjoint and never those that set gamma."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selection_samples import centres, rows_of, split_of

from lsncli.errors import LsnError
from lsncli.methods.holdout import hold_out
from lsncli.selection.folds import KINDS, class_means, divide, leaf_order, make_folds, take
from lsncli.types import UNLABELLED, unit


@given(count=st.integers(6, 30), seed=st.integers(0, 100))
def test_the_folds_of_a_kind_leave_out_each_class_once(count: int, seed: int) -> None:
    folds = make_folds(centres(count, seed), seed)
    for kind in KINDS:
        own = [fold.held_out for fold in folds if fold.kind == kind]
        assert sorted(label for part in own for label in part) == list(range(count))
        assert len(own) == min(5, count // 2)
        assert max(map(len, own)) - min(map(len, own)) <= 1
        assert all(len(part) < count - 2 for part in own)


def test_random_folds_follow_the_seed_and_no_likeness() -> None:
    features = centres(20)
    first, second, again = (make_folds(features, seed) for seed in (0, 1, 0))
    parts = [
        {kind: [f.held_out for f in folds if f.kind == kind] for kind in KINDS} for folds in (first, second)
    ]
    assert first == again
    assert parts[0]["random"] != parts[1]["random"]
    assert parts[0]["sibling"] == parts[1]["sibling"]
    assert parts[0]["random"] != parts[0]["sibling"]


def test_siblings_are_apart_in_sibling_folds_and_together_in_cluster_folds() -> None:
    pairs = np.repeat(centres(5, seed=4), 2, axis=0)
    pairs += 0.05 * np.random.default_rng(0).normal(size=pairs.shape)
    order = np.random.default_rng(1).permutation(10)  # the order of the classes does not tell
    place = {int(old): new for new, old in enumerate(order)}
    folds = make_folds(pairs[order])
    for first in range(0, 10, 2):
        pair = {place[first], place[first + 1]}
        for kind, together in (("sibling", False), ("cluster", True)):
            assert any(pair <= set(fold.held_out) for fold in folds if fold.kind == kind) is together


def test_neighbours_in_the_order_of_leaves_are_as_alike_as_a_plain_search_finds() -> None:
    features = centres(7, seed=5)
    cosine = unit(features) @ unit(features).T
    order = leaf_order(features)
    own = sum(cosine[a, b] for a, b in pairwise(order))
    shuffled = [np.random.default_rng(seed).permutation(7) for seed in range(200)]
    others = [sum(cosine[a, b] for a, b in pairwise(o)) for o in shuffled]
    assert own > np.quantile(others, 0.95)


def test_fewer_than_six_classes_are_refused() -> None:
    with pytest.raises(LsnError, match="at least 6 classes, found 5"):
        make_folds(centres(5))


@given(
    counts=st.lists(st.integers(1, 30), min_size=6, max_size=9),
    seed=st.integers(0, 20),
    most=st.sampled_from([30, 20_000]),
)
def test_the_parts_are_disjoint_and_leave_the_rows_that_set_gamma(counts, seed, most) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    split = split_of("train", np.ones((len(labels), 24)), labels, tuple("abcdefghi")[: len(counts)])
    rows = hold_out(split, 0.2, None, 0)
    if max(np.bincount(split.labels[rows.where])) < 2:
        return
    parts = divide(rows.where, split.labels, most=most, seed=seed)
    fit, select, training = set(parts.fit.tolist()), set(parts.select.tolist()), set(rows.where.tolist())
    assert not fit & select
    assert fit | select <= training
    if most >= len(training):
        assert fit | select == training
    for label, count in enumerate(np.bincount(split.labels[rows.where], minlength=len(counts))):
        own = sum(split.labels[row] == label for row in fit)
        compared = sum(split.labels[row] == label for row in select)
        assert own >= 1
        assert compared == 0 if count == 1 else compared >= 1
        if len(training) > most:
            assert own + compared <= max(2, most // len(counts))


def test_one_row_of_each_class_is_refused() -> None:
    with pytest.raises(LsnError, match="two training images of a class"):
        divide(np.arange(6), np.arange(6))


def test_taken_rows_have_the_labels_of_their_classes() -> None:
    features, labels = rows_of(centres(), 2, 0.1, seed=0)
    split = split_of("train", features, labels)
    part = take(split, np.array([15, 0, 4]), (7, 2), "part")
    assert part.classes == ("hen", "cat")
    assert part.labels.tolist() == [0, UNLABELLED, 1]
    assert list(part.keys) == ["train/15.jpg", "train/0.jpg", "train/4.jpg"]
    np.testing.assert_array_equal(part.features, split.features[[15, 0, 4]])


def test_class_means_are_those_of_unit_rows() -> None:
    features, labels = rows_of(centres(), 3, 0.4, seed=2)
    split = split_of("train", features, labels)
    rows = np.arange(24)[labels != 5]
    means = class_means(split, rows)
    for label in range(8):
        own = unit(split.features[(labels == label)].astype(np.float64)).mean(axis=0)
        expected = np.zeros(24) if label == 5 else unit(own[None])[0]
        np.testing.assert_allclose(means[label], expected, atol=1e-12)
