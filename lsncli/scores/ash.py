"""ASH: energy after most of a feature was removed and the rest reshaped."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lsncli.errors import UsageError
from lsncli.scores.activations import between, kept_places, layer_energy, whole_over_kept
from lsncli.scores.common import check_features, linear_layer
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, unit

Form = Literal["p", "b", "s"]


@dataclass(frozen=True)
class Ash(Score):
    """Energy of a feature of which only the largest activations are left, reshaped; higher = more ID.

    Formula: S(x) = log sum_c exp(w_c . a(x) + b_c). a(x) keeps the K = D - round(D percentile / 100) largest
    entries of x (at least one) and makes all others zero. With t = sum_d |x_d|, and u that sum over the kept:

    * form "p" (prune): kept entries stay as they are;
    * form "b" (binarise): every kept entry becomes t / K;
    * form "s" (scale): kept entries are multiplied by exp(r), r = min(t / u, D / K).

    Signed features: published for activations after a ReLU, here entries of *unit* CLIP features. "Largest"
    is by value, as published, so that strong negative entries go. The published t and u are plain sums, here
    they are of absolute values: the same on features without negative entries, but signed entries cancel to
    a sum near or below zero, with which "b" would set the largest activations to a *negative* value and "s"
    would shrink instead of sharpen. No non-negative feature has t / u above D / K (the mean of the largest is
    at least the mean of all); the bound keeps "s" finite where the large entries are negative. Every
    feature, zero included, gets a finite score. The reshaped feature is not scaled back to length one, so
    logits of text heads are no longer cosines: at 90 % r is near 5 and "s" multiplies them by some 100,
    which makes the energy the largest logit.

    Paper: Djurisic et al., Extremely simple activation shaping for out-of-distribution detection, ICLR 2023.
    Source: github.com/andrijazz/ash, ash.py.
    Default: form "s" and percentile = 90, theirs for ImageNet. Theirs for a ViT is "s" with 95, the default
    argument of their functions 65. At most 99 here, with which exp(r) cannot overflow.
    """

    form: Form = "s"
    percentile: float = 90.0

    NEEDS: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __post_init__(self) -> None:
        between(0, 99, percentile=self.percentile)
        if self.form not in ("p", "b", "s"):
            raise UsageError(f"The setting 'form' must be 'p', 'b' or 's', found {self.form!r}.")

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the scorer for ``head``."""
        weights, bias = linear_layer(head, "ash")

        def score(features: FloatArray) -> Float64Array:
            check_features(features, weights.shape[1])
            return layer_energy(shaped(unit(features), self.form, self.percentile), weights, bias)

        return score


def shaped(activations: Float64Array, form: Form, percentile: float) -> Float64Array:
    """Return a(x) of each row of ``activations`` (N, D) as a new array."""
    where = kept_places(activations, percentile)
    largest = np.take_along_axis(activations, where, axis=1)
    if form == "b":
        largest[:] = np.abs(activations).sum(axis=1, keepdims=True) / largest.shape[1]
    elif form == "s":
        largest *= np.exp(whole_over_kept(activations, largest))
    result = np.zeros_like(activations)
    np.put_along_axis(result, where, largest, axis=1)
    return result
