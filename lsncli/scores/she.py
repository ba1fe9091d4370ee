"""SHE: how well a feature fits the mean of the training images that its class got right."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.common import CHUNK, check_features, labelled_rows, predict
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class She(Score):
    """S(x) = x . p_k, p_k the stored pattern of the predicted class k; higher = more ID, in [-1, 1].

    Formula: p_c is the mean of the unit training features of class c that the head predicts as c. Unlike in
    ``proto``, k is the class that the head predicts, and p_k is not scaled to length one. A class none of
    whose training images is predicted right has the mean of all of them; as published it would be 0/0.

    Paper: Zhang et al., Out-of-distribution detection based on in-distribution data patterns memorization
    with modern Hopfield energy, ICLR 2023.
    Source: github.com/Jingkang50/OpenOOD, openood/postprocessors/she_postprocessor.py, on raw activations.
    Default: no settings; theirs is the inner product, too.
    """

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels"})

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return "patterns" (C, D). Raises LsnError without labelled training rows of every class."""
        rows = labelled_rows(head, train, "she")
        classes, dim = len(head.classes), rows.features.shape[1]
        right, every = np.zeros((classes, dim)), np.zeros((classes, dim))
        counts = np.zeros(classes, dtype=np.int64)
        for start in range(0, len(rows), CHUNK):
            part, labels = rows.features[start : start + CHUNK], rows.labels[start : start + CHUNK]
            features, correct = unit(part), predict(head, part) == labels
            np.add.at(every, labels, features)
            np.add.at(right, labels[correct], features[correct])
            counts += np.bincount(labels[correct], minlength=classes)
        of_all = np.bincount(rows.labels, minlength=classes)
        chosen = np.where(counts[:, None] > 0, right, every)
        return {"patterns": chosen / np.where(counts > 0, counts, of_all)[:, None]}

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer from the learned patterns."""
        patterns = learned["patterns"]

        def score(features: FloatArray) -> Float64Array:
            check_features(features, patterns.shape[1])
            found: Float64Array = (unit(features) * patterns[predict(head, features)]).sum(axis=1)
            return found

        return score
