"""AUOSCR, AURC and ECE against their definitions, row by row, and the properties that follow from them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc

from lsncli.errors import LsnError
from lsncli.metrics import auroc
from lsncli.open_set import OpenSetMetrics, auoscr, aurc, ece, open_set_metrics, oscr

CLOSE = 1e-12

tied = st.lists(st.tuples(st.integers(-3, 3).map(float), st.booleans()), min_size=1, max_size=30)
outside = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30).map(np.array)


def arrays(rows):
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def naive_oscr(id_scores, correct, ood_scores):
    """The curve of Dhamija et al., threshold by threshold."""
    points = [(0.0, 0.0)]
    for threshold in sorted({*id_scores.tolist(), *ood_scores.tolist()}, reverse=True):
        kept = [score >= threshold and right for score, right in zip(id_scores, correct, strict=True)]
        accepted = [score >= threshold for score in ood_scores]
        points.append((sum(accepted) / len(accepted), sum(kept) / len(kept)))
    return points


def naive_aurc(scores, wrong):
    """The risk of the k first rows for every k, by descending score, in one order of the ties."""
    order = sorted(range(len(scores)), key=lambda row: -scores[row])
    errors = [wrong[row] for row in order]
    return sum(sum(errors[:k]) / k for k in range(1, len(errors) + 1)) / len(errors)


def naive_ece(confidences, correct, bins):
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [
            (c, right)
            for c, right in zip(confidences, correct, strict=True)
            if low < c <= high or (c == 0 and number == 0)
        ]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(correct) * abs(accuracy - confidence)
    return total


@given(tied, outside)
def test_auoscr_is_the_area_under_the_curve_of_the_definition(rows, ood_scores):
    id_scores, correct = arrays(rows)
    points = naive_oscr(id_scores, correct, ood_scores)
    fpr, ccr = oscr(id_scores, correct, ood_scores)
    np.testing.assert_allclose(np.stack([fpr, ccr], axis=1), points, atol=CLOSE)
    assert auoscr(id_scores, correct, ood_scores) == pytest.approx(auc(fpr, ccr), abs=CLOSE)


@given(tied, outside)
def test_auoscr_is_at_most_accuracy_and_auroc_and_auroc_if_all_is_right(rows, ood_scores):
    id_scores, correct = arrays(rows)
    found = auoscr(id_scores, correct, ood_scores)
    assert 0 <= found <= min(correct.mean(), auroc(id_scores, ood_scores)) + CLOSE
    everything = auoscr(id_scores, np.ones(len(correct), bool), ood_scores)
    assert everything == auroc(id_scores, ood_scores)


def test_auoscr_by_hand():
    # Right: 4 and 2, wrong: 3; OOD 1 and 3: of the six pairs, 4 beats both and 2 beats one.
    found = auoscr(np.array([4.0, 3, 2]), np.array([True, False, True]), np.array([1.0, 3]))
    assert found == pytest.approx(3 / 6, abs=CLOSE)
    assert auoscr(np.array([4.0]), np.array([False]), np.array([1.0])) == 0


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_aurc_is_the_mean_risk_over_every_coverage(wrong, random):
    scores = list(range(len(wrong)))
    random.shuffle(scores)
    found = aurc(np.array(scores, float), np.array(wrong))
    assert found == pytest.approx(naive_aurc(scores, wrong), abs=CLOSE)


def test_aurc_of_ties_is_the_mean_over_their_orders():
    scores, wrong = np.array([2.0, 1, 1, 1, 0, 0]), np.array([False, True, False, False, True, False])
    orders = []
    for order in itertools.permutations(range(6)):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            orders.append(naive_aurc(range(6, 0, -1), wrong[list(order)]))
    assert len(orders) == 6 * 2
    assert aurc(scores, wrong) == pytest.approx(np.mean(orders), abs=CLOSE)


@given(st.integers(0, 20), st.integers(0, 20))
def test_aurc_of_a_perfect_order_has_the_closed_form_and_is_the_least(right, errors):
    rows = right + errors
    if not rows:
        return
    wrong = np.arange(rows) >= right
    perfect = aurc(-np.arange(rows, dtype=float), wrong)
    closed = sum((k - right) / k for k in range(right + 1, rows + 1)) / rows
    assert perfect == pytest.approx(closed, abs=CLOSE)
    assert perfect <= aurc(np.zeros(rows), wrong) + CLOSE  # without an order: the error rate
    assert aurc(np.zeros(rows), wrong) == pytest.approx(errors / rows, abs=CLOSE)
    assert aurc(np.arange(rows, dtype=float), wrong) >= errors / rows - CLOSE


def test_aurc_of_many_rows_nears_its_integral():
    rows, rate = 200_000, 0.3
    found = aurc(-np.arange(rows, dtype=float), np.arange(rows) >= rows * (1 - rate))
    assert found == pytest.approx(rate + (1 - rate) * math.log(1 - rate), abs=1e-5)


confident = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 1), st.integers(0, 15).map(lambda n: n / 15), st.just(1.0)), st.booleans()
    ),
    min_size=1,
    max_size=30,
)


@given(confident, st.sampled_from([1, 5, 15]))
def test_ece_is_the_sum_over_bins_and_between_0_and_1(rows, bins):
    confidences, correct = arrays(rows)
    found = ece(confidences, correct, bins)
    assert 0 <= found <= 1
    # A confidence on the edge of two bins may fall into either by rounding: leave these to the next test.
    if all(abs(c * bins - round(c * bins)) > 1e-9 or c in (0, 1) for c in confidences):
        assert found == pytest.approx(naive_ece(confidences, correct, bins), abs=CLOSE)


def test_ece_bins_include_their_upper_edge():
    # 0.5 belongs to the lower of two bins: |0.5 - 1| / 2 + |0.9 - 0| / 2; in one bin with 0.9: |1.4 - 1| / 2.
    assert ece(np.array([0.5, 0.9]), np.array([True, False]), 2) == pytest.approx(0.7, abs=CLOSE)
    assert ece(np.array([0.5, 0.9]), np.array([True, False]), 1) == pytest.approx(0.2, abs=CLOSE)
    assert ece(np.array([1.0, 1.0]), np.array([True, True])) == 0
    # Of the usual 15 bins, 0.9 and 0.93 share the 14th, and 0.94 is in the 15th.
    confidences, correct = np.array([0.9, 0.93, 0.94]), np.array([True, False, False])
    assert ece(confidences, correct) == pytest.approx((0.83 + 0.94) / 3, abs=CLOSE)


def test_ece_of_calibrated_confidences_is_small_and_of_certain_ones_the_error_rate():
    random = np.random.default_rng(2)
    confidences = random.uniform(0.1, 1, 100_000)
    correct = random.uniform(size=100_000) < confidences
    assert ece(confidences, correct) < 0.01
    assert ece(np.ones(100_000), correct) == pytest.approx(1 - correct.mean(), abs=CLOSE)


def test_all_measures_are_of_the_labelled_rows():
    random = np.random.default_rng(3)
    scores, far = random.normal(1, 1, 40), random.normal(0, 1, 25)
    labels, guesses = random.integers(0, 3, 40).astype(np.int32), random.integers(0, 3, 40).astype(np.int32)
    confidences = random.uniform(size=40)
    labels[30:] = -1
    found = open_set_metrics(scores, far, labels, guesses, confidences)
    right = labels[:30] == guesses[:30]
    both = np.concatenate([scores[:30], far])
    assert found == OpenSetMetrics(
        auoscr(scores[:30], right, far),
        aurc(scores[:30], ~right),
        aurc(both, np.concatenate([~right, np.ones(25, bool)])),
        ece(confidences[:30], right),
        30,
    )
    assert math.isnan(open_set_metrics(scores, far, labels, guesses, None).ece)
    nothing = open_set_metrics(scores, far, np.full(40, -1, np.int32), guesses, confidences)
    assert nothing.n_labelled == 0
    assert all(math.isnan(value) for value in (nothing.auoscr, nothing.aurc, nothing.aurc_ood, nothing.ece))


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(LsnError, match=r"a flag for each of 2 scores, found the shape \(1,\)"):
        aurc(np.zeros(2), np.zeros(1, bool))
    for low, high in ((-0.5, 1), (0, 2)):
        with pytest.raises(LsnError, match=rf"in \[0, 1\], found {low:g} to {high:g}"):
            ece(np.array([low, high], float), np.ones(2, bool))
