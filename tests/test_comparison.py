"""The paired bootstrap against plain resampling, Holm by its definition, ranks against SciPy and Demsar."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare

from lsncli.comparison import bootstrap_difference, holm, paired_bootstrap, rank_test
from lsncli.errors import LsnError
from lsncli.intervals import Interval, delong_difference
from lsncli.metrics import auroc, fpr_id_positive

CLOSE = 1e-12


def sample_methods(seed=0, rows=60, gain=0.7):
    """Two methods on the same ID images and two OOD sets, correlated, with ties."""
    random = np.random.default_rng(seed)
    shared = [random.normal(1, 1, rows), random.normal(0, 1, rows // 2), random.normal(-1, 1, 3 * rows // 4)]
    noisy = [[(one + random.normal(0, gain, len(one))).round(1) for one in shared] for _ in range(2)]
    return [(inside, outside) for inside, *outside in noisy]


def naive_samples(methods, repeats, seed):
    """Draw rows, take the scores of each method at them, and measure afresh."""
    streams = [np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(3)]
    found = []
    for _ in range(repeats):
        sizes = [len(methods[0][0]), *map(len, methods[0][1])]
        drawn = [stream.integers(size, size=size) for size, stream in zip(sizes, streams, strict=True)]
        found.append(
            [
                [
                    (
                        fpr_id_positive(inside[drawn[0]], one[at]),
                        auroc(inside[drawn[0]], one[at]),
                    )
                    for one, at in zip(outside, drawn[1:], strict=True)
                ]
                for inside, outside in methods
            ]
        )
    return np.array(found)


def test_the_paired_bootstrap_draws_the_same_images_for_all_methods_and_sets():
    methods, ticks = sample_methods(), []
    found = paired_bootstrap(methods, 20, seed=4, progress=lambda step, note="": ticks.append(step))
    assert found.shape == (20, 2, 2, 2)
    np.testing.assert_allclose(found, naive_samples(methods, 20, 4), atol=CLOSE)
    assert sum(ticks) == 20
    assert paired_bootstrap(methods, 1).shape == (1, 2, 2, 2)
    assert np.array_equal(found, paired_bootstrap(methods, 20, seed=4))
    assert not np.array_equal(found, paired_bootstrap(methods, 20, seed=5))


def test_a_method_does_not_differ_from_itself():
    (inside, outside), _ = sample_methods()
    samples = paired_bootstrap([(inside, outside), (2 * inside, [2 * one for one in outside])], 30)
    differences = (samples[:, 0] - samples[:, 1]).mean(axis=1)
    for measure in range(2):
        found = bootstrap_difference(0.0, differences[:, measure])
        assert (found.value, found.interval, found.p_value) == (0, Interval(0, 0), 1)


def test_pairs_make_differences_surer():
    methods = sample_methods(3, 300, 0.2)
    samples = paired_bootstrap(methods, 200)[..., 1].mean(axis=2)
    other = paired_bootstrap(methods, 200, seed=9)[..., 1].mean(axis=2)
    assert (samples[:, 0] - samples[:, 1]).std() < 0.6 * (samples[:, 0] - other[:, 1]).std()


def test_one_set_is_tested_as_by_delong():
    methods = [(inside, outside[:1]) for inside, outside in sample_methods(1, 400, 1.0)]
    (first_id, [first]), (second_id, [second]) = methods
    exact = delong_difference(first_id, first, second_id, second)
    samples = paired_bootstrap(methods, 1000)[:, :, 0, 1]
    found = bootstrap_difference(exact.value, samples[:, 0] - samples[:, 1])
    width = exact.interval.high - exact.interval.low
    assert found.interval.low == pytest.approx(exact.interval.low, abs=0.1 * width)
    assert found.interval.high == pytest.approx(exact.interval.high, abs=0.1 * width)
    assert found.p_value == pytest.approx(exact.p_value, abs=0.1)


def test_the_p_value_is_that_of_the_tail_beyond_zero():
    assert bootstrap_difference(0.5, np.arange(1.0, 100)).p_value == 2 / 100
    below = np.concatenate([-np.ones(4), np.ones(95)])
    assert bootstrap_difference(0.5, below).p_value == pytest.approx(2 * 5 / 100)
    assert bootstrap_difference(-0.5, -below).p_value == pytest.approx(2 * 5 / 100)
    found = bootstrap_difference(0.5, np.arange(101.0), 0.9)
    assert found.interval == Interval(pytest.approx(5), pytest.approx(95))
    assert found.value == 0.5


def test_equal_methods_are_told_apart_as_rarely_as_the_p_value_says():
    random, rejected = np.random.default_rng(8), 0
    for trial in range(60):
        shared = [random.normal(1, 1, 60), random.normal(0, 1, 60)]
        noisy = [[one + random.normal(0, 1, 60) for one in shared] for _ in range(2)]
        samples = paired_bootstrap([(inside, [one]) for inside, one in noisy], 60, trial)[:, :, 0, 1]
        rejected += bootstrap_difference(0.0, samples[:, 0] - samples[:, 1]).p_value < 0.2
    assert 3 <= rejected <= 24  # 12 expected; the ends are some four standard errors away


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_step_by_step(p_values):
    for alpha in (0.01, 0.05, 0.3):
        order = sorted(range(len(p_values)), key=lambda at: p_values[at])
        rejected = set()
        for step, at in enumerate(order):
            if (len(p_values) - step) * p_values[at] > alpha:
                break
            rejected.add(at)
        assert {at for at, p in enumerate(holm(p_values)) if p <= alpha} == rejected
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.integers(3, 7), st.integers(2, 6), st.randoms(use_true_random=False))
def test_friedman_is_scipys(methods, sets, random):
    values = np.array([[random.randint(0, 4) for _ in range(sets)] for _ in range(methods)], float)
    found = rank_test(values)
    for column, ranks in zip(values.T, found.ranks.T, strict=True):
        for value, rank in zip(column, ranks, strict=True):
            assert rank == np.sum(column > value) + (np.sum(column == value) + 1) / 2
    if any(len(set(column)) > 1 for column in values.T):
        assert found.p_value == pytest.approx(friedmanchisquare(*values).pvalue, abs=1e-9)
    else:
        assert found.p_value == 1


@pytest.mark.parametrize(("methods", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)])
def test_the_critical_difference_is_that_of_demsars_table(methods, q):
    values = np.random.default_rng(0).normal(size=(methods, 7))
    assert rank_test(values).critical == pytest.approx(
        q * np.sqrt(methods * (methods + 1) / (6 * 7)), rel=3e-4
    )
    assert rank_test(values, 0.1).critical < rank_test(values).critical


def test_the_best_method_has_rank_1():
    values = np.array([[0.9, 0.8], [0.5, 0.6], [0.7, 0.7]])
    assert rank_test(values).means.tolist() == [1, 3, 2]


def test_what_cannot_be_compared_is_refused():
    (inside, outside), _ = sample_methods()
    with pytest.raises(LsnError, match=r"same images, found \(60, 30, 45\) and \(59, 30, 45\)"):
        paired_bootstrap([(inside, outside), (inside[1:], outside)])
    with pytest.raises(LsnError, match="at least one repeat, found 0"):
        paired_bootstrap([(inside, outside)], 0)
    for shape in itertools.product((2, 3), (1, 2)):
        if shape != (3, 2):
            with pytest.raises(LsnError, match="at least 3 methods on 2 sets"):
                rank_test(np.zeros(shape))
