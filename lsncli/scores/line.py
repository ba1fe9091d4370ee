"""LINe: energy of the neurons and weights that matter to the predicted class."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lsncli.scores.activations import activation_percentile, between, layer_energy
from lsncli.scores.common import check_features, labelled_chunks, labelled_rows, linear_layer
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows, unit


@dataclass(frozen=True)
class Line(Score):
    """Energy of the clipped neurons and the weights important to the predicted class; higher = more ID.

    Formula: S(x) = log sum_j exp((m_j * w_j) . (f * a) + b_j), with a = min(x, k) entry by entry, c the
    class that the whole head predicts of a, and masks f (D,) and m (C, D) of c:

    * s_c = the mean over training rows x of class c of x_d dl_c/dx_d (first-order Taylor, for a linear head
      x * w_c) is the contribution of each neuron d to class c;
    * f_d = 1 where s_cd is above the ``p_a``-th percentile of s_c, else 0;
    * m_jd = 1 where |s_cd| W_jd is above the ``p_w``-th percentile of these C x D numbers, else 0;
    * k = the ``clip``-th percentile of all training activations (exact).

    Adapted: the published clip is the activation 0.8 itself, for a ResNet-50 whose 90th percentile is about
    1.0 (ReAct's figure). An entry of a *unit* CLIP feature hardly ever reaches 0.8, so the clip would never
    bind; hence a percentile. Contributions are of unclipped features, as in the authors' code.

    Signed features: published for activations after a ReLU, where a clip makes all large activations equal
    and x = 0 is "not active". Here entries are clipped from above only, a negative entry is as active as a
    positive one, and s_cd is large where feature and weight agree in sign. Zeroing still means "no part in
    any logit".

    Masks of all classes would be C x C x D, so they are computed for one predicted class at a time.

    Paper: Ahn et al., LINe: out-of-distribution detection by leveraging important neurons, CVPR 2023.
    Source: github.com/YongHyun-Ahn/LINe-Out-of-Distribution-Detection-by-Leveraging-Important-Neurons,
    models/route.py.
    Default: p_a = 10 and p_w = 10, theirs for ImageNet; clip = 90 (ours, see above; 100 is next to none).
    """

    p_a: float = 10.0
    p_w: float = 10.0
    clip: float = 90.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"train", "labels", "weights"})

    def __post_init__(self) -> None:
        between(0, 99.9, p_a=self.p_a, p_w=self.p_w)
        between(0, 100, clip=self.clip)

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Return ``contribution`` (C, D), ``threshold`` (C,) of |s_cd| W_jd per class, and ``clip`` (1,)."""
        weights, _ = linear_layer(head, "line")
        rows = labelled_rows(head, train, "line")
        contribution = _class_means(rows, len(weights)) * weights
        threshold = [np.percentile(np.abs(of_class) * weights, self.p_w) for of_class in contribution]
        return {
            "contribution": contribution,
            "threshold": np.array(threshold),
            "clip": np.array([activation_percentile(rows.features, self.clip)]),
        }

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head`` with the masks of each predicted class."""
        weights, bias = linear_layer(head, "line")
        contribution, threshold = learned["contribution"], learned["threshold"]
        neurons = contribution > np.percentile(contribution, self.p_a, axis=1, keepdims=True)

        def score(features: FloatArray) -> Float64Array:
            check_features(features, weights.shape[1])
            clipped = np.minimum(unit(features), learned["clip"])
            predicted = (clipped @ weights.T + bias).argmax(axis=1)
            scores = np.empty(len(features))
            for c in np.unique(predicted):
                of_class = predicted == c
                masked = weights * (np.abs(contribution[c]) * weights > threshold[c])
                scores[of_class] = layer_energy(clipped[of_class] * neurons[c], masked, bias)
            return scores

        return score


def _class_means(rows: Rows, classes: int) -> Float64Array:
    """Return the mean unit feature (classes, D) of each class, all of which have rows."""
    total = np.zeros((classes, rows.features.shape[1]))
    for part, labels in labelled_chunks(rows):
        order = labels.argsort(kind="stable")
        found, first = np.unique(labels[order], return_index=True)
        total[found] += np.add.reduceat(part[order], first, axis=0)
    return total / np.bincount(rows.labels, minlength=classes)[:, None]
