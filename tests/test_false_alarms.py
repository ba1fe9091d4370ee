"""Rates of verdicts over many simulated detectors: p-values, Benjamini-Hochberg, another target."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from lsncli.errors import UsageError
from lsncli.threshold import (
    calibrate,
    check_false_alarms,
    kept_scores,
    largest_flagged,
    least_flagged,
    needed_to_flag,
    p_values,
    score_of,
)

DETECTORS = 500
ERRORS = 4
"""How many standard errors a rate may be from what theory says: one test in 16,000 fails by chance."""


def continuous(random, size, shift=0.0):
    return random.normal(size=size) + shift


def tied(random, size, shift=0.0):
    """Return scores of about ten values."""
    return np.round(2 * (random.normal(size=size) + shift)) / 2


def spread(found):
    return ERRORS * np.std(found) / math.sqrt(len(found)) + 1e-12


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("draw", [continuous, tied])
def test_p_values_of_new_id_images_are_valid_over_many_detectors(draw, level) -> None:
    random = np.random.default_rng(1)
    rates = []
    for _ in range(DETECTORS):
        held_out = kept_scores(draw(random, 199))
        rates.append(np.mean(p_values(draw(random, 100), held_out) <= level))
    assert np.mean(rates) <= level + spread(rates)
    if draw is continuous:  # 199 distinct scores resolve each of these levels
        assert np.mean(rates) >= level - spread(rates)


def test_p_values_of_kept_scores_are_valid_over_many_detectors() -> None:
    random = np.random.default_rng(2)
    rates = []
    for _ in range(DETECTORS):
        held_out = kept_scores(random.normal(size=1500), most=99)
        rates.append(np.mean(p_values(random.normal(size=100), held_out) <= 0.05))
    assert abs(np.mean(rates) - 0.05) <= spread(rates)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("draw", [continuous, tied])
def test_the_share_of_id_among_what_is_flagged_stays_at_its_level(draw, share) -> None:
    """Without ties it is level * share of ID images if level * (n + 1) / m is whole, as here."""
    random, level, images = np.random.default_rng(3), 0.1, 200
    inside = round(share * images)
    false, caught = [], []
    for _ in range(DETECTORS):
        held_out = kept_scores(draw(random, 1999))
        scores = np.concatenate([draw(random, inside), draw(random, images - inside, -3.0)])
        found = p_values(scores, held_out)
        flagged = found <= largest_flagged(found, level)
        false.append(flagged[:inside].sum() / max(1, flagged.sum()))
        caught.append(flagged[inside:].mean())
    assert np.mean(false) <= level * share + spread(false)
    if draw is continuous:
        assert np.mean(false) >= level * share - spread(false)
    assert np.mean(caught) > (0.3 if share < 0.99 else 0.1)  # the bound is not kept by flagging nothing


def naive(ranks: list[int], n: int, level: Fraction) -> list[bool]:
    """Return what is flagged of p-values rank / (n + 1), in exact arithmetic."""
    found = [Fraction(rank, n + 1) for rank in ranks]
    steps = [k for k, p in enumerate(sorted(found), 1) if p <= level * k / len(found)]
    return [bool(steps) and p <= sorted(found)[steps[-1] - 1] for p in found]


@given(
    st.integers(1, 60).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n + 1), min_size=1, max_size=40))
    ),
    st.sampled_from([1, 2, 5, 10, 20, 25, 50]),
)
@example((49, [1] * 29), 2)  # 0.02 * 29 / 29 is less than 1 / 50 in floating point
def test_flags_are_those_of_exact_arithmetic(drawn, percent) -> None:
    n, ranks = drawn
    found = np.array(ranks) / (n + 1)
    flagged = found <= largest_flagged(found, percent / 100)
    assert flagged.tolist() == naive(ranks, n, Fraction(percent, 100))


@pytest.mark.parametrize("seed", range(20))
def test_flags_are_those_of_scipy(seed) -> None:
    random = np.random.default_rng(seed)
    found = np.concatenate([random.random(80), random.random(20) / 100])
    flagged = found <= largest_flagged(found, 0.1)
    assert flagged.tolist() == (false_discovery_control(found) <= 0.1).tolist()
    assert 0 < flagged.sum() < 100


def test_without_images_nothing_is_flagged() -> None:
    assert largest_flagged(np.array([]), 0.05) == 0


@given(
    st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40),
    st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=20),
    st.floats(0.001, 0.999),
)
def test_a_p_value_and_a_score_flag_the_same_images(known, scores, level) -> None:
    held_out, new = kept_scores(np.array(known)), np.array(scores)
    found = p_values(new, held_out)
    for p_value in (level, *found.tolist()):
        assert ((new < score_of(p_value, held_out)) == (found <= p_value)).all()


@given(st.integers(1, 3000), st.integers(1, 500), st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_as_many_as_are_needed_are_flagged_and_no_fewer(n, images, level) -> None:
    def flagged(count: int, held_out: int) -> bool:
        found = np.ones(images)
        found[:count] = 1 / (held_out + 1)
        return largest_flagged(found, level) > 0

    least = least_flagged(n, images, level)
    assert least > images or flagged(least, n)
    assert least <= 1 or not flagged(min(least - 1, images), n)
    needed = needed_to_flag(1, images, level)
    assert flagged(1, needed)
    assert not flagged(1, needed - 1)


@pytest.mark.parametrize("level", [0.0, 1.0, 5, -0.1, np.nan])
def test_a_level_that_is_no_proper_fraction_is_refused(level) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1, found"):
        check_false_alarms(level)


@given(
    st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=120).map(np.array),
    st.integers(1, 30),
    st.sampled_from([0.5, 0.8, 0.9, 0.95]),
)
def test_gamma_of_kept_scores_keeps_the_target_of_all(scores, most, target) -> None:
    kept, exact = kept_scores(scores, most), calibrate(scores, target)
    try:
        found = calibrate(kept, target, len(scores))
    except UsageError:
        assert np.mean(scores >= kept[0]) < target or len(set(scores.tolist())) < len(scores)
        return
    assert np.mean(scores >= found.gamma) >= target
    assert found.gamma <= exact.gamma
    assert found.n == exact.n
    assert found.tpr_high >= exact.tpr_high or found.gamma < exact.gamma
    if len(kept) == len(scores):
        assert found == exact


def test_gamma_of_kept_scores_is_at_most_one_step_lower() -> None:
    scores = np.random.default_rng(4).normal(size=30_000)
    for target in (0.5, 0.9, 0.99, 0.999):
        exact, found = calibrate(scores, target), calibrate(kept_scores(scores), target, len(scores))
        assert 0 <= np.mean(scores >= found.gamma) - np.mean(scores >= exact.gamma) <= 1.5e-4
        assert found.tpr_low == pytest.approx(exact.tpr_low, abs=1e-3)
        assert found.tpr_high == pytest.approx(exact.tpr_high, abs=1e-3)


def test_a_target_beyond_the_kept_scores_is_refused() -> None:
    scores = np.arange(1000.0)
    with pytest.raises(UsageError, match=r"of the 10 scores kept of 1,000 .* 91\.00.*fewer than 0\.95"):
        calibrate(kept_scores(scores, 10), 0.95, 1000)
