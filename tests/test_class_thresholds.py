"""Thresholds and p-values by predicted class: what each class keeps over many detectors, and who borrows."""

import math

import numpy as np
import pytest
from scipy.stats import beta

from lsncli.class_thresholds import (
    LEAST,
    MOST_KEPT,
    Group,
    class_thresholds,
    rejected_share,
    rows_needed,
    scores_by_class,
)
from lsncli.threshold import calibrate, kept_scores, largest_flagged, p_values

DETECTORS = 500
ERRORS = 4
"""How many standard errors a rate may be from what theory says: one test in 16,000 fails by chance."""
SHIFTS = np.array([0.0, 2.0, -1.0, 0.5])
"""How far the scores of each class lie from the others: one threshold for all is wrong for each."""


def every(scores, target=0.95):
    found = calibrate(scores, target)
    return Group(kept_scores(scores), found.n, found.gamma, found.tpr_low, found.tpr_high)


def made(scores, labels, target=0.95, margin=0.0, classes=4):
    held = scores_by_class(scores, labels, classes)
    return class_thresholds(held, every(scores, target), target, margin)


def draw(random, sizes, *, tied=False):
    """Return scores of images of each class, and their classes."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    scores = random.normal(size=len(labels)) + SHIFTS[labels]
    return (np.round(2 * scores) / 2 if tied else scores), labels.astype(np.int32)


def spread(found):
    return ERRORS * np.std(found, axis=0) / math.sqrt(len(found)) + 1e-12


@pytest.mark.parametrize("target", [0.9, 0.95])
@pytest.mark.parametrize("tied", [False, True])
def test_each_class_keeps_the_target_of_its_new_images_over_many_detectors(target, tied) -> None:
    """One gamma for all would keep about 70 to 100 % of the classes."""
    random, sizes = np.random.default_rng(5), [19, 39, 59, 99] if target == 0.9 else [39, 59, 79, 99]
    rates, small = [], []
    for _ in range(DETECTORS):
        thresholds = made(*draw(random, sizes, tied=tied), target)
        scores, labels = draw(random, [100] * 4, tied=tied)
        kept = scores >= thresholds.gammas[labels]
        rates.append(kept.reshape(4, 100).mean(axis=1))
        found = thresholds.p_values(scores, labels) <= 1 - target + 1e-12
        small.append(found.reshape(4, 100).mean(axis=1))
        assert thresholds.borrowing == (() if target == 0.95 else (0,))
    low, high = np.mean(rates, axis=0), np.mean(small, axis=0)
    own = slice(0 if target == 0.95 else 1, None)
    assert (low[own] >= target - spread(rates)[own]).all()
    assert (high[own] <= 1 - target + spread(small)[own]).all()
    if not tied:  # (1 - target) (n + 1) is whole for these sizes
        assert (low[own] <= target + spread(rates)[own]).all()


def test_classes_that_borrow_from_one_another_keep_the_target_together() -> None:
    random = np.random.default_rng(6)
    rates, shared = [], 0
    for _ in range(DETECTORS):
        labels = np.concatenate([np.zeros(200), random.integers(1, 4, size=39)]).astype(np.int32)
        scores = random.normal(size=len(labels)) + SHIFTS[labels]
        thresholds = made(scores, labels)
        shared += thresholds.borrowing == (1, 2, 3) and not thresholds.from_all
        new = random.integers(1, 4, size=100)
        rates.append(np.mean(random.normal(size=100) + SHIFTS[new] >= thresholds.gammas[new]))
    assert shared > 450
    assert np.mean(rates) == pytest.approx(0.95, abs=0.003 + spread(rates))


def test_false_alarms_stay_at_their_level_with_p_values_by_class() -> None:
    random, share = np.random.default_rng(7), 0.9
    false = []
    for _ in range(DETECTORS):
        thresholds = made(*draw(random, [400, 500, 600, 700]))
        scores, labels = draw(random, [45] * 4)
        strange = random.integers(0, 4, size=20).astype(np.int32)
        scores = np.concatenate([scores, random.normal(size=20) - 6])
        found = thresholds.p_values(scores, np.concatenate([labels, strange]))
        flagged = found <= largest_flagged(found, 0.1)
        false.append(flagged[:180].sum() / max(1, flagged.sum()))
    assert np.mean(false) <= 0.1 * share + spread(false)
    assert np.mean(false) > 0.05


@pytest.mark.parametrize(
    ("target", "needed"), [(0.5, LEAST), (0.9, LEAST), (0.95, LEAST), (0.98, 49), (0.99, 99), (0.999, 999)]
)
def test_a_class_needs_as_many_images_as_resolve_the_target(target, needed) -> None:
    assert rows_needed(target) == needed
    scores = np.arange(2.0 * needed - 1)
    labels = np.repeat([0, 1], [needed, needed - 1]).astype(np.int32)
    assert made(scores, labels, target, classes=2).borrowing == (1,)


def test_gamma_of_a_class_rejects_what_its_p_value_rejects() -> None:
    random = np.random.default_rng(8)
    for size in (20, 37, 61, 200):
        scores, labels = draw(random, [size, 3 * size, size, size])
        thresholds = made(scores, labels)
        new, predicted = draw(random, [50] * 4)
        rejected = new < thresholds.gammas[predicted]
        assert (rejected == (thresholds.p_values(new, predicted) <= 0.05 + 1e-12)).all()


def test_p_values_are_those_among_images_of_the_predicted_class() -> None:
    random = np.random.default_rng(9)
    scores, labels = draw(random, [30, 40, 5, 6])
    thresholds = made(scores, labels)
    new, predicted = draw(random, [5] * 4)
    found = thresholds.p_values(new, predicted)
    for label in range(4):
        others = scores if label > 1 else scores[labels == label]
        rows = predicted == label
        np.testing.assert_array_equal(found[rows], p_values(new[rows], np.sort(others)))
    assert thresholds.p_values(np.empty(0), np.empty(0, np.int32)).shape == (0,)


def test_classes_with_few_images_borrow_from_one_another_or_else_from_all() -> None:
    scores, labels = draw(np.random.default_rng(10), [40, 12, 30, 11])
    together = made(scores, labels)
    assert (together.borrowing, together.from_all) == ((1, 3), False)
    own = np.isin(labels, [1, 3])
    np.testing.assert_array_equal(together.group(1).scores, np.sort(scores[own]))
    assert together.group(1) is together.group(3)
    assert together.group(1).count == 23
    scores, labels = draw(np.random.default_rng(10), [40, 12, 30, 0])
    alone = made(scores, labels)
    assert (alone.borrowing, alone.from_all) == ((1, 3), True)
    assert alone.gammas[1] == alone.gammas[3] == calibrate(scores).gamma
    np.testing.assert_array_equal(alone.group(3).scores, np.sort(scores))
    scores, labels = draw(np.random.default_rng(10), [40, 40, 40, 40])
    assert (made(scores, labels).borrowing, made(scores, labels).from_all) == ((), False)


def test_the_interval_of_a_class_covers_its_rate() -> None:
    random = np.random.default_rng(11)
    low = high = 0
    for _ in range(2000):
        group = made(random.random(80), np.zeros(80, np.int32), classes=1).groups[0]
        low += 1 - group.gamma < group.tpr_low
        high += 1 - group.gamma > group.tpr_high
    assert low / 2000 == pytest.approx(0.025, abs=0.012)
    assert high / 2000 <= 0.025
    # The 4th score of 80 sets gamma: 77 are kept and 3 are below it.
    assert group.tpr_low == pytest.approx(beta.ppf(0.025, 77, 4), abs=1e-12)
    assert group.tpr_high == pytest.approx(beta.ppf(0.975, 78, 3), abs=1e-12)


def test_of_large_classes_scores_are_kept_that_stay_valid() -> None:
    scores = np.random.default_rng(12).normal(size=5000)
    labels = np.repeat([0, 1], [4000, 1000]).astype(np.int32)
    held = scores_by_class(scores, labels, 2)
    assert [len(part) for part in held.scores] == [MOST_KEPT, MOST_KEPT]
    assert held.counts == (4000, 1000)
    thresholds = made(scores, labels, 0.99, classes=2)
    kept = np.mean(scores[:4000] >= thresholds.gammas[0])
    assert 0.99 <= kept <= 0.9915
    exact = p_values(scores[:4000], np.sort(scores[:4000]))
    found = thresholds.p_values(scores[:4000], labels[:4000])
    assert (exact <= found + 1e-12).all()
    assert (found - exact).max() <= 1.1e-3
    assert thresholds.group(0).tpr_low < kept < thresholds.group(0).tpr_high
    # What is only partly kept is not pooled: its scores would count for too little.
    many, labels = np.arange(16_500.0), np.repeat(np.arange(11), 1500).astype(np.int32)
    assert sum(map(len, scores_by_class(many, labels, 11).scores)) > rows_needed(0.9999)
    assert made(many, labels, 0.9999, classes=11).from_all


def test_the_share_that_thresholds_reject_counts_all_images() -> None:
    scores, labels = draw(np.random.default_rng(13), [30, 90, 25, 60])
    thresholds = made(scores, labels)
    share = rejected_share(scores_by_class(scores, labels, 5), [*thresholds.gammas, 0.0])
    assert share == pytest.approx(np.mean(scores < thresholds.gammas[labels]))


def test_a_wide_interval_is_said_and_a_narrow_one_is_not() -> None:
    random = np.random.default_rng(14)
    few = made(*draw(random, [500, 30, 500, 500]))
    assert few.doubt.startswith(
        "30 held-out images are few for the threshold of a class: of its new ID images"
    )
    assert few.most_kept == max(group.tpr_high for group in few.groups)
    assert made(*draw(random, [500] * 4)).doubt == ""


def test_the_margin_lies_below_the_score_that_sets_gamma() -> None:
    scores, labels = draw(np.random.default_rng(15), [50] * 4)
    plain, moved = made(scores, labels), made(scores, labels, margin=0.25)
    np.testing.assert_allclose(plain.gammas - moved.gammas, 0.25)
