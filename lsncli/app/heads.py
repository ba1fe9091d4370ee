"""Classifier heads: hand-written prompts, learned positive prompts, with or without negatives."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import torch

from lsncli.app.workspace import Workspace
from lsncli.artefacts.prompts import Conditional, HeadSource, HeadText, LearnedPrompts, load_prompts
from lsncli.backbones import Backbone, load_again
from lsncli.errors import FingerprintMismatch, LsnError, UsageError
from lsncli.prompts.conditional import conditional_cosines
from lsncli.prompts.contexts import text_features
from lsncli.prompts.layout import context_layout
from lsncli.prompts.losses import Kind
from lsncli.prompts.tower import TextTower
from lsncli.scores.common import check_features
from lsncli.store.reader import read_fingerprint, read_text
from lsncli.types import Cosines, Fingerprint, Float64s, Floats, Head, unit

TEMPLATE = "a photo of a {}"
"""The prompt of MCM (Ming et al., NeurIPS 2022), without a full stop."""

PROMPTS = ("hand", "positive")

Model = Callable[[], Backbone]
"""How to get the model that made the features; asked only where a head needs its text tower."""


@dataclass(frozen=True)
class _Part:
    """Half a head: its source, and the same ready for use."""

    classes: tuple[str, ...]
    source: HeadText
    weights: Float64s | Cosines


@dataclass(frozen=True)
class Heads:
    """The heads of a workspace: what they share is made once, and only if a head needs it."""

    work: Workspace
    classes: tuple[str, ...]
    """Of the split in question, for hand-written prompts."""
    model: Model | None = None
    """None loads the model of the store again."""

    def head(self, prompts: str, *, negatives: bool) -> Head:
        """A head by name: ``hand`` or ``positive``; ``negatives`` adds the learned negative sets to either.

        Raises UsageError for another name, LsnError if prompts are missing or disagree about the classes,
        FingerprintMismatch if they are of another model than the store.
        """
        yes, no = self._parts(prompts, negatives)
        return Head(
            yes.classes, yes.weights, self._fingerprint.logit_scale, None if no is None else no.weights
        )

    def source(self, prompts: str, *, negatives: bool) -> HeadSource:
        """What the same head is made from, for a detector to keep."""
        yes, no = self._parts(prompts, negatives)
        return HeadSource(
            yes.classes, self._fingerprint.logit_scale, yes.source, None if no is None else no.source
        )

    def _parts(self, prompts: str, negatives: bool) -> tuple[_Part, _Part | None]:
        if prompts not in PROMPTS:
            raise UsageError(f"Prompts: expected one of {', '.join(PROMPTS)}, found '{prompts}'.")
        yes = self._hand if prompts == "hand" else self._yes
        if not negatives:
            return yes, None
        if self._no.classes != yes.classes:
            of = "this split" if prompts == "hand" else self.work.positive
            raise LsnError(
                f"{self.work.negative} was learned for {len(self._no.classes)} classes that are not "
                f"the {len(yes.classes)} of {of}.",
                "Name the split that the prompts were trained on, or run `lsn train-neg` again.",
            )
        return yes, self._no

    @cached_property
    def positive(self) -> LearnedPrompts:
        """The learned positive prompts; raises as ``load_checked`` does."""
        return load_checked(self.work, "positive")

    @cached_property
    def negative(self) -> LearnedPrompts:
        """The learned negative prompts; raises as ``load_checked`` does."""
        return load_checked(self.work, "negative")

    @cached_property
    def _fingerprint(self) -> Fingerprint:
        return read_fingerprint(self.work.features)

    @cached_property
    def _tower(self) -> TextTower:
        return (self.model() if self.model else load_again(self._fingerprint)).text_tower()

    @cached_property
    def _hand(self) -> _Part:
        """Text features of ``TEMPLATE`` with each class name.

        They come from the store if class text features were imported, otherwise from the text tower.
        Raises LsnError if imported text features lack a class.
        """
        imported = read_text(self.work.features)
        if imported is None:
            texts = [TEMPLATE.format(name) for name in self.classes]
            rows = unit(text_features(self._tower, texts).cpu().numpy())
            return _Part(self.classes, rows, rows)
        names, features = imported
        missing = [name for name in self.classes if name not in names]
        if missing:
            raise LsnError(
                f"The imported text features lack {len(missing)} of {len(self.classes)} classes: "
                f"'{missing[0]}' ...",
                "Import text features for every class with `lsn store import --text`.",
            )
        rows = unit(features)[[names.index(name) for name in self.classes]]
        return _Part(self.classes, rows, rows)

    @cached_property
    def _yes(self) -> _Part:
        return self._learned(self.positive)

    @cached_property
    def _no(self) -> _Part:
        return self._learned(self.negative)

    def _learned(self, prompts: LearnedPrompts) -> _Part:
        source = prompts.head_text
        text = bound(source, prompts.classes, lambda: self._tower, ensemble=prompts.kind == "positive")
        return _Part(prompts.classes, source, text)


def make_head(
    work: Workspace, prompts: str, classes: tuple[str, ...], *, negatives: bool, model: Model | None = None
) -> Head:
    """One head of a workspace; see ``Heads``."""
    return Heads(work, classes, model).head(prompts, negatives=negatives)


def head_from(source: HeadSource, model: Model) -> Head:
    """The head of a detector; ``model`` is asked for only if its prompts depend on the image."""
    tower = cache(lambda: model().text_tower())
    weights = bound(source.weights, source.classes, tower, ensemble=True)
    no = source.negative
    negative = None if no is None else bound(no, source.classes, tower, ensemble=False)
    return Head(source.classes, weights, source.scale, negative, source.bias)


def bound(
    text: HeadText, classes: tuple[str, ...], tower: Callable[[], TextTower], *, ensemble: bool
) -> Float64s | Cosines:
    """Text features as they are; CoCoOp prompts bound to the text tower, as a function to cosines.

    The function remembers its last answer: to score the same rows by several methods, and to name their
    classes, costs one text pass an image.
    """
    if not isinstance(text, Conditional):
        return text
    settings, frozen = text.settings, tower()
    layout = context_layout(
        frozen.vocabulary,
        classes,
        text.contexts.shape[-2],
        position=settings["position"],
        names=settings["names"],
        specific=text.contexts.ndim == 4,
    )
    meta = {name: torch.from_numpy(array) for name, array in text.meta.items()}
    compute = conditional_cosines(frozen, torch.from_numpy(text.contexts), meta, layout, ensemble=ensemble)
    return _Remembering(compute, text.meta["hidden.weight"].shape[-1])


class _Remembering:
    """Cosines of checked features (N, ``dim``); asked twice for the same array, it computes once."""

    def __init__(self, compute: Cosines, dim: int) -> None:
        self._compute, self._dim = compute, dim
        self._last: tuple[Floats, Float64s] | None = None

    def __call__(self, features: Floats) -> Float64s:
        if self._last is None or self._last[0] is not features:
            check_features(features, self._dim)
            found = self._compute(features)
            found.flags.writeable = False
            self._last = features, found
        return self._last[1]


def load_checked(work: Workspace, kind: Kind) -> LearnedPrompts:
    """Learned prompts of the model that the store belongs to; FingerprintMismatch otherwise."""
    path = work.prompts(kind)
    prompts = load_prompts(path, kind)
    store = read_fingerprint(work.features)
    if prompts.fingerprint.digest != store.digest:
        raise FingerprintMismatch(
            f"{path} was learned with another model: expected {store}, found {prompts.fingerprint}.",
            f"Run `lsn train-{kind[:3]}` again, or use another --work folder.",
        )
    return prompts
