"""Ensemble: the mean rank of several scores among ID images."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError, UsageError
from lsncli.scores.common import labelled_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, Labels, LearnedArrays, Rows

RANKS = "ranks"
EVERY = 5
"""Each fifth training row of a class is kept from fitting, to rank scores by."""
POSSIBLE = frozenset({"train", "labels", "weights"})
"""What a score of an ensemble may need."""


@dataclass(frozen=True)
class Ensemble(Score):
    """The mean rank of an image by several scores, among training images; higher = more ID, in (0, 1].

    Formula: S(x) = 1/m sum_i p_i, p_i = (1 + k_i) / (n + 1) by the i-th of m scores, k_i the number of n
    training images that score as low as x or lower. They are each fifth of every class, and the scores learn
    from the others. p_i is a conformal p-value, so scores of any scale count equally. Images that score lower
    than all n tie. Scores have their default settings and the head of the ensemble; those
    that need negative prompts, words, candidate labels or images are refused.

    Paper: Magesh et al., Principled out-of-distribution detection via multiple testing, JMLR 2023, combine
    conformal p-values of several scores by multiple testing; here they are averaged.
    Source: github.com/yzhao062/pyod, models/combination.py, averages standardised scores.
    Default: mcm+energy+mahalanobis, one score each of a softmax, of logits and of features. No OOD image was
    used to choose them.
    """

    scores: str = "mcm+energy+mahalanobis"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels"})

    def __post_init__(self) -> None:
        if len(set(self.scores.split("+"))) < 2:
            raise UsageError(
                f"The setting 'scores' must name two scores or more, found '{self.scores}'.",
                "Such as ensemble,scores=mcm+energy.",
            )

    def components(self) -> dict[str, Score]:
        """Return the scores by name. Raises UsageError for an unknown name, or a score that is refused."""
        from lsncli.scores import load_score  # the registry, which imports this module's class by name

        found = {name: load_score(name) for name in dict.fromkeys(self.scores.split("+"))}
        for name, score in found.items():
            if isinstance(score, Ensemble) or score.inputs() or not score.NEEDS <= POSSIBLE:
                raise UsageError(
                    f"The score '{name}' cannot be part of an ensemble: it needs more than features, prompts "
                    "and training rows.",
                    "Name others, such as ensemble,scores=mcm+energy+knn.",
                )
        return found

    def code(self) -> tuple[type[Score], ...]:
        """Return the classes that the score depends on; see ``Score.code``."""
        return type(self), *(type(score) for score in self.components().values())

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Learn each score from four fifths of the rows, and its sorted scores of the others.

        The arrays of a score have its name in front. Raises LsnError as the scores do, and if no class has
        two rows.
        """
        rows = labelled_rows(head, train, "ensemble")
        kept = held_out_rows(rows.labels)
        if not kept.any():
            raise LsnError(
                "The score 'ensemble' needs two training rows of a class or more, one of them to rank by.",
                "Extract more images.",
            )
        fitted = Rows(rows.features[~kept], rows.labels[~kept])
        learned: LearnedArrays = {}
        for name, score in self.components().items():
            own = score.fit(head, fitted, device)
            ranks = np.sort(score.scorer(head, own, device)(rows.features[kept]))
            learned |= {f"{name}.{key}": array for key, array in (own | {RANKS: ranks}).items()}
        return learned

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``. Raises as the scorers of the scores do."""
        scorers: list[tuple[Scorer, Float64Array]] = []
        for name, score in self.components().items():
            start = f"{name}."
            own = {key.removeprefix(start): array for key, array in learned.items() if key.startswith(start)}
            ranks = own.pop(RANKS)
            scorers.append((score.scorer(head, own, device), ranks))

        def score_of(features: FloatArray) -> Float64Array:
            total = np.zeros(len(features))
            for scorer, ranks in scorers:
                total += (1 + np.searchsorted(ranks, scorer(features), side="right")) / (len(ranks) + 1)
            return total / len(scorers)

        return score_of


def held_out_rows(labels: Labels) -> NDArray[np.bool_]:
    """Return a mask (N,) of each fifth row of every class, from its second one on."""
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[1::EVERY]] = True
    return mask
