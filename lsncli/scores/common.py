"""Building blocks of scores: checks of rows, cosines, logits and softmax extremes, all in float64."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError, UsageError
from lsncli.types import UNLABELLED, Float64Array, FloatArray, Head, Labels, Rows, unit

CHUNK = 8192
"""Rows of a chunk when a score reads training rows."""
VOCABULARY = "vocabulary"
"""The name in ``LearnedArrays`` of the unit text features (V, D) of words that are no class."""
RANK_CUTOFF = 1e-5
"""Singular values up to this fraction of the largest count as zero in every pseudo-inverse.

The class weights of a softmax head sum to zero over the classes, so its smallest singular value is rounding
error, and its inverse is noise. Measured, that value is 1e-17 to 2e-14 of the largest in float64, 1e-10 to
9e-8 where weights were float32 at any time, and up to 8e-6 in probes of few rows that were not centred. The
next smallest was 6e-4 or more, where C is about D. NumPy's default of 1e-15 separates them in none of these
cases, and 1e-10 only in the first.
"""


def positive(**settings: float) -> None:
    """Raise UsageError for the first setting that is not a finite number above zero."""
    for name, value in settings.items():
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"The setting '{name}' must be a finite number above 0, found {value}.")


def check_features(features: FloatArray, dim: int) -> None:
    """Raise LsnError unless ``features`` are (N, ``dim``) and finite."""
    if features.ndim != 2 or features.shape[1] != dim:
        raise LsnError(
            f"Expected features of {dim} dimensions, found an array of shape {features.shape}.",
            "Use features and prompts of the same model.",
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise LsnError(
            f"{int((~finite).sum())} of {len(features)} feature rows hold NaN or infinite values.",
            "Run `lsn store verify` to find them, then extract them again.",
        )


def cosines(features: FloatArray, text: FloatArray) -> Float64Array:
    """Return cosines (N, C) of raw ``features`` (N, D) with unit ``text`` (C, D)."""
    weights = np.asarray(text, dtype=np.float64)
    check_features(features, weights.shape[1])
    cosine: Float64Array = unit(features) @ weights.T
    return cosine


def positive_cosines(head: Head, features: FloatArray) -> Float64Array:
    """Return cosines (N, C) of raw ``features`` (N, D) with the positive prompts. Read-only.

    For a linear probe, whose scale is 1, these are the logits.
    """
    weights = head.weights
    cosine = cosines(features, weights) if isinstance(weights, np.ndarray) else weights(features)
    return cosine if head.bias is None else cosine + head.bias / head.scale


def logits(head: Head, features: FloatArray) -> Float64Array:
    """Return logits (N, C) of raw ``features`` (N, D) as a new array, which may be overwritten."""
    return head.scale * positive_cosines(head, features)


def linear_layer(head: Head, name: str) -> tuple[Float64Array, Float64Array]:
    """Return W (C, D) and b (C,) with logits = W x + b for unit features x, for the score ``name``.

    Raises LsnError for prompts that depend on the image, which have no fixed W.
    """
    if not isinstance(head.weights, np.ndarray):
        raise LsnError(
            f"The score '{name}' needs fixed weights, and CoCoOp prompts change with the image.",
            f"Take other prompts, such as {name}:hand, or learn with --learner coop.",
        )
    weights = head.scale * np.asarray(head.weights, dtype=np.float64)
    bias = np.zeros(len(weights)) if head.bias is None else np.asarray(head.bias, dtype=np.float64)
    return weights, bias


def pseudo_inverse(matrix: Float64Array) -> Float64Array:
    """Return the Moore-Penrose inverse (D, C) of ``matrix`` (C, D), with ``RANK_CUTOFF``."""
    return np.asarray(np.linalg.pinv(matrix, rcond=RANK_CUTOFF), dtype=np.float64)


def above_rounding(eigenvalues: Float64Array) -> NDArray[np.bool_]:
    """Return which ascending ``eigenvalues`` (D,) of a moment matrix exceed rounding of the largest.

    They are squares of singular values, summed in float64, so rounding reaches D x 2.2e-16 of the largest.
    """
    above: NDArray[np.bool_] = eigenvalues > len(eigenvalues) * np.finfo(float).eps * eigenvalues[-1]
    return above


def training_rows(train: Rows | None, name: str, dim: int | None = None) -> Rows:
    """Return ``train``. Raises LsnError without rows, or unless they are finite with ``dim`` dimensions."""
    if train is None or not len(train):
        raise LsnError(
            f"The score '{name}' needs ID training features.",
            "Give the store that the prompts were trained on.",
        )
    for start in range(0, len(train), CHUNK):
        part = train.features[start : start + CHUNK]
        check_features(part, part.shape[-1] if dim is None else dim)
    return train


def labelled_rows(head: Head, train: Rows | None, name: str) -> Rows:
    """Return training rows labelled with classes of ``head``.

    Raises LsnError for a row without a label or a class without rows.
    """
    dim = head.weights.shape[1] if isinstance(head.weights, np.ndarray) else None
    rows = training_rows(train, name, dim)
    counts = np.bincount(rows.labels[rows.labels != UNLABELLED], minlength=len(head.classes))
    if counts.sum() < len(rows) or len(counts) > len(head.classes):
        raise LsnError(
            f"The score '{name}' needs labels of the {len(head.classes)} classes for all {len(rows)} "
            f"training rows, found {int(counts[: len(head.classes)].sum())}.",
            "Extract the training images from one folder per class.",
        )
    if not counts.all():
        missing = head.classes[int(counts.argmin())]
        raise LsnError(f"The score '{name}' needs training rows of every class, and '{missing}' has none.")
    return rows


def labelled_chunks(rows: Rows) -> Iterator[tuple[Float64Array, Labels]]:
    """Yield ``unit_chunks`` of labelled rows, each with its labels."""
    for start, part in zip(range(0, len(rows), CHUNK), unit_chunks(rows.features), strict=True):
        yield part, rows.labels[start : start + CHUNK]


def unit_chunks(features: FloatArray) -> Iterator[Float64Array]:
    """Yield raw ``features`` (N, D) as unit rows in float64, ``CHUNK`` at a time; N may be a million."""
    for start in range(0, len(features), CHUNK):
        yield unit(features[start : start + CHUNK])


def mean_feature(rows: Rows) -> Float64Array:
    """Return the mean (D,) of the unit features of ``rows``."""
    total = np.zeros(rows.features.shape[1])
    for part in unit_chunks(rows.features):
        total += part.sum(axis=0)
    return total / len(rows)


def negative_cosines(head: Head, features: FloatArray) -> Iterator[Float64Array]:
    """Yield cosines (N, C) with each set of negative prompts. Read-only."""
    if isinstance(head.negative, np.ndarray):
        yield from (cosines(features, text) for text in head.negative)
    elif head.negative is not None:
        yield from head.negative(features)


def check_negative(head: Head, name: str) -> None:
    """Raise LsnError unless ``head`` has negative prompts of its classes, as the score ``name`` needs."""
    negative = head.negative
    if negative is None or (isinstance(negative, np.ndarray) and not len(negative)):
        raise LsnError(
            f"The score '{name}' needs negative prompts, and these prompts have none.",
            "Learn them with `lsn train-neg`, or take a score without them, such as mcm.",
        )
    if not isinstance(negative, np.ndarray):
        return
    classes = len(head.classes)
    dim = head.weights.shape[1] if isinstance(head.weights, np.ndarray) else negative.shape[-1]
    if negative.shape[1:] != (classes, dim):
        raise LsnError(
            f"Expected negative text features of shape (K, {classes}, {dim}), found {negative.shape}.",
            "Use positive and negative prompts of the same classes and model.",
        )


def predict(head: Head, features: FloatArray) -> Labels:
    """Return the predicted classes (N,) of raw ``features`` (N, D): the nearest positive prompts."""
    nearest: Labels = positive_cosines(head, features).argmax(axis=1).astype(np.int32)
    return nearest


def classify(head: Head, features: FloatArray) -> tuple[Labels, Float64Array]:
    """Return ``predict`` and the softmax probability (N,) of the predicted class at the head's scale."""
    cosine = positive_cosines(head, features)
    nearest: Labels = cosine.argmax(axis=1).astype(np.int32)
    return nearest, max_softmax(head.scale * cosine)


def max_softmax(logits: Float64Array) -> Float64Array:
    """Return the largest softmax probability of each row of ``logits`` (N, C). Overwrites ``logits``."""
    logits -= logits.max(axis=1, keepdims=True)
    largest: Float64Array = 1.0 / np.exp(logits, out=logits).sum(axis=1)
    return largest


def min_softmax(logits: Float64Array) -> Float64Array:
    """Return the smallest softmax probability of each row of ``logits`` (N, C). Overwrites ``logits``."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    smallest: Float64Array = logits.min(axis=1) / logits.sum(axis=1)
    return smallest


def log_sum_exp(logits: Float64Array) -> Float64Array:
    """Return log sum exp of each row of ``logits`` (N, C). Overwrites ``logits``."""
    top = logits.max(axis=1)
    logits -= top[:, None]
    total: Float64Array = top + np.log(np.exp(logits, out=logits).sum(axis=1))
    return total
