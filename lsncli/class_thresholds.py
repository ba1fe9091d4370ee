"""A threshold and p-values for each predicted class, from the held-out ID scores of that class.

This is Mondrian conformal prediction by the *predicted* class: the true class of a new image is not known, so
that no rule can depend on it. Scores are (N,), higher = more ID; classes are indices from 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lsncli.threshold import (
    ROUNDING,
    WIDE,
    kept_ranks,
    kept_scores,
    p_values,
    rank_of,
    rate_interval,
    score_of,
)
from lsncli.types import Float64Array, Labels

LEAST = 20
"""The fewest held-out images with which a class has a threshold of its own."""
MOST_KEPT = 1000
"""The most held-out scores that are kept of a class: 8 kB, and p-values to 0.1 %."""


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Held-out ID scores by predicted class.

    ``scores`` holds ascending ones of each class, at most ``MOST_KEPT``, of ``counts`` held-out images.
    """

    scores: tuple[Float64Array, ...]
    counts: tuple[int, ...]


def scores_by_class(scores: Float64Array, predicted: Labels, classes: int) -> ClassScores:
    """Return the held-out ID ``scores`` (N,) of images of the ``predicted`` classes (N,)."""
    parts = [scores[predicted == label] for label in range(classes)]
    return ClassScores(
        tuple(kept_scores(part, MOST_KEPT) if len(part) else np.empty(0) for part in parts),
        tuple(len(part) for part in parts),
    )


def rows_needed(target_tpr: float) -> int:
    """Return the fewest held-out images of a class with a threshold of its own, for this target.

    With fewer than 1 / (1 - target) - 1 images no score could be rejected.
    """
    return max(LEAST, math.ceil(1 / (1 - target_tpr) * (1 - ROUNDING)) - 1)


@dataclass(frozen=True, eq=False)
class Group:
    """The held-out images that one or several classes share: ``scores`` ascending, kept of ``count``."""

    scores: Float64Array
    count: int
    gamma: float
    tpr_low: float
    tpr_high: float


@dataclass(frozen=True, eq=False)
class ClassThresholds:
    """An image is ID if and only if its score is at least the gamma of its predicted class.

    Of new ID images that are predicted as a class with a threshold of its own, at least the target TPR are
    expected to be kept, over calibrations. A class with fewer than ``needed`` held-out images borrows: these
    classes share one threshold, so that this holds for them only together. If all their images are fewer than
    ``needed``, too, they take those of all classes: nothing is promised for them, and their p-values need not
    be valid.
    """

    groups: tuple[Group, ...]
    """The last is that of the classes that borrow, if any do."""
    group_of: NDArray[np.int64]
    """The index of the group of each class, (C,)."""
    borrowing: tuple[int, ...]
    """The classes that borrow."""
    from_all: bool
    """Whether they borrow from all classes."""
    needed: int

    @cached_property
    def gammas(self) -> Float64Array:
        """The gamma of each class, (C,)."""
        return np.array([group.gamma for group in self.groups])[self.group_of]

    def group(self, label: int) -> Group:
        """Return the held-out images of a class."""
        return self.groups[int(self.group_of[label])]

    def p_values(self, scores: Float64Array, predicted: Labels) -> Float64Array:
        """Return the p-values of ``scores`` (N,) among held-out images of the ``predicted`` classes (N,)."""
        found = np.empty(len(scores))
        groups = self.group_of[predicted]
        for index in np.unique(groups):
            rows = groups == index
            found[rows] = p_values(scores[rows], self.groups[index].scores)
        return found

    def cutoffs(self, p_value: float) -> Float64Array:
        """Return the score of each class below which p-values are at most ``p_value``, as ``score_of``."""
        return np.array([score_of(p_value, group.scores) for group in self.groups])[self.group_of]

    @property
    def most_kept(self) -> float:
        """The upper end of the interval of the TPR, the highest of all classes."""
        return max(group.tpr_high for group in self.groups)

    @property
    def doubt(self) -> str:
        """A sentence if a class has too few images for a narrow interval, else an empty string."""
        widest = max(self.groups, key=lambda group: group.tpr_high - group.tpr_low)
        if widest.tpr_high - widest.tpr_low <= WIDE:
            return ""
        return (
            f"{widest.count} held-out images are few for the threshold of a class: of its new ID images "
            f"anything from {widest.tpr_low:.0%} to {widest.tpr_high:.0%} may be kept."
        )


def class_thresholds(held: ClassScores, every: Group, target_tpr: float, margin: float) -> ClassThresholds:
    """Return a threshold for each class that keeps ``target_tpr``.

    Gamma of a class with n held-out images is the score of rank floor((1 - target) (n + 1)) among them, minus
    ``margin``: at most this share of new ID images of the class scores lower, on average over calibrations.
    ``every`` are the held-out images of all classes.
    """
    needed = rows_needed(target_tpr)
    own = [label for label, scores in enumerate(held.scores) if len(scores) >= needed]
    borrowing = tuple(sorted({*range(len(held.scores))} - {*own}))
    groups = [_group(held.scores[label], held.counts[label], target_tpr, margin) for label in own]
    group_of = np.full(len(held.scores), len(own), dtype=np.int64)
    group_of[own] = np.arange(len(own))
    shared = [held.scores[label] for label in borrowing]
    count = sum(map(len, shared))
    # Scores of which some are left out cannot be mixed with others: they would count for too little.
    whole = count == sum(held.counts[label] for label in borrowing)
    from_all = not (whole and count >= needed)
    if borrowing:
        groups.append(
            every if from_all else _group(np.sort(np.concatenate(shared)), count, target_tpr, margin)
        )
    return ClassThresholds(tuple(groups), group_of, borrowing, bool(borrowing) and from_all, needed)


def _group(scores: Float64Array, count: int, target_tpr: float, margin: float) -> Group:
    """Return a group with its gamma and the interval of its TPR."""
    rank, ranks = rank_of(1 - target_tpr, len(scores)), kept_ranks(count, len(scores))
    gamma = float(scores[rank - 1])
    lower = int(np.searchsorted(scores, gamma, side="left"))
    kept = count - int(ranks[rank - 1]) + 1
    low, high = rate_interval(count, kept, below=int(ranks[lower - 1]) if lower else 0)
    return Group(scores, count, gamma - margin, low, high)


def rejected_share(held: ClassScores, gammas: Sequence[float] | Float64Array) -> float:
    """Return the share of the held-out images that score below the ``gammas`` of their classes."""
    counts = np.array(held.counts)
    below = [
        float(np.mean(part < gamma)) if len(part) else 0.0
        for part, gamma in zip(held.scores, gammas, strict=True)
    ]
    return float(np.dot(below, counts) / counts.sum())
