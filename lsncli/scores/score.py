"""The one interface of all methods: a score learns from training rows, if at all, and scores features."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, Rows

Scorer = Callable[[FloatArray], Float64Array]
"""Raw features (N, D) to scores (N,) in float64, higher = more ID."""

NEEDS = {
    "train": "training rows",
    "labels": "labelled training rows",
    "negative": "negative prompts",
    "weights": "fixed weights",
    "pixels": "the images",
    "candidates": "candidate labels",
}
"""What a score may ask for besides features and a head, in words."""


class Score(ABC):
    """A method: a frozen dataclass of its settings; the docstring gives formula, paper, source, defaults.

    ``NEEDS`` are the keys of ``score.NEEDS`` that it cannot do without. ``REDUCED`` says in a few words what
    a form that works on stored features leaves out of the published method; empty if nothing. ``HEAD`` is the
    head it takes when the user names none; empty for the learned positive prompts if it needs negative ones,
    else the hand-written prompt. ``PROMPTS`` says whether the score depends on prompts, positive or negative:
    one that does not works for models without a text encoder, too.
    """

    NEEDS: ClassVar[frozenset[str]] = frozenset()
    REDUCED: ClassVar[str] = ""
    HEAD: ClassVar[str] = ""
    PROMPTS: ClassVar[bool] = True

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Learn from training rows whose labels index ``head.classes``; nothing, unless a score says what.

        Raises LsnError if something in ``NEEDS`` is missing.
        """
        return {}

    def inputs(self) -> str:
        """What it looks at besides stored features and the head, with these settings: a row of
        ``methods.inputs.INPUTS``; empty for nothing."""
        return ""

    @abstractmethod
    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """The function from raw features to scores; ``learned`` is what ``fit`` gave for this head.

        ``device`` is where scores that are worth it compute. Raises LsnError if something in ``NEEDS`` is
        missing.
        """

    def parts(self, head: Head, features: FloatArray) -> tuple[Float64Array, Float64Array] | None:
        """What the positive and what the negative prompts say of raw ``features``: (N,) and (N,), whose sum
        is the score; None for a score that is no such sum."""
        return None
