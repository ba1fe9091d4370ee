"""Scores that look at more than the features of an image: at its pixels (ODIN), at words (ZOC, NegLabel)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Protocol

from lsncli.app.cache import digest
from lsncli.app.candidates import WordFeatures, read_candidates, zoc_of_split
from lsncli.app.code import code_of
from lsncli.app.heads import Heads
from lsncli.app.methods import Method
from lsncli.app.pixels import images_of, perturbed
from lsncli.app.zeroshot import other_words
from lsncli.backbones import Backbone
from lsncli.console import Tick
from lsncli.errors import LsnError
from lsncli.scores import load_score, score_in_chunks
from lsncli.scores.neglabel import VOCABULARY
from lsncli.scores.odin import Odin
from lsncli.store.format import Split
from lsncli.types import Float64s, Head


@dataclass(frozen=True)
class Images:
    """Where the images of splits are, and how many are encoded at a time."""

    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """What each split was extracted from, by its name."""
    batch_size: int = 16
    workers: int = 1


class Inputs(Protocol):
    """How a whole split is scored where a function of features is not enough."""

    def key(self, split: Split) -> str:
        """Digest of what is looked at besides features. Raises LsnError if it is not there."""

    def scores(self, split: Split, head: Head, tick: Tick) -> Float64s:
        """Scores (N,), higher = more ID; ``tick`` hears of rows."""


INPUTS: dict[str, str] = {
    "pixels": "lsncli.app.inputs:Pixels",
    "candidates": "lsncli.app.inputs:Words",
    "vocabulary": "lsncli.app.inputs:OtherWords",
}
"""Who brings what a score looks at besides features (``Score.inputs``)."""

OF_A_DETECTOR = ("", "vocabulary")
"""Inputs that are the same for every image, so that a detector can keep them."""


def looks_beyond_features(method: Method) -> bool:
    """Whether ``method`` looks at more of an image than its features, and so cannot be a detector."""
    return load_score(method.score, **method.settings).inputs not in OF_A_DETECTOR


def inputs_for(method: Method, heads: Heads, images: Images) -> Inputs | None:
    """What ``method`` looks at besides features; None for nearly all."""
    name = load_score(method.score, **method.settings).inputs
    if not name:
        return None
    module, attribute = INPUTS[name].split(":")
    inputs: Inputs = getattr(import_module(module), attribute)(method, heads, images)
    return inputs


@dataclass(frozen=True)
class _Base:
    """What every kind of input is made from."""

    method: Method
    heads: Heads
    images: Images

    @property
    def code(self) -> str:
        """Digest of the code that brings the input and scores with it."""
        return code_of(type(self), *self.heads.model_code, without=(Backbone, Method))


@dataclass(frozen=True)
class Pixels(_Base):
    """ODIN's input perturbation: features of images moved by ``eps``."""

    @cached_property
    def score(self) -> Odin:
        """The score with its settings."""
        return Odin(**self.method.settings)

    def key(self, split: Split) -> str:
        """The images are those of the stored features, which is checked when they are read."""
        if split.name not in self.images.folders:
            raise LsnError(
                f"ODIN with eps = {self.score.eps:g} needs the images of split '{split.name}'.",
                f"Say where they are with --images {split.name}=FOLDER, or leave eps at 0.",
            )
        return digest("pixels", self.code)

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
        return score_in_chunks(self.score.scorer(head, {}), features)


@dataclass(frozen=True)
class Words(_Base):
    """ZOC's candidate labels, as `lsn candidates` left them in the workspace."""

    def key(self, split: Split) -> str:
        """The words of every image, and the model that encodes them."""
        found = read_candidates(self.heads.work, split)
        return digest(found.words, found.indptr, found.indices, self.heads.fingerprint.digest, self.code)

    def scores(self, split: Split, head: Head, tick: Tick) -> Float64s:
        """Every word is encoded once, whatever the number of splits."""
        candidates = read_candidates(self.heads.work, split)
        found = zoc_of_split(split, head, candidates, self._words, own_prompt=self.method.head == "hand")
        tick(len(found))
        return found

    @cached_property
    def _words(self) -> WordFeatures:
        return WordFeatures(self.heads.tower)


@dataclass(frozen=True)
class OtherWords(_Base):
    """NegLabel's vocabulary: the same words for every image, encoded once."""

    def key(self, split: Split) -> str:
        """The words depend on the classes, which the head tells, and on the model that encodes them."""
        return digest("other words", self.heads.fingerprint.digest, self.code)

    def scores(self, split: Split, head: Head, tick: Tick) -> Float64s:
        """Raises LsnError as ``NegLabel.scorer``."""
        learned = {VOCABULARY: other_words(head.classes, self.heads.tower)}
        score = load_score(self.method.score, **self.method.settings)
        return score_in_chunks(score.scorer(head, learned), split.features, tick=tick)
