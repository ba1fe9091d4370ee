"""The interval of the realised true-positive rate holds for ties; tests/robustness has the full form."""

import numpy as np
import pytest

from lsncli.threshold import calibrate
from tests.robustness.interval_coverage import (
    Bounds,
    bounds,
    continuous,
    coverage,
    drawn,
    hunted,
    least,
    rounded,
    shapes,
    worst,
)


def test_coverage_is_as_promised_for_few_and_many_values() -> None:
    row = least(worst((1, 2, 5, 19, 20, 37, 100, 400), (0.8, 0.95), (2, 5, 50)))
    assert row["coverage"] >= 0.95 - 1e-9, row
    assert max(row["rate_below"], row["rate_above"]) <= 0.025 + 1e-9


def test_coverage_is_as_promised_for_scores_rounded_to_float16() -> None:
    row = least(rounded((3, 100, 500), (0.95,)))
    assert row["coverage"] >= 0.95 - 1e-9, row


def test_no_search_finds_a_distribution_that_is_covered_less() -> None:
    assert hunted(60, 0.9, 300, seed=1)["coverage"] >= 0.95 - 1e-9


def test_an_interval_for_a_continuum_would_not_cover_ties() -> None:
    """The computation finds what was wrong: five values and 19 images, with the ends of a Beta."""
    given = bounds(19, 0.95)
    wrong = Bounds(19, given.low, np.full(1, 0.975 ** (1 / 19)))
    assert 1 - sum(coverage(np.full(5, 0.2), wrong)) < 0.05
    assert 1 - sum(coverage(np.full(5, 0.2), given)) > 0.95


@pytest.mark.parametrize("n", [19, 60])
def test_draws_agree_with_the_computation(n: int) -> None:
    for name, weights in shapes(7):
        computed = 1 - sum(coverage(weights, bounds(n, 0.9)))
        # Five standard errors of 400 draws; the seed is fixed.
        allowed = 5 * np.sqrt(max(computed * (1 - computed), 0.0025) / 400)
        assert drawn(n, 0.9, weights, 400, seed=n) == pytest.approx(computed, abs=allowed), name


def test_scores_without_ties_are_covered_a_little_more_often() -> None:
    assert continuous(bounds(200, 0.95)) == pytest.approx(0.9648, abs=0.0005)
    assert continuous(bounds(2000, 0.95)) == pytest.approx(0.9556, abs=0.0005)


def test_only_the_number_of_scores_below_gamma_matters() -> None:
    given = bounds(40, 0.9)
    random = np.random.default_rng(0)
    for values in (2, 5, 1000):
        scores = random.integers(0, values, 40).astype(float)
        found = calibrate(scores, 0.9)
        below = int((scores < found.gamma).sum())
        assert (found.tpr_low, found.tpr_high) == (given.low[below], given.high[below])
