"""What scores are made of: checked rows, cosines, logits, and softmax extremes. All in float64."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError, UsageError
from lsncli.types import UNLABELLED, Float64Array, FloatArray, Head, Labels, Rows, unit

CHUNK = 8192
"""Rows at a time, where a score goes through training rows."""
RANK_CUTOFF = 1e-5
"""Singular values up to this fraction of the largest count as zero in every pseudo-inverse.

The class weights of a softmax head sum to zero over the classes, so its smallest singular value is rounding
error, and its inverse is noise. Measured, that value is 1e-17 to 2e-14 of the largest in float64, 1e-10 to
9e-8 where weights were float32 at any time, and up to 8e-6 in probes of few rows that were not centred. The
next smallest was 6e-4 or more, where C is about D. NumPy's default of 1e-15 is no safe cut for any of them,
and 1e-10 only for the first.
"""


def positive(**settings: float) -> None:
    """UsageError for the first setting that is not a finite number above zero."""
    for name, value in settings.items():
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"The setting '{name}' must be a finite number above 0, found {value}.")


def check_features(features: FloatArray, dim: int) -> None:
    """LsnError unless ``features`` are (N, ``dim``) and finite."""
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
    """Cosines (N, C) of raw ``features`` (N, D) with unit ``text`` (C, D)."""
    weights = np.asarray(text, dtype=np.float64)
    check_features(features, weights.shape[1])
    cosine: Float64Array = unit(features) @ weights.T
    return cosine


def positive_cosines(head: Head, features: FloatArray) -> Float64Array:
    """Cosines (N, C) of raw ``features`` (N, D) with the positive prompts. Not to be written to.

    Of a linear probe, whose scale is 1, the logits.
    """
    weights = head.weights
    found = cosines(features, weights) if isinstance(weights, np.ndarray) else weights(features)
    return found if head.bias is None else found + head.bias / head.scale


def logits(head: Head, features: FloatArray) -> Float64Array:
    """Logits (N, C) of raw ``features`` (N, D), an array of the caller's own."""
    return head.scale * positive_cosines(head, features)


def linear_layer(head: Head, name: str) -> tuple[Float64Array, Float64Array]:
    """W (C, D) and b (C,) with logits = W x + b for unit features x, which the score ``name`` needs.

    LsnError for prompts that depend on the image: they have no fixed W.
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
    """The Moore-Penrose inverse (D, C) of ``matrix`` (C, D), with ``RANK_CUTOFF``."""
    return np.asarray(np.linalg.pinv(matrix, rcond=RANK_CUTOFF), dtype=np.float64)


def above_rounding(eigenvalues: Float64Array) -> NDArray[np.bool_]:
    """Which of the ascending ``eigenvalues`` (D,) of a moment matrix are more than rounding of the largest.

    They are squares of singular values, summed in float64: rounding reaches D x 2.2e-16 of the largest.
    """
    above: NDArray[np.bool_] = eigenvalues > len(eigenvalues) * np.finfo(float).eps * eigenvalues[-1]
    return above


def training_rows(train: Rows | None, name: str, dim: int | None = None) -> Rows:
    """``train`` if there are rows, finite and of ``dim`` dimensions if that is given; LsnError otherwise."""
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
    """Training rows whose labels are classes of ``head``; LsnError if a row has none or a class no row."""
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
    """``unit_chunks`` of labelled rows, each with its labels."""
    for start, part in zip(range(0, len(rows), CHUNK), unit_chunks(rows.features), strict=True):
        yield part, rows.labels[start : start + CHUNK]


def unit_chunks(features: FloatArray) -> Iterator[Float64Array]:
    """Raw ``features`` (N, D) as unit rows in float64, ``CHUNK`` at a time; N may be a million."""
    for start in range(0, len(features), CHUNK):
        yield unit(features[start : start + CHUNK])


def negative_cosines(head: Head, features: FloatArray) -> Iterator[Float64Array]:
    """Cosines (N, C) with the negative prompts, one set after the other. Not to be written to."""
    if isinstance(head.negative, np.ndarray):
        yield from (cosines(features, text) for text in head.negative)
    elif head.negative is not None:
        yield from head.negative(features)


def check_negative(head: Head, name: str) -> None:
    """LsnError unless ``head`` has negative prompts for its classes, which the score ``name`` needs."""
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
    """The class (N,) whose positive prompt is nearest to each of the raw ``features`` (N, D)."""
    nearest: Labels = positive_cosines(head, features).argmax(axis=1).astype(np.int32)
    return nearest


def max_softmax(logits: Float64Array) -> Float64Array:
    """The largest softmax probability of each row of ``logits`` (N, C). Overwrites ``logits``."""
    logits -= logits.max(axis=1, keepdims=True)
    largest: Float64Array = 1.0 / np.exp(logits, out=logits).sum(axis=1)
    return largest


def min_softmax(logits: Float64Array) -> Float64Array:
    """The smallest softmax probability of each row of ``logits`` (N, C). Overwrites ``logits``."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    smallest: Float64Array = logits.min(axis=1) / logits.sum(axis=1)
    return smallest


def log_sum_exp(logits: Float64Array) -> Float64Array:
    """log sum exp of each row of ``logits`` (N, C). Overwrites ``logits``."""
    top = logits.max(axis=1)
    logits -= top[:, None]
    total: Float64Array = top + np.log(np.exp(logits, out=logits).sum(axis=1))
    return total
