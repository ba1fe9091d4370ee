"""Prototypes: the cosine with the nearest class mean of training images."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from lsncli.scores.common import cosines, labelled_rows, max_softmax, positive
from lsncli.scores.covariance import class_means
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class Proto(Score):
    """The cosine of an image with the nearest class mean of training images; higher = more ID.

    Formula: S(x) = max_c cos(x, mu_c), mu_c the mean of the unit features of class c. With form "softmax",
    S(x) = max_c softmax_c(cos(x, mu_c) / tau), which is ``mcm`` with images in place of texts. The classes
    are those of the labels; the prompts do not matter.

    Paper: Bitterwolf et al., In or out? Fixing ImageNet out-of-distribution detection evaluation, ICML 2023,
    as "Cosine" and, with the softmax, "RCos".
    Source: github.com/mueller-mp/maha-norm, detection_methods.py. Their means are of raw features; here every
    image counts alike, whatever the length of its feature.
    Default: form "cosine"; tau = 1, theirs, used by "softmax" alone.
    """

    form: Literal["cosine", "softmax"] = "cosine"
    tau: float = 1.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels"})
    PROMPTS: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive(tau=self.tau)

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return "prototypes" (C, D), of length one; a mean of zero stays zero.

        Raises LsnError without labelled training rows of every class.
        """
        means, _ = class_means(labelled_rows(head, train, "proto"), len(head.classes))
        return {"prototypes": unit(means)}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the prototypes."""
        prototypes = learned["prototypes"]

        def score(features: FloatArray) -> Float64Array:
            cosine = cosines(features, prototypes)
            if self.form == "softmax":
                return max_softmax(cosine / self.tau)
            largest: Float64Array = cosine.max(axis=1)
            return largest

        return score
