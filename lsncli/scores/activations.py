"""Shared parts of the scores that reshape activations: percentiles of activations, energy of a layer."""

import math

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import UsageError
from lsncli.scores.common import log_sum_exp, unit_chunks
from lsncli.types import Float64Array, FloatArray

HALF = 1 << 15
"""Bins of the histogram on each side of zero: one bin holds some 0.01 % of all activations."""


def between(least: float, most: float, **settings: float) -> None:
    """Raise UsageError for a setting that is not a number from ``least`` to ``most``, both included."""
    for name, value in settings.items():
        if not least <= value <= most:
            raise UsageError(
                f"The setting '{name}' must be a number from {least:g} to {most:g}, found {value}."
            )


def activation_percentile(features: FloatArray, percent: float) -> float:
    """Return the ``percent``-th percentile (0 to 100) of all N x D entries of unit ``features``.

    Exact, interpolated between neighbours as ``numpy.percentile`` does, in two passes over the rows: a
    histogram finds the bin that holds the two entries of that rank, the second pass keeps and sorts only the
    entries of that bin. A billion entries thus need no more memory than a chunk of rows.
    """
    counts = np.zeros(2 * HALF + 1, dtype=np.int64)
    for rows in unit_chunks(features):
        counts += np.bincount(_bins(rows).ravel(), minlength=len(counts))
    ends = counts.cumsum()
    rank = percent / 100 * float(ends[-1] - 1)
    low, high = math.floor(rank), math.ceil(rank)
    first, last = np.searchsorted(ends, [low, high], side="right")
    near = []
    for rows in unit_chunks(features):
        bins = _bins(rows)
        near.append(rows[(bins >= first) & (bins <= last)])
    entries = np.sort(np.concatenate(near))
    before = int(ends[first] - counts[first])
    below, above = float(entries[low - before]), float(entries[high - before])
    return below + (rank - low) * (above - below)


def kept_places(activations: Float64Array, percentile: float) -> NDArray[np.intp]:
    """Return the columns (N, K) of the largest entries of a row, K = D - round(D percentile / 100) >= 1."""
    dim = activations.shape[1]
    count = max(1, dim - round(dim * percentile / 100))
    return np.argpartition(activations, -count, axis=1)[:, -count:]


def whole_over_kept(activations: Float64Array, kept: Float64Array) -> Float64Array:
    """Return min(t / u, D / K) (N, 1), t the sum of |a| in a row of ``activations``, u in one of ``kept``."""
    total = np.abs(activations).sum(axis=1, keepdims=True)
    left = np.abs(kept).sum(axis=1, keepdims=True)
    most = activations.shape[1] / kept.shape[1]
    ratio: Float64Array = np.minimum(total, left * most) / np.where(left > 0, left, 1.0)
    return ratio


def layer_energy(activations: Float64Array, weights: Float64Array, bias: Float64Array) -> Float64Array:
    """Return log sum_c exp(w_c . a + b_c) (N,) of each row a of ``activations`` (N, D); w (C, D), b (C,)."""
    return log_sum_exp(activations @ weights.T + bias)


def _bins(rows: Float64Array) -> NDArray[np.int32]:
    """Return the bin of each entry, monotonic in the entries; rounding may move one just outside [-1, 1]."""
    bins: NDArray[np.int32] = ((rows.clip(-1.0, 1.0) + 1.0) * HALF).astype(np.int32)
    return bins
