"""Words that are no class: the vocabulary of NegLabel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lsncli.methods.heads import TEMPLATE
from lsncli.prompts.layout import TextTower
from lsncli.prompts.text_features import text_features
from lsncli.reference.classes import class_list
from lsncli.types import Float64Array, unit

WORDS = "imagenet1k"
"""The class list whose names are the vocabulary."""
KEPT = 0.75
"""Fraction of the vocabulary that stays: the words farthest from every class. The others are likely kinds or
parts of a class ("beagle" of "dog"), which no shared word gives away."""


def other_words(classes: Sequence[str], tower: TextTower) -> NDArray[np.float32]:
    """Unit text features (V, D) of words that are no class: ImageNet's names, less those near ``classes``.

    Near is a name that shares a word with a class, in any case, and of the rest the quarter whose text
    features are nearest to those of a class.
    """
    own = {word for name in classes for word in _words(name)}
    free = [name for name in class_list(WORDS).names if own.isdisjoint(_words(name))]
    features = encoded(tower, free).astype(np.float32)
    nearest = (features @ encoded(tower, classes).T).max(axis=1)
    kept = np.argsort(nearest, kind="stable")[: max(1, round(KEPT * len(free)))]
    found: NDArray[np.float32] = features[np.sort(kept)]
    return found


def encoded(tower: TextTower, names: Sequence[str]) -> Float64Array:
    """Unit text features (C, D) of ``names`` in the hand-written prompt."""
    return unit(text_features(tower, [TEMPLATE.format(name) for name in names]).cpu().numpy())


def _words(name: str) -> set[str]:
    """The words of a name, in lower case and without a plural's s."""
    return {word.removesuffix("s") for word in name.casefold().replace("-", " ").split()}
