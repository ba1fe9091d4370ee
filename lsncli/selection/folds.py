"""Classes to leave out: the folds of the near axis, and the rows to fit on and to compare on.

The rows that set gamma (``methods.holdout``) belong to neither: a selection never reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.store.format import Split
from lsncli.types import UNLABELLED, Float64Array, FloatArray, Labels, unit

FEWEST_CLASSES = 6
"""Fewer classes give too few differences between methods to compare."""
MOST_FOLDS = 5
SELECT = 1 / 3
"""Fraction of the training rows of a class that methods are compared on; they are fitted to the others."""
MOST_ROWS = 20_000
"""The most rows of a split that are used; a comparison by hundreds of rows a class is precise enough."""
KINDS = ("random", "sibling", "cluster")
"""Kinds of folds: classes at random, classes whose siblings stay, and classes with their siblings."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Classes that are left out together, by their number, in ascending order."""

    kind: str
    held_out: tuple[int, ...]


def make_folds(features: FloatArray, seed: int = 0) -> tuple[Fold, ...]:
    """Return folds of each kind in ``KINDS``; those of a kind leave out each class once.

    ``features`` (C, D) describe the classes: their text features, or means of their images. In the order of
    the leaves of average linkage on cosines, similar classes are neighbours. ``cluster`` folds are pieces of
    this order, and ``sibling`` folds take every K-th class of it. There are five folds of a kind, or C // 2
    for fewer than ten classes. Raises LsnError for fewer than six classes.
    """
    count = len(features)
    if count < FEWEST_CLASSES:
        raise LsnError(
            f"Leaving out classes needs at least {FEWEST_CLASSES} classes, found {count}.",
            "Use a default, such as `lsn calibrate --method mcm`, or extract images of more classes.",
        )
    folds = min(MOST_FOLDS, count // 2)
    shuffled = np.random.default_rng(seed).permutation(count)
    order = leaf_order(features)
    parts = {
        "random": [shuffled[start::folds] for start in range(folds)],
        "sibling": [order[start::folds] for start in range(folds)],
        "cluster": np.array_split(order, folds),
    }
    return tuple(Fold(kind, tuple(sorted(map(int, part)))) for kind in KINDS for part in parts[kind])


def leaf_order(features: FloatArray) -> Indices:
    """Return the classes (C,) in an order in which those with similar ``features`` (C, D) are neighbours."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    rows = unit(features)
    distance = np.clip(1 - (rows @ rows.T)[np.triu_indices(len(rows), 1)], 0, None)
    return np.asarray(leaves_list(linkage(distance, "average", optimal_ordering=True)), dtype=np.int64)


@dataclass(frozen=True)
class Parts:
    """Two disjoint sets of rows of a split, by their index in it: to fit on and to compare on."""

    fit: Indices
    select: Indices


def divide(where: Indices, labels: Labels, *, most: int = MOST_ROWS, seed: int = 0) -> Parts:
    """Divide the training rows ``where`` (N,) of a split with ``labels``, class by class.

    ``SELECT`` of a class, at least one row of two, is for comparing; the rest, at least one row, for fitting.
    Unlabelled rows are in neither part. Of more than ``most`` rows, as many of each class are drawn. Raises
    LsnError if no row is left to compare on.
    """
    classes = np.unique(labels[where])
    each = len(where) if len(where) <= most else max(2, most // len(classes))
    fit: list[int] = []
    select: list[int] = []
    for label in classes[classes != UNLABELLED]:
        order = np.random.default_rng([seed, label]).permutation(where[labels[where] == label])[:each]
        count = min(len(order) - 1, max(1, round(SELECT * len(order))))
        select += order[:count].tolist()
        fit += order[count:].tolist()
    if not select:
        raise LsnError(
            "Comparing methods needs at least two training images of a class, found one.",
            "Extract more images of each class.",
        )
    return Parts(np.sort(np.array(fit, dtype=np.int64)), np.sort(np.array(select, dtype=np.int64)))


def take(split: Split, rows: Indices, classes: Sequence[int], name: str) -> Split:
    """Return ``rows`` of ``split`` as a split of the ``classes`` with these numbers.

    Rows of other classes become unlabelled.
    """
    lookup = np.full(len(split.classes) + 1, UNLABELLED, dtype=np.int32)
    lookup[list(classes)] = np.arange(len(classes), dtype=np.int32)
    return replace(
        split,
        name=name,
        features=split.features[rows],
        labels=lookup[split.labels[rows]],
        keys=[split.keys[row] for row in rows],
        classes=tuple(split.classes[label] for label in classes),
        failures=(),
    )


def class_means(split: Split, rows: Indices) -> Float64Array:
    """Return the unit mean (C, D) of the unit features of ``rows`` of each class; zero without rows."""
    sums = np.zeros((len(split.classes), split.features.shape[1]))
    labels = split.labels[rows]
    np.add.at(sums, labels, unit(split.features[rows]))
    return unit(sums)
