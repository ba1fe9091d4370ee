"""KL matching: how far the class probabilities are from those that are typical of a predicted class."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.common import CHUNK, logits, training_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows

LEAST = 1e-300
"""The least typical probability: what underflows to zero counts as this, so that every score is finite."""


@dataclass(frozen=True)
class Klm(Score):
    """Divergence of the class probabilities from the nearest typical ones; higher = more ID, <= 0.

    Formula: S(x) = -min_k sum_c p_c log(p_c / q_kc), p the softmax of the logits of x, q_k its mean over the
    training rows that are predicted as class k. A class that no row is predicted as has no q_k and is left
    out. (OpenOOD stores a one-hot q_k, whose divergence is infinite.) Labels are not used.

    The q_k are C x C numbers, 8 MB at 1,000 classes.

    Paper: Hendrycks et al., Scaling out-of-distribution detection for real-world settings, ICML 2022.
    Source: github.com/hendrycks/anomaly-seg; OpenOOD's kl_matching_postprocessor.py.
    Default: no settings. Theirs takes the means over ID validation images; here over the training rows, whose
    probabilities are too high where the head was learned from them.
    """

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train"})

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return "typical" (K, C), the q_k of the K classes that are predicted for a training row."""
        dim = head.weights.shape[1] if isinstance(head.weights, np.ndarray) else None
        rows = training_rows(train, "klm", dim)
        sums = np.zeros((len(head.classes), len(head.classes)))
        counts = np.zeros(len(head.classes), dtype=np.int64)
        for start in range(0, len(rows), CHUNK):
            logarithm = _log_softmax(head, rows.features[start : start + CHUNK])
            predicted = logarithm.argmax(axis=1)
            np.add.at(sums, predicted, np.exp(logarithm, out=logarithm))
            counts += np.bincount(predicted, minlength=len(counts))
        return {"typical": sums[counts > 0] / counts[counts > 0, None]}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the typical probabilities."""
        typical = np.log(np.maximum(learned["typical"], LEAST))

        def score(features: FloatArray) -> Float64Array:
            logarithm = _log_softmax(head, features)
            probability = np.exp(logarithm)
            nearest = (probability @ typical.T).argmax(axis=1)  # the entropy of p is the same for all k
            logarithm -= typical[nearest]
            logarithm *= probability
            divergence: Float64Array = logarithm.sum(axis=1)
            return -divergence

        return score


def _log_softmax(head: Head, features: FloatArray) -> Float64Array:
    """Return the logarithms (N, C) of the class probabilities of raw ``features`` (N, D)."""
    found = logits(head, features)
    found -= found.max(axis=1, keepdims=True)
    found -= np.log(np.exp(found).sum(axis=1, keepdims=True))
    return found
