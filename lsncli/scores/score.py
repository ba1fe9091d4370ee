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
    "words": "a list of words",
}
"""Inputs that a score may need besides features and a head, in words."""


class Score(ABC):
    """A method: a frozen dataclass of its settings; the docstring gives formula, paper, source, defaults.

    ``NEEDS`` are the keys of ``score.NEEDS`` that it requires. ``REDUCED`` describes what the form for stored
    features leaves out of the published method; empty if nothing. ``HEAD`` is the default head; empty for the
    learned positive prompts if the score needs negative ones, else the hand-written prompt. ``PROMPTS`` is
    whether the score depends on prompts, positive or negative; one that does not also works for models
    without a text encoder.
    """

    NEEDS: ClassVar[frozenset[str]] = frozenset()
    REDUCED: ClassVar[str] = ""
    HEAD: ClassVar[str] = ""
    PROMPTS: ClassVar[bool] = True

    def fit(self, head: Head, train: Rows | None = None, device: str = "cpu") -> LearnedArrays:
        """Learn from training rows whose labels index ``head.classes``; by default nothing.

        Raises LsnError if something in ``NEEDS`` is missing.
        """
        return {}

    def inputs(self) -> str:
        """Return the input besides stored features and head: a row of ``methods.inputs.INPUTS``, or empty."""
        return ""

    @abstractmethod
    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Return the function from raw features (N, D) to scores (N,); ``learned`` is the result of ``fit``.

        ``device`` is used by scores that gain from a GPU. Raises LsnError if something in ``NEEDS`` is
        missing.
        """

    def code(self) -> tuple[type["Score"], ...]:
        """Return the classes whose source the score depends on: its own, and of scores it is made of."""
        return (type(self),)

    def parts(self, head: Head, features: FloatArray) -> tuple[Float64Array, Float64Array] | None:
        """Return the positive and the negative term of the score of raw ``features``, (N,) each.

        None for a score that is no such sum.
        """
        return None
