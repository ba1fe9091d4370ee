"""Means and covariances of labelled training features, regularised where rows are few."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from lsncli.errors import LsnError
from lsncli.scores.common import CHUNK, above_rounding
from lsncli.types import Float64Array, FloatArray, Labels, Rows, unit

Space = Literal["unit", "raw"]
"""Features of length one, or as the model gives them."""

LEAST = 1e-3
"""The least weight of the identity where a covariance is regularised."""


def in_space(features: FloatArray, space: Space) -> Float64Array:
    """Return raw ``features`` (N, D) in float64: of length one, or as they are."""
    return unit(features) if space == "unit" else np.asarray(features, dtype=np.float64)


def class_means(rows: Rows, classes: int, space: Space = "unit") -> tuple[Float64Array, Float64Array]:
    """Return the mean of each class (C, D), of which none is empty, and of all ``rows`` (D,)."""
    sums = np.zeros((classes, rows.features.shape[1]))
    for part, labels in _chunks(rows, space):
        np.add.at(sums, labels, part)
    counts = np.bincount(rows.labels, minlength=classes)
    return sums / counts[:, None], sums.sum(axis=0) / len(rows)


def whitening(
    name: str, rows: Rows, around: Float64Array, space: Space = "unit", *, hint: str
) -> Float64Array:
    """Return A (D, D) with A A^T = Sigma^-1, Sigma the covariance of ``rows`` about ``around`` (C, D).

    ``around`` has the centre of each class. Sigma is regularised as Ledoit and Wolf do (2004) where it is
    rank-deficient, or where there are fewer than C + 2 D rows: see ``scores.mahalanobis``. Raises LsnError
    with ``hint`` for the score ``name`` if no row differs from the centre of its class.
    """
    moment = np.zeros((around.shape[1], around.shape[1]))
    fourth = size = 0.0
    for part, labels in _chunks(rows, space):
        size += float((part**2).sum())
        part = part - around[labels]
        moment += part.T @ part
        fourth += float(((part**2).sum(axis=1) ** 2).sum())
    values, vectors = np.linalg.eigh(moment / len(rows))  # smallest first
    if values[-1] <= len(values) * np.finfo(float).eps * size / len(rows):  # rounding, and no spread
        raise LsnError(
            f"The score '{name}' needs rows of a class that differ, found {len(rows)} that do not.", hint
        )
    if len(rows) < len(around) + 2 * len(values) or not above_rounding(values)[0]:
        values = _shrunk(values, fourth / len(rows), len(rows))
    inverse_root: Float64Array = vectors / np.sqrt(values)
    return inverse_root


def _chunks(rows: Rows, space: Space) -> Iterator[tuple[Float64Array, Labels]]:
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        yield in_space(rows.features[part], space), rows.labels[part]


def _shrunk(values: Float64Array, fourth: float, rows: int) -> Float64Array:
    """Shrink eigenvalues (D,) by Ledoit and Wolf for ``rows`` rows x; ``fourth`` is the mean ||x||^4."""
    mean, energy = values.mean(), (values**2).sum()
    noise = (fourth - energy) / rows  # expected squared error of the covariance, and
    spread = energy - len(values) * mean**2  # its squared distance from a multiple of the identity
    weight = float(np.clip(noise / spread, LEAST, 1.0)) if spread > 0 else 1.0
    shrunk: Float64Array = (1 - weight) * values + weight * mean
    return shrunk
