"""What every score shares: the protocol, checked cosines, and softmax extremes. All in float64."""

from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

import numpy as np

from lsncli.errors import LsnError, UsageError
from lsncli.types import Float64s, Floats, Head, Labels, Rows, unit

Scorer = Callable[[Floats], Float64s]
"""Raw features (N, D) to scores (N,) in float64, higher = more ID."""


class Score(Protocol):
    """A method: a frozen dataclass of its settings.

    ``NEEDS`` names what ``fit`` cannot do without, besides the text features that are always there:
    "train" (labelled or unlabelled ID training rows) and "negative" (negative prompts in the head).
    """

    NEEDS: ClassVar[frozenset[str]]

    def fit(self, head: Head, train: Rows | None) -> Scorer:
        """The scorer for these classes; raises LsnError if something in ``NEEDS`` is missing."""
        ...


def positive(**settings: float) -> None:
    """UsageError for the first setting that is not a finite number above zero."""
    for name, value in settings.items():
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"The setting '{name}' must be a finite number above 0, found {value}.")


def check_features(features: Floats, dim: int) -> None:
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


def cosines(features: Floats, text: Floats) -> Float64s:
    """Cosines (N, C) of raw ``features`` (N, D) with unit ``text`` (C, D)."""
    weights = np.asarray(text, dtype=np.float64)
    check_features(features, weights.shape[1])
    cosine: Float64s = unit(features) @ weights.T
    return cosine


def positive_cosines(head: Head, features: Floats) -> Float64s:
    """Cosines (N, C) of raw ``features`` (N, D) with the positive prompts. Not to be written to."""
    return cosines(features, head.text) if isinstance(head.text, np.ndarray) else head.text(features)


def negative_cosines(head: Head, features: Floats) -> Iterator[Float64s]:
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
    dim = head.text.shape[1] if isinstance(head.text, np.ndarray) else negative.shape[-1]
    if negative.shape[1:] != (classes, dim):
        raise LsnError(
            f"Expected negative text features of shape (K, {classes}, {dim}), found {negative.shape}.",
            "Use positive and negative prompts of the same classes and model.",
        )


def predict(head: Head, features: Floats) -> Labels:
    """The class (N,) whose positive prompt is nearest to each of the raw ``features`` (N, D)."""
    nearest: Labels = positive_cosines(head, features).argmax(axis=1).astype(np.int32)
    return nearest


def max_softmax(logits: Float64s) -> Float64s:
    """The largest softmax probability of each row of ``logits`` (N, C). Overwrites ``logits``."""
    logits -= logits.max(axis=1, keepdims=True)
    largest: Float64s = 1.0 / np.exp(logits, out=logits).sum(axis=1)
    return largest


def min_softmax(logits: Float64s) -> Float64s:
    """The smallest softmax probability of each row of ``logits`` (N, C). Overwrites ``logits``."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    smallest: Float64s = logits.min(axis=1) / logits.sum(axis=1)
    return smallest


def log_sum_exp(logits: Float64s) -> Float64s:
    """log sum exp of each row of ``logits`` (N, C). Overwrites ``logits``."""
    top = logits.max(axis=1)
    logits -= top[:, None]
    total: Float64s = top + np.log(np.exp(logits, out=logits).sum(axis=1))
    return total
