"""Scores that look at more than the features of an image: at its pixels (ODIN), at words (ZOC, NegLabel)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from lsncli.app.cache import digest
from lsncli.app.candidates import WordFeatures, read_candidates, zoc_of_split
from lsncli.app.code import code_of
from lsncli.app.heads import Heads
from lsncli.app.methods import Method
from lsncli.app.other_words import other_words
from lsncli.app.pixels import images_of, perturbed
from lsncli.backbones import Backbone
from lsncli.console import Tick
from lsncli.errors import LsnError
from lsncli.registry import load
from lsncli.scores import Score, load_score, score_in_chunks
from lsncli.scores.neglabel import VOCABULARY
from lsncli.store.format import Split
from lsncli.types import Float64s, Head, Learned


@dataclass(frozen=True)
class Images:
    """Where the images of splits are, and how many are encoded at a time."""

    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """What each split was extracted from, by its name."""
    batch_size: int = 16
    workers: int = 1


NO_IMAGES = Images()


class Inputs(Protocol):
    """How a whole split is scored where a function of features is not enough."""

    kept: ClassVar[bool]
    """Whether a detector can keep it; not what every image has of its own."""

    def key(self, split: Split) -> str:
        """Digest of what is looked at besides features. Raises LsnError if it is not there."""

    def scores(self, split: Split, head: Head, tick: Tick) -> Float64s:
        """Scores (N,), higher = more ID; ``tick`` hears of rows."""

    def learned(self, head: Head) -> Learned:
        """What the score takes of it for this head, as if it had learned it."""


def inputs_for(method: Method, heads: Heads, images: Images = NO_IMAGES) -> Inputs | None:
    """What ``method`` looks at besides features; None for nearly all."""
    score = load_score(method.score, **method.settings)
    name = score.inputs()
    if not name:
        return None
    inputs: Inputs = load(INPUTS[name])(score, method, heads, images)
    return inputs


def code_with(name: str, heads: Heads) -> str:
    """Digest of the code that brings an input, a row of ``INPUTS``, and scores with it."""
    return code_of(INPUTS[name], *heads.model_code, without=(Backbone, Method))


@dataclass(frozen=True)
class Pixels:
    """ODIN's input perturbation: features of images moved by ``eps``."""

    kept: ClassVar[bool] = False

    score: Any
    """``Odin``."""
    method: Method
    heads: Heads
    images: Images

    def key(self, split: Split) -> str:
        """The images are those of the stored features, which is checked when they are read."""
        if split.name not in self.images.folders:
            raise LsnError(
                f"ODIN with eps = {self.score.eps:g} needs the images of split '{split.name}'.",
                f"Say where they are with --images {split.name}=FOLDER, or leave eps at 0.",
            )
        return digest("pixels", code_with("pixels", self.heads))

    def scores(self, split: Split, head: Head, tick: Tick) -> Float64s:
        """One forward, one backward and one forward pass an image."""
        items = images_of(split, self.images.folders[split.name])
        features = perturbed(
            items,
            self.heads.backbone,
            head,
            self.score.tau,
            self.score.eps,
            stored=split.features,
            batch_size=self.images.batch_size,
            workers=self.images.workers,
            tick=tick,
        )
        return score_in_chunks(self.score.scorer(head, self.learned(head)), features)

    def learned(self, head: Head) -> Learned:
        """Nothing: it is in the features."""
        return {}


@dataclass(frozen=True)
class Words:
    """ZOC's candidate labels, as `lsn candidates` left them in the workspace."""

    kept: ClassVar[bool] = False

    score: Score
    method: Method
    heads: Heads
    images: Images

    def key(self, split: Split) -> str:
        """The words of every image, and the model that encodes them."""
        found = read_candidates(self.heads.work, split)
        code = code_with("candidates", self.heads)
        return digest(found.words, found.indptr, found.indices, self.heads.fingerprint.digest, code)

    def scores(self, split: Split, head: Head, tick: Tick) -> Float64s:
        """Every word is encoded once, whatever the number of splits."""
        candidates = read_candidates(self.heads.work, split)
        found = zoc_of_split(split, head, candidates, self._words, own_prompt=self.method.head == "hand")
        tick(len(found))
        return found

    def learned(self, head: Head) -> Learned:
        """Nothing: every image has candidates of its own."""
        return {}

    @cached_property
    def _words(self) -> WordFeatures:
        return WordFeatures(self.heads.tower)


@dataclass(frozen=True)
class OtherWords:
    """NegLabel's vocabulary: the same words for every image, encoded once."""

    kept: ClassVar[bool] = True

    score: Score
    method: Method
    heads: Heads
    images: Images

    def key(self, split: Split) -> str:
        """The words depend on the classes, which the head tells, and on the model that encodes them."""
        return digest("other words", self.heads.fingerprint.digest, code_with("vocabulary", self.heads))

    def scores(self, split: Split, head: Head, tick: Tick) -> Float64s:
        """Raises LsnError as ``NegLabel.scorer``."""
        return score_in_chunks(self.score.scorer(head, self.learned(head)), split.features, tick=tick)

    def learned(self, head: Head) -> Learned:
        """The words' text features: they do not depend on the image."""
        return {VOCABULARY: other_words(head.classes, self.heads.tower)}


INPUTS: dict[str, str] = {
    "pixels": "lsncli.app.inputs:Pixels",
    "candidates": "lsncli.app.inputs:Words",
    "vocabulary": "lsncli.app.inputs:OtherWords",
}
"""By what ``Score.inputs`` says: ``module:class``, so that a key depends on the code of one input alone."""
