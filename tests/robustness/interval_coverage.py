"""How often the interval of the realised true-positive rate holds, for scores with ties.

    python -m tests.robustness.interval_coverage [--record]

For a discrete distribution of the scores this is a sum of binomial probabilities, so it is computed, not
drawn: no seed, no noise. The bounds are those of ``lsncli.threshold.calibrate``. Draws that go through
``calibrate`` as they are check the sum. About two minutes; ``--record`` writes
benchmarks/results/interval-coverage.json. The quick form is in tests/test_interval_coverage.py.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betainc
from scipy.stats import beta, binom, norm

from benchmarks.records import record
from lsncli.threshold import calibrate

Floats = NDArray[np.float64]

SIZES = (*range(1, 61), 70, 79, 80, 90, 99, 100, 101, 120, 150, 199, 200, 300, 500, 700, 1000, 1500, 2000)
TARGETS = (0.5, 0.8, 0.9, 0.95, 0.99)
VALUES = (2, 3, 4, 5, 7, 10, 20, 35, 50)
PROMISED = 0.95


@dataclass(frozen=True)
class Bounds:
    """What ``calibrate`` states for ``n`` scores: row b is the interval when b of them are below gamma."""

    n: int
    low: Floats
    high: Floats


@cache
def bounds(n: int, target: float) -> Bounds:
    """The intervals of every number of scores below gamma that can occur."""
    found = []
    for below in range(n):
        threshold = calibrate(np.repeat([0.0, 1.0], [below, n - below]), target)
        if threshold.gamma != 1:
            break
        found.append((threshold.tpr_low, threshold.tpr_high))
    low, high = np.array(found).T
    return Bounds(n, low, high)


def coverage(weights: Floats, given: Bounds) -> tuple[float, float]:
    """The probabilities that the rate lies below and above its interval, ``weights`` (K,) of K values.

    Gamma is value j with b scores below it if b scores are among the first j values, and more than the last
    row of the bounds among the first j + 1. The rate is then the weight of value j and of those above it.
    """
    below = np.concatenate([[0.0], np.cumsum(weights)[:-1]])
    rate = np.clip(1 - below, 0, 1)[:, None]
    counts = np.arange(len(given.low))
    occurs = binom.pmf(counts, given.n, below[:, None])
    share = np.clip(weights[:, None] / np.maximum(rate, 1e-300), 0, 1)
    occurs *= bdtrc(counts[-1] - counts, given.n - counts, share)
    return float(occurs[rate < given.low].sum()), float(occurs[rate > given.high].sum())


def continuous(given: Bounds) -> float:
    """The coverage for scores without ties."""
    kept = given.n - len(given.low) + 1
    inside = betainc(kept, given.n - kept + 1, [given.low[-1], given.high[-1]])
    return float(inside[1] - inside[0])


def shapes(values: int) -> Iterator[tuple[str, Floats]]:
    """Distributions of so many values, the lowest first; weights sum to 1."""
    ranks = np.arange(values)
    yield "uniform", np.full(values, 1 / values)
    yield "binomial", binom.pmf(ranks, values - 1, 0.5)
    for ratio in (0.3, 0.5, 0.8, 0.95):
        falling = ratio**ranks / (ratio**ranks).sum()
        yield f"geometric {ratio}, rare ones high", falling
        yield f"geometric {ratio}, rare ones low", falling[::-1]
    for at, name in ((0, "lowest"), (values // 2, "middle"), (values - 1, "highest")):
        for mass in (0.05, 0.5, 0.9):
            weights = np.full(values, (1 - mass) / (values - 1))
            weights[at] = mass
            yield f"an atom of {mass} at the {name}", weights
    for rare in (0.002, 0.01, 0.02, 0.1, 0.2):
        weights = np.full(values, rare / (values - 1))
        weights[-1] = 1 - rare
        yield f"{rare} of rare low ones", weights
    for seed in range(6):
        yield "any", np.random.default_rng([values, seed]).dirichlet(np.full(values, 0.4))


def halves() -> Iterator[tuple[str, Floats]]:
    """Scores that were rounded to float16: the weight of each number, from a distribution function."""
    made = {
        "wide": norm(0, 1),
        "close together": norm(0.5, 0.002),
        "like probabilities": beta(4, 60),
        "like probabilities near 1": beta(60, 0.5),
    }
    for name, distribution in made.items():
        low, high = (np.float16(end) for end in distribution.ppf([1e-9, 1 - 1e-9]))
        numbers = [low]
        while numbers[-1] < high and len(numbers) < 60_000:
            numbers.append(np.nextafter(numbers[-1], np.float16(np.inf)))
        grid = np.array(numbers, dtype=np.float64)
        edges = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2, [np.inf]])
        weights = np.diff(distribution.cdf(edges))
        yield f"float16, {name}", weights[weights > 0]


def worst(sizes: Sequence[int], targets: Sequence[float], values: Sequence[int]) -> list[dict[str, Any]]:
    """For every size and target the distribution that is covered least often."""
    rows = []
    for target in targets:
        for n in sizes:
            given = bounds(n, target)
            found = []
            for count in values:
                for name, weights in shapes(count):
                    found.append((*coverage(weights, given), f"{count} values, {name}"))
            rows.append(_row(n, target, given, found))
    return rows


def rounded(sizes: Sequence[int], targets: Sequence[float]) -> list[dict[str, Any]]:
    """The same of scores rounded to float16."""
    made = list(halves())
    rows = []
    for target in targets:
        for n in sizes:
            given = bounds(n, target)
            found = [(*coverage(weights, given), name) for name, weights in made]
            rows.append(_row(n, target, given, found))
    return rows


def hunted(n: int, target: float, tries: int, seed: int) -> dict[str, Any]:
    """The least coverage that a random search finds: it moves the rates of 2 to 8 values."""
    given, random = bounds(n, target), np.random.default_rng(seed)
    found = []
    for turn in range(tries):
        if turn % 50 == 0:  # begin anew, near the rate that gamma usually keeps
            cuts = random.beta(len(given.low) + 0.5, n + 1, int(random.integers(1, 8)))
            kept = (0.0, 0.0)
            trial = np.sort(cuts)
        else:
            trial = np.sort(np.clip(cuts * np.exp(random.normal(0, 0.1, len(cuts))), 0, 1))
        weights = np.diff(trial, prepend=0, append=1)
        fails = coverage(weights, given)
        if turn % 50 == 0 or sum(fails) > sum(kept):
            cuts, kept = trial, fails
            found.append((*fails, f"{len(weights)} values, weights {np.round(weights, 4).tolist()}"))
    return _row(n, target, given, found) | {"distributions": tries}


def drawn(n: int, target: float, weights: Floats, repeats: int, seed: int) -> float:
    """How often the interval holds in draws that go through ``calibrate``."""
    random, rates = np.random.default_rng(seed), np.cumsum(weights[::-1])[::-1]
    held = 0
    for _ in range(repeats):
        found = calibrate(random.choice(len(weights), n, p=weights).astype(float), target)
        rate = min(1.0, rates[int(found.gamma)])
        held += found.tpr_low <= rate <= found.tpr_high
    return held / repeats


def _row(n: int, target: float, given: Bounds, found: list[tuple[float, float, str]]) -> dict[str, Any]:
    low, high, name = max(found, key=lambda one: one[0] + one[1])
    return {
        "n": n,
        "target": target,
        "coverage": 1 - low - high,
        "rate_below": max(one[0] for one in found),
        "rate_above": max(one[1] for one in found),
        "of": name,
        "distributions": len(found),
        "continuous": continuous(given),
    }


def least(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the least coverage, with the most that each end ever failed."""
    row = min(rows, key=lambda one: one["coverage"])
    ends = {end: max(one[end] for one in rows) for end in ("rate_below", "rate_above")}
    return row | ends | {"distributions": sum(one["distributions"] for one in rows)}


def everything() -> dict[str, Any]:
    """All figures: the least coverage by target, of float16, of the search, and draws beside the sums."""
    found = {f"target {target}": least(worst(SIZES, [target], VALUES)) for target in TARGETS}
    found["float16"] = least(rounded(SIZES, TARGETS))
    places = [(n, target) for n in (5, 19, 20, 50, 100, 400) for target in (0.8, 0.95)]
    found["searched"] = least([hunted(n, target, 4000, n) for n, target in places])
    uniform = np.full(5, 0.2)
    checks = {}
    for n in (1, 19, 100):
        sums = coverage(uniform, bounds(n, 0.95))
        checks[f"5 values, n = {n}"] = {
            "computed": 1 - sum(sums),
            "drawn": drawn(n, 0.95, uniform, 20_000, n),
        }
    without = [continuous(bounds(n, target)) for n in SIZES for target in TARGETS]
    return {"rows": found, "checks": checks, "continuous": [min(without), max(without)]}


def main() -> int:
    """Print all figures; exit with 1 if any coverage is below what is promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    found = everything()
    for name, row in found["rows"].items():
        print(
            f"{name}: coverage of {row['distributions']:,} at least {row['coverage']:.4f} "
            f"(n = {row['n']}, {row['of']}); below {row['rate_below']:.4f}, above {row['rate_above']:.4f}"
        )
    for name, row in found["checks"].items():
        print(f"{name}: computed {row['computed']:.4f}, drawn {row['drawn']:.4f}")
    print("without ties: {:.4f} to {:.4f}".format(*found["continuous"]))
    if given.record:
        record("interval-coverage", "coverage of the interval of the realised true-positive rate", **found)
    return int(any(row["coverage"] < PROMISED - 1e-9 for row in found["rows"].values()))


if __name__ == "__main__":
    sys.exit(main())
