"""A detector from nothing but class names: the classes against a vocabulary of other words, uncalibrated."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lsncli.app.heads import TEMPLATE
from lsncli.artefacts.detector import Detector
from lsncli.artefacts.prompts import HeadSource
from lsncli.backbones import Backbone, text_ids_of, with_text
from lsncli.errors import UsageError
from lsncli.facts.classes import class_list
from lsncli.images.names import check_distinct
from lsncli.prompts.contexts import text_features
from lsncli.prompts.tower import TextTower
from lsncli.scores.neglabel import VOCABULARY, NegLabel
from lsncli.threshold import uncalibrated
from lsncli.types import Float64s, unit

LABEL = "zero-shot NegLabel"
WORDS = "imagenet1k"
"""The class list whose names are the vocabulary."""
KEPT = 0.75
"""Fraction of the vocabulary that stays: the words farthest from every class. The others are likely kinds or
parts of a class ("beagle" of "dog"), which no shared word gives away."""


def zero_shot_detector(classes: Sequence[str], backbone: Backbone) -> Detector:
    """A NegLabel detector of ``classes`` by their names alone.

    Nobody has measured how many ID images its threshold keeps, and the detector says so
    (``threshold.calibrated``). Gamma is the share of the classes among all words, C / (C + V): an image is ID
    if it makes it likelier than chance that one of the classes is meant. Raises UsageError for no class, an
    empty name, and two names that are one text to the model; LsnError for one that does not fit the text
    tower.
    """
    names = checked_names(classes)
    check_distinct(names, text_ids_of(backbone), where="--classes")
    tower = with_text(backbone).text_tower()
    weights, words = encoded(tower, names), other_words(names, tower)
    return Detector(
        method="neglabel",
        label=LABEL,
        settings={"groups": NegLabel().groups},
        head_name="hand",
        head=HeadSource(names, backbone.fingerprint.logit_scale, weights, None),
        fingerprint=backbone.fingerprint,
        threshold=uncalibrated(len(names) / (len(names) + len(words))),
        learned={VOCABULARY: words},
    )


def checked_names(classes: Iterable[str]) -> tuple[str, ...]:
    """Class names without blanks around and between. Raises UsageError as ``zero_shot_detector`` does."""
    given = tuple(classes)
    if isinstance(classes, str) or not all(isinstance(name, str) for name in given):
        raise UsageError(f"Expected a list of class names, found {classes!r:.80}.", 'Such as ["cat", "dog"].')
    names = tuple(" ".join(name.split()) for name in given)
    if not any(names):
        raise UsageError(
            "No class was named.", 'Name them between commas, such as --classes "cat,dog,truck".'
        )
    if not all(names):
        raise UsageError("A class has an empty name.", "Is there a comma too many?")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"The class '{twice}' is named twice.")
    return names


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


def encoded(tower: TextTower, names: Sequence[str]) -> Float64s:
    """Unit text features (C, D) of ``names`` in the hand-written prompt."""
    return unit(text_features(tower, [TEMPLATE.format(name) for name in names]).cpu().numpy())


def _words(name: str) -> set[str]:
    """The words of a name, in lower case and without a plural's s."""
    return {word.removesuffix("s") for word in name.casefold().replace("-", " ").split()}
