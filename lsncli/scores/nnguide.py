"""NNGuide: the energy of the logits, guided by the nearest confident training images."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import UsageError
from lsncli.scores.common import CHUNK, log_sum_exp, logits, positive, training_rows
from lsncli.scores.neighbours import check_neighbours, neighbour_scorer
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows


@dataclass(frozen=True)
class NnGuide(Score):
    """S(x) = E(x) * mean_b(E(b) cos(x, b)), b the k training features with the largest E(b) cos(x, b).

    Formula: guidance times energy E(x) = logsumexp(l(x)), l = W x + b the logits of unit features x;
    higher = more ID. The energy of text heads is near 100 times the largest cosine, above zero. A linear
    probe's may be negative; as published, nothing guards the sign, and the product of two negative energies
    counts as ID.

    ``fraction`` of the training rows is the bank (OpenOOD: alpha = 0.01 with k = 100): rows at even
    distances instead of a random draw, so that rows stored class by class give every class its share.

    Paper: Park et al., Nearest neighbor guidance for out-of-distribution detection, ICCV 2023.
    Source: github.com/roomo7time/nnguide, ood_detectors/nnguide.py, on unit features, too.
    Default: k = 10 and all training rows, theirs.
    """

    k: int = 10
    fraction: float = 1.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train"})

    def __post_init__(self) -> None:
        positive(k=self.k, fraction=self.fraction)
        if self.fraction > 1:
            raise UsageError(f"The setting 'fraction' must be at most 1, found {self.fraction}.")

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return the bank, float16 as stored, and the energies of its rows, "energy" (M,).

        Raises LsnError without training rows, or if the bank has fewer than ``k``.
        """
        dim = head.weights.shape[1] if isinstance(head.weights, np.ndarray) else None
        features = training_rows(train, "nnguide", dim).features
        if self.fraction < 1:
            count = max(1, round(self.fraction * len(features)))
            features = features[np.arange(count) * len(features) // count]
        check_neighbours("nnguide", self.k, len(features))
        energy = np.empty(len(features))
        for start in range(0, len(features), CHUNK):
            energy[start : start + CHUNK] = log_sum_exp(logits(head, features[start : start + CHUNK]))
        return {"bank": features, "energy": energy}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer against the bank; on CUDA the neighbours are searched there."""

        def mean(_rows: Float64Array, similarity: Float64Array, _places: NDArray[np.intp]) -> Float64Array:
            found: Float64Array = similarity.mean(axis=1)
            return found

        guidance = neighbour_scorer(learned["bank"], self.k, mean, device, learned["energy"])

        def score(features: FloatArray) -> Float64Array:
            return guidance(features) * log_sum_exp(logits(head, features))

        return score
