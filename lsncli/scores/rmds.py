"""Relative Mahalanobis: the distance to the nearest class mean less the distance to the mean of all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.common import check_features, labelled_rows
from lsncli.scores.covariance import Space, class_means, in_space, nearest_mean, whitening
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows


@dataclass(frozen=True)
class Rmds(Score):
    """Mahalanobis distance to the nearest class, compared with that to all classes at once; higher = more ID.

    Formula: S(x) = -min_c (d_c(x) - d_0(x)), d_c(x) = (x - mu_c)^T Sigma^-1 (x - mu_c) the distance of
    ``mahalanobis`` under the covariance within classes, d_0(x) = (x - m)^T Sigma_0^-1 (x - m) that from the
    mean m of all rows under the covariance of all rows. What makes an image unusual among all classes
    cancels. The classes are those of the labels; the prompts do not matter. Both covariances are regularised
    where rows are few, as in ``mahalanobis``.

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
        """Learn "centre" m (D,), "within" A and "total" B (D, D) with A A^T = Sigma^-1, and "means" (C, D).

        The means are (mu_c - m) A. Raises LsnError without labelled training rows of every class, and if no
        two rows of a class differ.
        """
        rows = labelled_rows(head, train, "rmds")
        means, centre = class_means(rows, len(head.classes), self.space)
        hint = "Use more than one training image a class."
        within = whitening("rmds", rows, means, self.space, hint=hint)
        total = whitening("rmds", rows, np.broadcast_to(centre, means.shape), self.space, hint=hint)
        return {"centre": centre, "within": within, "total": total, "means": (means - centre) @ within}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the learned means."""
        centre, within, total, means = (learned[key] for key in ("centre", "within", "total", "means"))

        def score(features: FloatArray) -> Float64Array:
            check_features(features, len(centre))
            about = in_space(features, self.space) - centre
            background: Float64Array = ((about @ total) ** 2).sum(axis=1)
            return background - nearest_mean(about @ within, means)

        return score
