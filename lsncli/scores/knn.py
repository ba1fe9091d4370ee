"""KNN: the distance to the k-th nearest training image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lsncli.scores.common import positive, training_rows
from lsncli.scores.neighbours import check_neighbours, neighbour_scorer
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, Head, LearnedArrays, Rows, unit


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
    PROMPTS: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive(k=self.k)

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return the bank: ``train.features`` unchanged, float16 stays float16.

        Raises LsnError without training rows, or with fewer than ``k``.
        """
        dim = head.weights.shape[1] if isinstance(head.weights, np.ndarray) else None
        train = training_rows(train, "knn", dim)
        check_neighbours("knn", self.k, len(train))
        return {"bank": train.features}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer against the bank; on CUDA the neighbours are searched there."""
        bank = learned["bank"]

        def distance(rows: Float64Array, cosine: Float64Array, indices: NDArray[np.intp]) -> Float64Array:
            farthest = np.take_along_axis(indices, cosine.argmin(axis=1)[:, None], axis=1)[:, 0]
            found: Float64Array = -np.linalg.norm(rows - unit(bank[farthest]), axis=1)
            return found

        return neighbour_scorer(bank, self.k, distance, device)
