"""KNN: the distance to the k-th nearest training image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.scores.common import check_features, positive, training_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64s, Floats, Head, Learned, Rows, unit

ROWS = 1024  # rows scored at a time, and
BANK = 8192  # training rows they are compared with at a time: 64 MB of similarities


@dataclass(frozen=True)
class Knn(Score):
    """S(x) = -||x - b_(k)||, b_(k) the k-th nearest training feature, all of length one; in [-2, 0].

    Formula: minus the k-th smallest Euclidean distance; higher = more ID. No class is used, so the
    prompts do not matter. Neighbours are ranked by cosine, and the distance to the k-th is then taken
    from the difference of the two vectors: 2 - 2 cos would lose half the digits near zero.

    Paper: Sun et al., Out-of-distribution detection with deep nearest neighbors, ICML 2022.
    Source: github.com/deeplearning-wisc/knn-ood.
    Default: k = 50, theirs for CIFAR; they take k = 1000 with all of ImageNet as the bank.
    """

    k: int = 50

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train"})

    def __post_init__(self) -> None:
        positive(k=self.k)

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> Learned:
        """The bank: ``train.features`` as they are, float16 stays float16.

        Raises LsnError without training rows, or with fewer than ``k``.
        """
        dim = head.weights.shape[1] if isinstance(head.weights, np.ndarray) else None
        train = training_rows(train, "knn", dim)
        if self.k > len(train):
            raise LsnError(
                f"The score 'knn' looks for k = {self.k} neighbours among only {len(train)} training rows.",
                f"Set k to {len(train)} or less, or use more training rows.",
            )
        return {"bank": train.features}

    def scorer(self, head: Head, learned: Learned, device: str = "cpu") -> Scorer:
        """The scorer against the bank."""
        bank = learned["bank"]

        def score(features: Floats) -> Float64s:
            check_features(features, bank.shape[1])
            scores = np.empty(len(features))
            for start in range(0, len(features), ROWS):
                rows = unit(features[start : start + ROWS])
                neighbours = unit(bank[_kth_neighbours(rows, bank, self.k)])
                scores[start : start + ROWS] = -np.linalg.norm(rows - neighbours, axis=1)
            return scores

        return score


def _kth_neighbours(rows: Float64s, bank: Floats, k: int) -> NDArray[np.intp]:
    """(N,) indices into ``bank`` of the training row with the ``k``-th largest cosine to each unit row."""
    best = np.empty((len(rows), 0))
    where = np.empty((len(rows), 0), dtype=np.intp)
    for start in range(0, len(bank), BANK):
        cosine = rows @ unit(bank[start : start + BANK]).T
        top = _largest(cosine, k)
        best = np.concatenate([best, np.take_along_axis(cosine, top, axis=1)], axis=1)
        where = np.concatenate([where, start + top], axis=1)
        top = _largest(best, k)
        best, where = np.take_along_axis(best, top, axis=1), np.take_along_axis(where, top, axis=1)
    return np.take_along_axis(where, best.argmin(axis=1)[:, None], axis=1)[:, 0]


def _largest(values: Float64s, k: int) -> NDArray[np.intp]:
    """(N, up to ``k``) column indices of the largest entries of each row, in no order."""
    keep = min(k, values.shape[1])
    return np.argpartition(values, -keep, axis=1)[:, -keep:]
