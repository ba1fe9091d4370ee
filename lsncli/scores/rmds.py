"""Relative Mahalanobis: the distance to the nearest class mean less the distance to the mean of all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.common import check_features, labelled_rows
from lsncli.scores.covariance import Space, class_means, in_space, whitening
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows


@dataclass(frozen=True)
class Rmds(Score):
    """Mahalanobis distance to the nearest class, compared with that to all classes at once; higher = more ID.

    Formula: S(x) = -min_c (d_c(x) - d_0(x)), d_c(x) = (x - mu_c)^T Sigma^-1 (x - mu_c) the distance of
    ``mahalanobis`` under the covariance within classes, d_0(x) = (x - m)^T Sigma_0^-1 (x - m) that from the
    mean m of all rows under the covariance of all rows. What makes an image unusual among all classes
    cancels. The classes are those of the labels; the prompts do not matter.

    Sigma is regularised where rows are few, as in ``mahalanobis``, and so is Sigma_0 = Sigma + B, B the
    covariance of the class means over the rows. Two covariances that are regularised each on its own would
    not cancel: Sigma_0, with the smaller weight of the identity, would be the smaller in directions without
    training data. With z and u_c whitened by Sigma, what is left is a difference in at most C - 1 directions,
    S(x) = max_c (2 z . u_c - ||u_c||^2) - z^T B' (1 + B')^-1 z, which is what is computed.

    Paper: Ren et al., A simple fix to Mahalanobis distance for improving near-OOD detection, ICML workshop
    2021.
    Source: github.com/Jingkang50/OpenOOD, openood/postprocessors/rmds_postprocessor.py.
    Default: space "unit", features of length one, the form that Mueller and Hein (ICML 2025) find better;
    "raw" is as published. No setting of theirs.
    """

    space: Space = "unit"

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels"})
    PROMPTS: ClassVar[bool] = False

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Learn "centre" m (D,), "whitening" A (D, D) with A A^T = Sigma^-1, "means" and "background".

        The means u are (mu_c - m) A (C, D), background (D, min(C, D)) is a root of B' (1 + B')^-1. Raises
        LsnError without labelled training rows of every class, and if no two rows of a class differ.
        """
        rows = labelled_rows(head, train, "rmds")
        means, centre = class_means(rows, len(head.classes), self.space)
        hint = "Use more than one training image a class."
        white = whitening("rmds", rows, means, self.space, hint=hint)
        means = (means - centre) @ white
        shares = np.bincount(rows.labels, minlength=len(means)) / len(rows)
        _, lengths, directions = np.linalg.svd(np.sqrt(shares)[:, None] * means, full_matrices=False)
        background = directions.T * (lengths / np.sqrt(1 + lengths**2))
        return {"centre": centre, "whitening": white, "means": means, "background": background}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the learned means."""
        centre, white, means, background = (
            learned[key] for key in ("centre", "whitening", "means", "background")
        )
        squares = (means**2).sum(axis=1)

        def score(features: FloatArray) -> Float64Array:
            check_features(features, len(centre))
            rows = (in_space(features, self.space) - centre) @ white
            nearest: Float64Array = (2 * (rows @ means.T) - squares).max(axis=1)
            nearest -= ((rows @ background) ** 2).sum(axis=1)
            return nearest

        return score
