"""Mahalanobis: the distance to the nearest class mean under a covariance that all classes share."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lsncli.scores.common import check_features, labelled_rows
from lsncli.scores.covariance import Space, class_means, in_space, whitening
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows


@dataclass(frozen=True)
class Mahalanobis(Score):
    """S(x) = -min_c (x - mu_c)^T Sigma^-1 (x - mu_c), mu_c the mean of class c; higher = more ID, <= 0.

    Formula: x are *unit* CLIP features. This is the score known as Mahalanobis++ (Mueller and Hein,
    Mahalanobis++: improving OOD detection via feature normalization, ICML 2025,
    github.com/mueller-mp/maha-norm). With space "raw" x are features as the model gives them, as first
    published, of several layers there. Sigma is the mean over training features of (x - m)(x - m)^T: with
    covariance "within" m is the mean of the row's class, with "total", as in MCM's repository, the mean of
    all rows. The classes are those of the labels; the prompts do not matter.

    Where Sigma is rank-deficient (its smallest eigenvalue is rounding, D x 2.2e-16 of the largest, or less),
    and with fewer than C + 2 D rows, where its inverse is mostly noise, Sigma is regularised: it becomes
    (1 - w) Sigma + w tr(Sigma)/D I with Ledoit and Wolf's w (2004), at least 0.001. No pseudo-inverse is
    taken: that would ignore the directions without training data, in which an OOD image stands out most.
    Anywhere else Sigma is inverted as it is.

    Paper: Lee et al., A simple unified framework for detecting out-of-distribution samples and adversarial
    attacks, NeurIPS 2018.
    Source: github.com/pokaxpoka/deep_Mahalanobis_detector; on CLIP, github.com/deeplearning-wisc/MCM.
    Default: covariance "within", as in the paper; space "unit", that of Mahalanobis++; no input perturbation,
    no ensemble of layers.
    """

    covariance: Literal["within", "total"] = "within"
    space: Space = "unit"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels"})
    PROMPTS: ClassVar[bool] = False

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Learn "centre" m (D,), "whitening" A (D, D) with A A^T = Sigma^-1, "means" (mu_c - m) A (C, D).

        Raises LsnError without labelled training rows of every class, and if no two rows of a class
        (for "total": no two rows) differ.
        """
        rows = labelled_rows(head, train, "mahalanobis")
        means, centre = class_means(rows, len(head.classes), self.space)
        around = means if self.covariance == "within" else np.broadcast_to(centre, means.shape)
        hint = "Use more than one training image a class, or covariance=total."
        white = whitening("mahalanobis", rows, around, self.space, hint=hint)
        return {"centre": centre, "whitening": white, "means": (means - centre) @ white}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the learned means; as many distances at a time as there are classes."""
        centre, white, means = learned["centre"], learned["whitening"], learned["means"]
        squares = (means**2).sum(axis=1)

        def score(features: FloatArray) -> Float64Array:
            check_features(features, len(centre))
            rows = (in_space(features, self.space) - centre) @ white
            nearest = (squares - 2 * (rows @ means.T)).argmin(axis=1)
            distance: Float64Array = ((rows - means[nearest]) ** 2).sum(axis=1)
            return -distance

        return score
