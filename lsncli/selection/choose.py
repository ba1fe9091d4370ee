"""The choice of a method from its AUROC on the axes, and the evidence for it.

AUROC are fractions, higher = better. ``near`` decides which methods are worth considering, the mean of the
axes which of them is best (docs/decisions/0034).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lsncli.types import Float64Array

LEVEL = 0.95
"""The confidence in each end of an interval, so that both hold with 90 %."""
FLIPS = 4096
"""Random signs of the classes; up to twelve classes, all signs."""
FAR_ENOUGH = 0.9
"""A method below this on the far axis, and below the default there, is not chosen."""
SATURATED = 0.99
"""An axis on which half of the methods are above this is not ranked."""

WORDS = "shifted words"
"""The name of the words on the far axis, which no stored split can have."""

Verdict = Literal["chosen", "no difference", "no better", "chance"]


@dataclass(frozen=True)
class Margin:
    """A difference of AUROC and its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Compared:
    """A method, its AUROC on each axis, and its margin over the default."""

    method: str
    near: Mapping[str, float]
    """The mean over classes, by kind of fold."""
    far: Mapping[str, float]
    """By split, ``WORDS`` among them unless the model has no text."""
    far_mean: float
    """What counts of ``far``: the mean of foreign splits, else the words; NaN without either."""
    mean: float
    """The mean of the ranked axes, by which methods are compared."""
    by_class: Float64Array
    """The same mean (C,), each class in place of the mean over classes."""
    over_default: Margin
    """Margin of ``mean``; the intervals of all methods hold together."""
    why_not: str = ""
    """The reason not to choose it; empty for methods that were considered."""


@dataclass(frozen=True)
class Choice:
    """The chosen method, the second best, and all methods from the best to the worst."""

    method: str
    verdict: Verdict
    default: str
    runner_up: str
    margin: Margin
    """Of the chosen method over the runner-up; the interval is of this pair alone."""
    compared: tuple[Compared, ...]
    ranked_far: bool
    """Whether the far axis counts; not if it is saturated or missing."""

    def row(self, method: str) -> Compared:
        """Return the row of a method."""
        return next(each for each in self.compared if each.method == method)

    def best_of(self, methods: Collection[str]) -> Compared | None:
        """Return the best of some methods; None if none was compared."""
        return next((each for each in self.compared if each.method in methods), None)


def choose(
    near: Mapping[str, Float64Array],
    far: Mapping[str, Mapping[str, float]],
    kinds: Sequence[str],
    *,
    default: str,
    foreign: bool = False,
    seed: int = 0,
) -> Choice:
    """Choose a method by its AUROC on the axes.

    ``near`` maps methods, in the order of their simplicity, to AUROC (K, C) by kind of fold and class that is
    left out; ``far`` maps methods to AUROC by split, among them ``WORDS``, which do not count with
    ``foreign``. ``default`` is one of the methods.

    1. A method that is worse than the default on ``near``, or on the far axis below 90 % and below the
       default, is not considered.
    2. The best has the largest mean of the ranked axes. If the default is within one standard error of it,
       the default is kept.
    3. Of the methods within one standard error of the best, the first is chosen for which the interval of the
       margin over the default is above zero, which has a chance of 5 % among equal methods. The default is
       kept if there is none, or if on ``near`` no method is better than chance (AUROC 50 %).

    Standard errors and intervals are over classes, paired: C differences are the sample. The intervals of all
    methods hold together: the factor on the standard error is the quantile of the largest t statistic under
    random signs of the classes (Westfall and Young 1993; Romano and Wolf, Econometrica 2005).
    """
    names = list(near)
    by_class = {name: values.mean(axis=0) for name, values in near.items()}
    axis = {name: _far_axis(far.get(name, {}), foreign) for name in names}
    ranked = _ranked(axis.values())
    overall = {name: (by_class[name] + axis[name]) / 2 if ranked else by_class[name] for name in names}
    others = [name for name in names if name != default]
    gains = {name: overall[name] - overall[default] for name in others}
    factor = _factor(np.stack(list(gains.values())), seed) if gains else 0.0
    margins = {name: _margin(gain, factor) for name, gain in gains.items()}
    margins[default] = Margin(0.0, 0.0, 0.0)
    reasons = {name: _why_not(name, default, by_class, axis) for name in names}
    considered = [name for name in others if not reasons[name]]
    best = max([*considered, default], key=lambda name: (float(overall[name].mean()), name == default))
    tied = [name for name in (*considered, default) if _within_an_error(overall[best], overall[name])]
    better = [name for name in tied if margins[name].low > 0]
    verdict: Verdict = "chosen"
    if not _beats_chance(np.stack(list(by_class.values())), seed):
        verdict = "chance"
    elif best == default:
        verdict = "no better"
    elif default in tied or not better:
        verdict = "no difference"
    chosen = min(better, key=names.index) if verdict == "chosen" else default
    rest = [name for name in (*considered, default) if name != chosen] or [chosen]
    runner_up = max(rest, key=lambda name: float(overall[name].mean()))
    rows = [
        Compared(
            name,
            {kind: float(row.mean()) for kind, row in zip(kinds, near[name], strict=True)},
            far.get(name, {}),
            axis[name],
            float(overall[name].mean()),
            overall[name],
            margins[name],
            reasons[name],
        )
        for name in sorted(names, key=lambda name: -float(overall[name].mean()))
    ]
    margin = margin_between(overall[chosen], overall[runner_up], seed)
    return Choice(chosen, verdict, default, runner_up, margin, tuple(rows), ranked)


def margin_between(first: Float64Array, second: Float64Array, seed: int = 0) -> Margin:
    """Return the mean of first - second (C,) and the interval of this pair alone."""
    pair = first - second
    return _margin(pair, _factor(pair[None], seed))


def _far_axis(far: Mapping[str, float], foreign: bool) -> float:
    """Return the AUROC on the far axis, that of the words or with ``foreign`` of the others; NaN without."""
    values = [value for name, value in far.items() if not foreign or name != WORDS]
    return float(np.mean(values)) if values else float("nan")


def _ranked(values: Iterable[float]) -> bool:
    found = np.array(list(values))
    return not np.isnan(found).any() and float(np.mean(found > SATURATED)) < 0.5


def _why_not(name: str, default: str, by_class: Mapping[str, Float64Array], axis: Mapping[str, float]) -> str:
    if name == default:
        return ""
    if by_class[name].mean() < by_class[default].mean():
        return f"below {default} on classes left out"
    if axis[name] < FAR_ENOUGH and axis[name] < axis[default]:
        return f"below {FAR_ENOUGH:.0%} and {default} on the far axis"
    return ""


def _error(differences: Float64Array) -> float:
    """Return the standard error of the mean of ``differences`` (C,)."""
    return float(differences.std(ddof=1) / np.sqrt(len(differences)))


def _within_an_error(best: Float64Array, other: Float64Array) -> bool:
    difference = best - other
    return float(difference.mean()) <= _error(difference)


def _margin(differences: Float64Array, factor: float) -> Margin:
    value, half = float(differences.mean()), factor * _error(differences)
    return Margin(value, value - half, value + half)


def _beats_chance(by_class: Float64Array, seed: int) -> bool:
    """Return whether a row of ``by_class`` (M, C) has an interval above an AUROC of a half."""
    above = by_class - 0.5
    factor = _factor(above, seed)
    return any(_margin(row, factor).low > 0 for row in above)


def _factor(differences: Float64Array, seed: int) -> float:
    """Return the ``LEVEL`` quantile of the largest t statistic of the rows of ``differences`` (M, C).

    Under the hypothesis that each row is symmetric about zero, its classes may change their signs, all rows
    together.
    """
    count = differences.shape[1]
    signs = _signs(count, seed)
    means = differences @ signs.T / count
    squares = (differences**2).mean(axis=1, keepdims=True)
    errors = np.sqrt(np.maximum(squares - means**2, 0) / (count - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics = np.nan_to_num(means / errors, nan=0.0)
    return float(np.quantile(statistics.max(axis=0), LEVEL))


def _signs(count: int, seed: int) -> Float64Array:
    """Return all signs (S, ``count``), or ``FLIPS`` random ones."""
    if 2**count <= FLIPS:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        bits = np.random.default_rng(seed).integers(2, size=(FLIPS, count))
    return np.asarray(2.0 * bits - 1.0)
