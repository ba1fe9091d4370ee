"""Mahalanobis: the distance to the nearest class mean under a covariance that all classes share."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lsncli.errors import LsnError
from lsncli.scores.common import above_rounding, check_features, labelled_chunks, labelled_rows
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit

LEAST = 1e-3
"""The least weight of the identity where a covariance is regularised."""


@dataclass(frozen=True)
class Mahalanobis(Score):
    """S(x) = -min_c (x - mu_c)^T Sigma^-1 (x - mu_c), mu_c the mean of class c; higher = more ID, <= 0.

    Formula: x unit CLIP features (published for raw activations of several layers), Sigma the mean over
    training features of (x - m)(x - m)^T: with covariance "within" m is the mean of the row's class, with
    "total", as in MCM's repository, the mean of all rows. The classes are those of the labels; the prompts do
    not matter.

    Where Sigma is rank-deficient (its smallest eigenvalue is rounding, D x 2.2e-16 of the largest, or less),
    and with fewer than C + 2 D rows, where its inverse is mostly noise, Sigma is regularised: it becomes
    (1 - w) Sigma + w tr(Sigma)/D I with Ledoit and Wolf's w (2004), at least 0.001. No pseudo-inverse is
    taken: that would ignore the directions without training data, in which an OOD image stands out most.
    Anywhere else Sigma is inverted as it is.

    Paper: Lee et al., A simple unified framework for detecting out-of-distribution samples and adversarial
    attacks, NeurIPS 2018.
    Source: github.com/pokaxpoka/deep_Mahalanobis_detector; on CLIP, github.com/deeplearning-wisc/MCM.
    Default: covariance "within", as in the paper; no input perturbation, no ensemble of layers.
    """

    covariance: Literal["within", "total"] = "within"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels"})
    PROMPTS: ClassVar[bool] = False

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Learn "centre" m (D,), "whitening" A (D, D) with A A^T = Sigma^-1, "means" (mu_c - m) A (C, D).

        Raises LsnError without labelled training rows of every class, and if no two rows of a class
        (for "total": no two rows) differ.
        """
        rows = labelled_rows(head, train, "mahalanobis")
        counts = np.bincount(rows.labels, minlength=len(head.classes))
        sums = np.zeros((len(counts), rows.features.shape[1]))
        for part, labels in labelled_chunks(rows):
            np.add.at(sums, labels, part)
        means, centre = sums / counts[:, None], sums.sum(axis=0) / len(rows)
        around = means if self.covariance == "within" else np.broadcast_to(centre, means.shape)
        moment = np.zeros((len(centre), len(centre)))
        fourth = 0.0
        for part, labels in labelled_chunks(rows):
            part -= around[labels]
            moment += part.T @ part
            fourth += float(((part**2).sum(axis=1) ** 2).sum())
        values, vectors = np.linalg.eigh(moment / len(rows))  # smallest first
        if values[-1] <= len(values) * np.finfo(float).eps:  # of unit rows: rounding, and no spread
            raise LsnError(
                f"The score 'mahalanobis' needs rows of a class that differ, found {len(rows)} that do not.",
                "Use more than one training image a class, or covariance=total.",
            )
        if len(rows) < len(counts) + 2 * len(values) or not above_rounding(values)[0]:
            values = _shrunk(values, fourth / len(rows), len(rows))
        whitening = vectors / np.sqrt(values)
        return {"centre": centre, "whitening": whitening, "means": (means - centre) @ whitening}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the learned means; as many distances at a time as there are classes."""
        centre, whitening, means = learned["centre"], learned["whitening"], learned["means"]
        squares = (means**2).sum(axis=1)

        def score(features: FloatArray) -> Float64Array:
            check_features(features, len(centre))
            white = (unit(features) - centre) @ whitening
            nearest = (squares - 2 * (white @ means.T)).argmin(axis=1)
            distance: Float64Array = ((white - means[nearest]) ** 2).sum(axis=1)
            return -distance

        return score


def _shrunk(values: Float64Array, fourth: float, rows: int) -> Float64Array:
    """Shrink eigenvalues (D,) by Ledoit and Wolf for ``rows`` rows x; ``fourth`` is the mean ||x||^4."""
    mean, energy = values.mean(), (values**2).sum()
    noise = (fourth - energy) / rows  # expected squared error of the covariance, and
    spread = energy - len(values) * mean**2  # its squared distance from a multiple of the identity
    weight = float(np.clip(noise / spread, LEAST, 1.0)) if spread > 0 else 1.0
    shrunk: Float64Array = (1 - weight) * values + weight * mean
    return shrunk
