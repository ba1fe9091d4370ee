"""The calibrated threshold against brute force, and its interval against simulation and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from lsncli.errors import LsnError
from lsncli.threshold import MOST_KEPT, calibrate, is_ood, kept_scores, p_values, uncalibrated

held_out = st.one_of(
    st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=80),
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80),
).map(np.array)
targets = st.one_of(st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]), st.floats(0.01, 0.99))


@given(held_out, targets)
def test_gamma_is_the_largest_score_that_keeps_the_target(scores, target):
    enough = [s for s in scores if np.mean(scores >= s) >= target]
    assert calibrate(scores, target).gamma == max(enough)


@given(held_out, targets)
def test_no_larger_gamma_would_keep_the_target(scores, target):
    gamma = calibrate(scores, target).gamma
    assert np.mean(scores >= gamma) >= target
    assert np.mean(scores >= np.nextafter(gamma, np.inf)) < target


@pytest.mark.parametrize(
    ("n", "target", "rejected"), [(100, 0.95, 5), (20, 0.95, 1), (10, 0.9, 1), (19, 0.95, 0)]
)
def test_exactly_the_allowed_number_of_distinct_scores_is_rejected(n, target, rejected):
    scores = np.random.default_rng(n).permutation(n).astype(float)
    assert is_ood(scores, calibrate(scores, target).gamma).sum() == rejected


def test_interval_of_distinct_scores_is_from_the_beta_of_the_order_statistic():
    found = calibrate(np.arange(200.0), 0.95)
    assert found.gamma == 10
    exact = binomtest(190, 200).proportion_ci(0.95, method="exact")
    assert found.tpr_low == pytest.approx(beta.ppf(0.025, 190, 11), abs=1e-12)
    assert found.tpr_high == pytest.approx(beta.ppf(0.975, 191, 10), abs=1e-12)
    assert (found.tpr_low, found.tpr_high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.tpr_low < 0.95 < found.tpr_high


def test_one_score_says_almost_nothing_about_the_rate():
    found = calibrate(np.array([0.3]))
    assert (found.gamma, found.n, found.coarse) == (0.3, 1, True)
    assert (found.tpr_low, found.tpr_high) == (pytest.approx(0.025), 1)


def test_ties_raise_the_upper_end_and_leave_the_lower_one():
    """4 of 100 scores are below gamma, where 5 might be."""
    found = calibrate(np.repeat([0.0, 1.0, 2.0], [4, 50, 46]), 0.95)
    distinct = calibrate(np.arange(100.0), 0.95)
    assert found.gamma == 1
    assert found.tpr_low == distinct.tpr_low == pytest.approx(beta.ppf(0.025, 95, 6), abs=1e-12)
    assert found.tpr_high == pytest.approx(beta.ppf(0.975, 97, 4), abs=1e-12)
    assert found.tpr_high > distinct.tpr_high


@pytest.mark.parametrize("target", [0.5, 0.95])
def test_if_no_score_is_below_gamma_all_images_may_be_kept(target):
    for scores in (np.ones(100), np.repeat([1.0, 2.0], [90, 10]), np.array([1.0])):
        found = calibrate(scores, target)
        assert (found.gamma, found.tpr_high) == (1, 1)
        assert found.tpr_low < target


def test_interval_covers_the_true_rate_of_continuous_scores():
    """By its Beta distribution in 96.7 of 100 calibrations; the upper end is the one that gives more."""
    rng = np.random.default_rng(0)
    found = [calibrate(rng.random(150)) for _ in range(2000)]
    low = np.mean([1 - t.gamma < t.tpr_low for t in found])
    high = np.mean([1 - t.gamma > t.tpr_high for t in found])
    assert low == pytest.approx(0.025, abs=0.01)
    assert high == pytest.approx(0.008, abs=0.006)


@pytest.mark.parametrize(
    ("n", "target", "coarse"),
    [(19, 0.95, True), (20, 0.95, False), (9, 0.9, True), (10, 0.9, False), (1, 0.5, True), (2, 0.5, False)],
)
def test_coarse_means_that_no_score_may_be_rejected(n, target, coarse):
    scores = np.arange(float(n))
    found = calibrate(scores, target)
    assert found.coarse is coarse
    assert bool(found.gamma == scores.min()) is coarse


def test_what_stands_behind_gamma_is_said_in_words():
    rng = np.random.default_rng(3)
    assert calibrate(rng.random(500)).doubt == ""
    assert calibrate(rng.random(500)).basis == "for a TPR of 95%"
    assert "19 held-out images cannot resolve a TPR of 95%" in calibrate(rng.random(19)).doubt
    few = calibrate(rng.random(40))
    assert few.doubt.startswith("40 held-out images are few: of new ID images anything from 83% to 99%")


@pytest.mark.parametrize(
    ("target", "said"), [(0.95, "95%"), (0.975, "97.5%"), (0.999, "99.9%"), (0.07, "7%")]
)
def test_a_target_is_said_as_it_was_asked_for(target, said):
    """0.999 is not 100 %: that would be a promise nobody made."""
    made = calibrate(np.arange(5000.0), target)
    assert made.basis == f"for a TPR of {said}"
    few = calibrate(np.arange(3.0), target)
    assert f"cannot resolve a TPR of {said};" in few.doubt or target < 0.5


def test_one_image_is_one_image():
    assert calibrate(np.array([0.5])).doubt.startswith("1 held-out image cannot resolve a TPR of 95%")


def test_a_gamma_that_no_image_has_set_promises_nothing():
    found = uncalibrated(0.5)
    assert (found.gamma, found.n, found.calibrated, found.coarse) == (0.5, 0, False, False)
    assert (found.tpr_low, found.tpr_high) == (0, 1)
    assert found.basis == "uncalibrated"
    assert found.doubt.startswith("No image has set gamma")
    assert calibrate(np.ones(3)).calibrated


def test_a_score_equal_to_gamma_is_id():
    assert is_ood(np.array([0.1, 0.2, 0.3]), 0.2).tolist() == [True, False, False]


def test_no_scores_give_no_decisions():
    decisions = is_ood(np.array([]), 0.2)
    assert decisions.shape == (0,)
    assert decisions.dtype == bool


@pytest.mark.parametrize("target", [0.0, 1.0, 95, -0.5, np.nan])
def test_a_target_that_is_no_proper_fraction_is_refused(target):
    with pytest.raises(LsnError, match="above 0 and below 1, found"):
        calibrate(np.ones(10), target)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([], "at least one held-out ID score"), ([1.0, np.nan, np.inf], "2 of 3 are NaN or infinite")],
)
def test_unusable_held_out_scores_are_refused(scores, expected):
    with pytest.raises(LsnError, match=expected):
        calibrate(np.array(scores))


def test_a_nan_is_neither_id_nor_ood():
    with pytest.raises(LsnError, match="1 of 2 are NaN"):
        is_ood(np.array([1.0, np.nan]), 0.5)
    with pytest.raises(LsnError, match="threshold must be finite"):
        is_ood(np.array([1.0]), np.nan)


@given(held_out, st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=20).map(np.array))
def test_a_p_value_counts_the_held_out_scores_up_to_a_score(known, scores):
    found = p_values(scores, kept_scores(known))
    expected = [(1 + sum(k <= s for k in known)) / (len(known) + 1) for s in scores]
    assert found.tolist() == expected


@given(st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_p_values_of_exchangeable_scores_are_valid_also_with_ties(scores, level):
    """With each of n + 1 scores as the new one, at most a share ``level`` of p-values is up to it."""
    small = 0
    for index, new in enumerate(scores):
        others = np.array(scores[:index] + scores[index + 1 :])
        small += p_values(np.array([new]), kept_scores(others))[0] <= level
    assert small <= level * len(scores) + 1e-9


@given(held_out, st.integers(1, 20))
def test_fewer_kept_scores_give_p_values_that_are_no_smaller_and_close(known, most):
    kept = kept_scores(known, most)
    assert len(kept) == min(len(known), most)
    scores = np.concatenate([known, known - 0.5, known + 0.5])
    few, exact = p_values(scores, kept), p_values(scores, kept_scores(known))
    assert (few >= exact - 1e-12).all()
    untied = np.unique(known)
    if len(untied) == len(known):
        assert (few <= exact + 1 / (len(kept) + 1) + 1e-12).all()


def test_no_more_scores_are_kept_than_said():
    assert len(kept_scores(np.random.default_rng(0).normal(size=3 * MOST_KEPT))) == MOST_KEPT
    with pytest.raises(LsnError, match="held-out ID"):
        kept_scores(np.array([0.1, np.nan]))
