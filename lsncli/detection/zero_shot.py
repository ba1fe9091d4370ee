"""Zero-shot detection: an uncalibrated detector from class names and a vocabulary of other words."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np

from lsncli.artefacts.detector import SavedDetector
from lsncli.artefacts.prompts import HeadSource
from lsncli.backbones import Backbone, text_ids_of
from lsncli.console import ProgressCallback, silent
from lsncli.errors import UsageError
from lsncli.images.class_names import check_distinct
from lsncli.methods.words import AUTO, choice_for, select_words, vocabulary_arrays, word_encoder
from lsncli.scores.neglabel import NegLabel
from lsncli.threshold import uncalibrated
from lsncli.types import unit

LABEL = "zero-shot NegLabel"


def zero_shot_detector(
    classes: Sequence[str], backbone: Backbone, words: str = AUTO, progress: ProgressCallback = silent
) -> SavedDetector:
    """Make a NegLabel detector of ``classes`` from their names alone, against the list ``words``.

    The rate of ID images that its threshold keeps is unknown (``threshold.calibrated`` is False). Gamma is
    the share of the classes among all words of a group, C / (C + V / G): an image is ID if its probability of
    being one of the classes is above chance. ``progress`` counts words that are encoded: all of WordNet's for
    a model that is used for the first time. Raises UsageError for no class, an empty name, an unknown list,
    and two names that are the same text to the model; LsnError for a name that does not fit the text tower.
    """
    names = checked_names(classes)
    check_distinct(names, text_ids_of(backbone), where="--classes")
    choice = choice_for(words, backbone.fingerprint.model)
    encoder = word_encoder(backbone)
    selected = select_words(choice, names, encoder, progress=progress)
    score = NegLabel(words=choice.name)
    vocabulary = len(selected.words)
    weights = unit(selected.classes.astype(np.float64))
    return SavedDetector(
        method="neglabel",
        label=LABEL,
        settings=asdict(score),
        head_name=choice.recipe,
        head=HeadSource(names, backbone.fingerprint.logit_scale, weights, None),
        fingerprint=backbone.fingerprint,
        threshold=uncalibrated(len(names) / (len(names) + vocabulary / score.groups_of(vocabulary))),
        learned=vocabulary_arrays(selected),
    )


def checked_names(classes: Iterable[str]) -> tuple[str, ...]:
    """Return class names with normalised spaces. Raises UsageError as ``zero_shot_detector`` does."""
    raw = tuple(classes)
    if isinstance(classes, str) or not all(isinstance(name, str) for name in raw):
        raise UsageError(f"Expected a list of class names, found {classes!r:.80}.", 'Such as ["cat", "dog"].')
    names = tuple(" ".join(name.split()) for name in raw)
    if not any(names):
        raise UsageError(
            "No class was named.", 'Name them between commas, such as --classes "cat,dog,truck".'
        )
    if not all(names):
        raise UsageError("A class has an empty name.", "Is there a comma too many?")
    duplicate = next((name for name, count in Counter(names).items() if count > 1), None)
    if duplicate is not None:
        raise UsageError(f"The class '{duplicate}' is named twice.")
    return names
