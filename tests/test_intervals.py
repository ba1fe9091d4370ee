"""Intervals against DeLong's formulas pair by pair, plain resampling, simulated coverage, and properties."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError
from lsncli.intervals import METRICS, Interval, bootstrap, delong, delong_difference
from lsncli.metrics import auroc, evaluate_scores

Z95 = 1.959963984540054
CLOSE = 1e-12

tied = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=40).map(np.array)
spread = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=40).map(np.array)
scores = st.one_of(tied, spread)


def components(id_scores, ood_scores):
    """The structural components V10 and V01 of DeLong et al. (1988), over all N M pairs."""
    wins = [[1.0 if a > b else 0.5 if a == b else 0.0 for b in ood_scores] for a in id_scores]
    v10 = [sum(row) / len(ood_scores) for row in wins]
    v01 = [sum(column) / len(id_scores) for column in zip(*wins, strict=True)]
    return v10, v01


def covariance(first, second):
    mean_first, mean_second = sum(first) / len(first), sum(second) / len(second)
    pairs = zip(first, second, strict=True)
    return sum((a - mean_first) * (b - mean_second) for a, b in pairs) / (len(first) - 1)


def naive_matrix(*pairs):
    """DeLong's covariance matrix S of several AUROCs on the same images, as S10 / N + S01 / M."""
    found = [components(*pair) for pair in pairs]
    return [
        [covariance(a[0], b[0]) / len(a[0]) + covariance(a[1], b[1]) / len(a[1]) for b in found]
        for a in found
    ]


@given(scores, scores)
def test_delong_is_the_sum_over_all_pairs(id_scores, ood_scores):
    [[variance]] = naive_matrix((id_scores.tolist(), ood_scores.tolist()))
    value, reach = auroc(id_scores, ood_scores), Z95 * math.sqrt(variance)
    found = delong(id_scores, ood_scores)
    # The square root of a variance that rounding alone keeps from zero is known to 1e-8.
    assert found.low == pytest.approx(max(0, value - reach), abs=1e-7)
    assert found.high == pytest.approx(min(1, value + reach), abs=1e-7)


def test_delong_of_many_tied_normals_is_the_sum_over_all_pairs():
    rng = np.random.default_rng(1)
    id_scores, ood_scores = rng.normal(1, 1, 300).round(1), rng.normal(0, 1, 170).round(1)
    [[variance]] = naive_matrix((id_scores, ood_scores))
    value, reach = auroc(id_scores, ood_scores), Z95 * math.sqrt(variance)
    found = delong(id_scores, ood_scores)
    assert (found.low, found.high) == pytest.approx((value - reach, value + reach), abs=CLOSE)


def test_delong_by_hand():
    # ID 1, 3, 5 and OOD 0, 2: V = 1/2, 1, 1 (variance 1/12) and W = 1, 2/3 (variance 1/18), AUROC 5/6.
    found = delong(np.array([1.0, 3, 5]), np.array([0.0, 2]), level=0.5)
    reach = 0.6744897501960817 * math.sqrt(1 / 12 / 3 + 1 / 18 / 2)
    assert found.low == pytest.approx(5 / 6 - reach, abs=CLOSE)
    assert found.high == pytest.approx(5 / 6 + reach, abs=CLOSE)


def test_delong_of_alternating_scores_without_ties_has_the_closed_form():
    # ID 1, 3, .. 2n - 1 between OOD 0, 2, .. 2n - 2: ranks are 1..n, whose variance is n (n + 1) / 12.
    n = 50
    found = delong(np.arange(1.0, 2 * n, 2), np.arange(0.0, 2 * n, 2))
    reach = Z95 * math.sqrt(2 * n * (n + 1) / 12 / n**2 / n)
    value = (n + 1) / (2 * n)
    assert (found.low, found.high) == pytest.approx((value - reach, value + reach), abs=CLOSE)


@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "value"),
    [([2.0, 3.0], [0.0, 1.0], 1.0), ([0.0, 1.0], [2.0, 3.0], 0.0), ([1.0, 1.0, 1.0], [1.0, 1.0], 0.5)],
)
def test_delong_without_variance_is_a_point(id_scores, ood_scores, value):
    assert delong(np.array(id_scores), np.array(ood_scores)) == Interval(value, value)


@given(scores, scores, st.sampled_from([0.5, 0.9, 0.99]))
def test_delong_holds_the_value_and_widens_with_the_level(id_scores, ood_scores, level):
    found, wider = delong(id_scores, ood_scores, level), delong(id_scores, ood_scores, 0.999)
    assert 0 <= wider.low <= found.low <= auroc(id_scores, ood_scores) <= found.high <= wider.high <= 1


@given(tied, tied, st.randoms(use_true_random=False))
def test_delong_ignores_order_and_monotone_rescaling(id_scores, ood_scores, random):
    shuffled = id_scores.tolist()
    random.shuffle(shuffled)
    expected = delong(id_scores, ood_scores)
    assert delong(np.exp(id_scores), np.exp(ood_scores)) == expected
    found = delong(np.array(shuffled), ood_scores)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-7)


@given(tied, tied)
def test_swapping_roles_mirrors_delong(id_scores, ood_scores):
    found, mirrored = delong(id_scores, ood_scores), delong(ood_scores, id_scores)
    assert (found.low, found.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=CLOSE)


def test_delong_and_bootstrap_cover_the_true_auroc_as_often_as_they_say():
    rng = np.random.default_rng(7)
    truth = 0.5 * math.erfc(-1 / math.sqrt(2) / math.sqrt(2))  # normals of variance 1, means 1 apart
    hits = {"delong": 0, "bootstrap": 0}
    for trial in range(250):
        pair = rng.normal(1, 1, 80), rng.normal(0, 1, 60)
        found = {"delong": delong(*pair, 0.9), "bootstrap": bootstrap(*pair, 50, 0.9, trial)["auroc"]}
        for name, interval in found.items():
            hits[name] += interval.low <= truth <= interval.high
    # Four standard errors of a share of 250 are 0.076; few repeats cost the bootstrap another 0.03.
    assert 0.82 <= hits["delong"] / 250 <= 0.97
    assert 0.79 <= hits["bootstrap"] / 250 <= 0.97


def two_scores(seed, gain=0.5):
    """Two scores of the same 90 ID and 70 OOD images, correlated, with ties."""
    rng = np.random.default_rng(seed)
    shared_id, shared_ood = rng.normal(1, 1, 90), rng.normal(0, 1, 70)
    second_id, second_ood = shared_id + rng.normal(0, gain, 90), shared_ood + rng.normal(0, gain, 70)
    return tuple(side.round(1) for side in (shared_id, shared_ood, second_id, second_ood))


@pytest.mark.parametrize("seed", range(3))
def test_the_difference_is_that_of_delongs_covariance_matrix(seed):
    first_id, first_ood, second_id, second_ood = two_scores(seed)
    [[own, shared], [_, other]] = naive_matrix((first_id, first_ood), (second_id, second_ood))
    value = auroc(first_id, first_ood) - auroc(second_id, second_ood)
    error = math.sqrt(own + other - 2 * shared)
    found = delong_difference(first_id, first_ood, second_id, second_ood)
    assert found.value == pytest.approx(value, abs=CLOSE)
    assert found.interval.low == pytest.approx(value - Z95 * error, abs=CLOSE)
    assert found.interval.high == pytest.approx(value + Z95 * error, abs=CLOSE)
    assert found.p_value == pytest.approx(math.erfc(abs(value) / error / math.sqrt(2)), abs=CLOSE)


def test_a_paired_difference_is_surer_than_one_of_unrelated_images():
    first_id, first_ood, second_id, second_ood = two_scores(4)
    paired = delong_difference(first_id, first_ood, second_id, second_ood).interval
    mixed = np.random.default_rng(0).permutation
    unrelated = delong_difference(first_id, first_ood, mixed(second_id), mixed(second_ood)).interval
    assert paired.high - paired.low < 0.7 * (unrelated.high - unrelated.low)


def test_the_interval_leaves_out_zero_exactly_where_the_test_rejects():
    outcomes = set()
    for seed, gain in itertools.product(range(12), (0.5, 2.0)):
        found = delong_difference(*two_scores(seed, gain))
        outcomes.add(found.p_value < 0.05)
        assert (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)
    assert outcomes == {True, False}


def test_the_test_of_two_equal_scores_rejects_as_often_as_it_says():
    rng = np.random.default_rng(11)
    rejected = 0
    for _ in range(400):
        common_id, common_ood = rng.normal(1, 1, 60), rng.normal(0, 1, 60)
        sides = [side + rng.normal(0, 1, 60) for side in (common_id, common_ood, common_id, common_ood)]
        rejected += delong_difference(*sides).p_value < 0.1
    assert 0.04 <= rejected / 400 <= 0.16


@given(scores, scores)
def test_a_score_does_not_differ_from_a_monotone_form_of_itself(id_scores, ood_scores):
    found = delong_difference(id_scores, ood_scores, 2 * id_scores, 2 * ood_scores)
    assert (found.value, found.interval, found.p_value) == (0, Interval(0, 0), 1)


def test_perfect_against_inverted_scores_differ_for_sure():
    high, low = np.array([2.0, 3.0]), np.array([0.0, 1.0])
    found = delong_difference(high, low, low, high)
    assert (found.value, found.interval, found.p_value) == (1, Interval(1, 1), 0)


def naive_bootstrap(id_scores, ood_scores, repeats, level, seed):
    """Resample the sorted scores themselves and evaluate each sample afresh."""
    rng = np.random.default_rng(seed)
    pos, neg = np.sort(id_scores), np.sort(ood_scores)
    samples = [
        evaluate_scores(
            pos[rng.integers(len(pos), size=len(pos))], neg[rng.integers(len(neg), size=len(neg))]
        )
        for _ in range(repeats)
    ]
    tail = (1 - level) / 2
    return {
        name: np.quantile([getattr(sample, name) for sample in samples], [tail, 1 - tail]) for name in METRICS
    }


@pytest.mark.parametrize("decimals", [0, 1, 15])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (150, 40)])
def test_the_bootstrap_evaluates_resampled_scores(decimals, n, m):
    rng = np.random.default_rng(n + m)
    id_scores, ood_scores = rng.normal(1, 1, n).round(decimals), rng.normal(0, 1.5, m).round(decimals)
    found = bootstrap(id_scores, ood_scores, repeats=50, level=0.8, seed=3)
    assert tuple(found) == METRICS
    for name, (low, high) in naive_bootstrap(id_scores, ood_scores, 50, 0.8, 3).items():
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=CLOSE), name


@given(tied, tied, st.integers(0, 5))
def test_the_bootstrap_of_ties_evaluates_resampled_scores(id_scores, ood_scores, seed):
    found = bootstrap(id_scores, ood_scores, repeats=5, seed=seed)
    for name, (low, high) in naive_bootstrap(id_scores, ood_scores, 5, 0.95, seed).items():
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=CLOSE), name


def test_the_bootstrap_follows_its_seed():
    rng = np.random.default_rng(2)
    pair = rng.normal(1, 1, 50), rng.normal(0, 1, 50)
    assert bootstrap(*pair, repeats=20, seed=1) == bootstrap(*pair, repeats=20, seed=1)
    assert bootstrap(*pair, repeats=20, seed=1) != bootstrap(*pair, repeats=20, seed=2)


@given(tied, tied, st.randoms(use_true_random=False))
def test_the_bootstrap_ignores_order_and_monotone_rescaling(id_scores, ood_scores, random):
    shuffled = id_scores.tolist()
    random.shuffle(shuffled)
    expected = bootstrap(id_scores, ood_scores, repeats=4)
    assert bootstrap(np.array(shuffled), ood_scores, repeats=4) == expected
    assert bootstrap(np.exp(id_scores), np.exp(ood_scores), repeats=4) == expected


def test_the_bootstrap_of_auroc_agrees_with_delong_on_many_scores():
    rng = np.random.default_rng(9)
    pair = rng.normal(1, 1, 2000), rng.normal(0, 1, 1000)
    sampled, expected = bootstrap(*pair, repeats=400)["auroc"], delong(*pair)
    assert sampled.high - sampled.low == pytest.approx(expected.high - expected.low, rel=0.15)
    assert sampled.low == pytest.approx(expected.low, abs=0.003)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, np.nan])
@pytest.mark.parametrize("interval", [delong, bootstrap])
def test_a_level_that_is_no_fraction_is_refused(interval, level):
    with pytest.raises(LsnError, match="level of confidence must be above 0 and below 1"):
        interval(np.ones(3), np.zeros(3), level=level)


@pytest.mark.parametrize("settings", [{"repeats": 0}, {"seed": -1}])
def test_a_bootstrap_without_repeats_or_with_a_negative_seed_is_refused(settings):
    with pytest.raises(LsnError, match="at least one repeat and a seed of at least 0"):
        bootstrap(np.ones(3), np.zeros(3), **settings)


@pytest.mark.parametrize("interval", [delong, bootstrap])
@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "expected"),
    [
        ([], [1.0], "at least one ID score, found none"),
        ([1.0, np.nan], [1.0, 2.0], "ID scores must be finite, but 1 of 2"),
        ([1.0, 2.0], [np.inf, 0.0], "OOD scores must be finite, but 1 of 2"),
        ([[1.0]], [1.0], "ID scores must have one dimension"),
    ],
)
def test_unusable_scores_are_refused(interval, id_scores, ood_scores, expected):
    with pytest.raises(LsnError, match=expected):
        interval(np.array(id_scores), np.array(ood_scores))


def test_delong_of_a_single_score_is_refused():
    with pytest.raises(LsnError, match="at least two ID and two OOD scores, found 1 and 3"):
        delong(np.ones(1), np.zeros(3))


def test_scores_of_different_images_are_not_compared():
    with pytest.raises(LsnError, match="found 3 ID and 2 OOD scores against 2 and 2"):
        delong_difference(np.ones(3), np.zeros(2), np.ones(2), np.zeros(2))
