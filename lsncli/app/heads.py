"""Classifier heads of a workspace: hand-written or learned prompts, with or without negatives; probes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch

from lsncli.app.workspace import Workspace
from lsncli.artefacts.heads import COMMANDS, LearnedHead, load_head
from lsncli.artefacts.prompts import Conditional, HeadSource, HeadText, LearnedPrompts, load_prompts
from lsncli.backbones import Backbone, load_again
from lsncli.backbones.templates import openai_templates
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

TEXT_HEADS = ("hand", "ensemble", "positive")
HEADS = (*TEXT_HEADS, *COMMANDS)
"""Hand-written prompt, OpenAI's 80 templates, learned prompts, and the heads of ``artefacts.heads``."""

Model = Callable[[], Backbone]
"""How to get the model that made the features; asked only where a head needs its text tower."""


@dataclass(frozen=True)
class _Part:
    """A source and the same ready for use: the weights of a head, or its negative prompts."""

    source: HeadText
    ready: Float64s | Cosines


@dataclass(frozen=True)
class Heads:
    """The heads of a workspace: what they share is made once, and only if a head needs it."""

    work: Workspace
    classes: tuple[str, ...]
    """Of the split in question, for hand-written prompts."""
    model: Model | None = None
    """None loads the model of the store again."""

    def head(self, name: str, *, negatives: bool) -> Head:
        """A head of ``HEADS``; ``negatives`` adds its own negative prompts, or else the learned ones.

        Raises UsageError for another name, LsnError if prompts are missing or disagree about the classes,
        FingerprintMismatch if they are of another model than the store.
        """
        if name in TEXT_HEADS:
            classes, yes, no = self._text(name, negatives)
            return Head(classes, yes.ready, self._fingerprint.logit_scale, None if no is None else no.ready)
        learned = self._learned_head(name)
        return Head(learned.classes, learned.weights, learned.scale, learned.negative, learned.bias)

    def source(self, name: str, *, negatives: bool) -> HeadSource:
        """What the same head is made from, for a detector to keep."""
        if name in TEXT_HEADS:
            classes, yes, no = self._text(name, negatives)
            scale = self._fingerprint.logit_scale
            return HeadSource(classes, scale, yes.source, None if no is None else no.source)
        learned = self._learned_head(name)
        return HeadSource(learned.classes, learned.scale, learned.weights, learned.negative, learned.bias)

    def _text(self, name: str, negatives: bool) -> tuple[tuple[str, ...], _Part, _Part | None]:
        classes = self.positive.classes if name == "positive" else self.classes
        yes = {"hand": lambda: self._hand, "ensemble": lambda: self._ensemble, "positive": lambda: self._yes}
        if not negatives:
            return classes, yes[name](), None
        if self.negative.classes != classes:
            of = self.work.positive if name == "positive" else "this split"
            raise LsnError(
                f"{self.work.negative} was learned for {len(self.negative.classes)} classes that are not "
                f"the {len(classes)} of {of}.",
                "Name the split that the prompts were trained on, or run `lsn train-neg` again.",
            )
        return classes, yes[name](), self._no

    def _learned_head(self, name: str) -> LearnedHead:
        if name not in COMMANDS:
            raise UsageError(f"Head: expected one of {', '.join(HEADS)}, found '{name}'.")
        if name not in self._heads:
            self._heads[name] = load_checked_head(self.work, name)
        return self._heads[name]

    @cached_property
    def _heads(self) -> dict[str, LearnedHead]:
        return {}

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
            rows = unit(self._templates([TEMPLATE.format])[0])
            return _Part(rows, rows)
        names, features = imported
        missing = [name for name in self.classes if name not in names]
        if missing:
            raise LsnError(
                f"The imported text features lack {len(missing)} of {len(self.classes)} classes: "
                f"'{missing[0]}' ...",
                "Import text features for every class with `lsn store import --text`.",
            )
        rows = unit(features)[[names.index(name) for name in self.classes]]
        return _Part(rows, rows)

    @cached_property
    def _ensemble(self) -> _Part:
        """The unit mean of the unit text features of OpenAI's templates (Radford et al., ICML 2021)."""
        rows = unit(unit(self._templates(openai_templates())).mean(axis=0))
        return _Part(rows, rows)

    def _templates(self, templates: Sequence[Callable[[str], str]]) -> Floats:
        """Text features (T, C, D)."""
        tower = self._tower
        found = [
            text_features(tower, [template(name) for name in self.classes]).cpu().numpy()
            for template in templates
        ]
        return np.stack(found)

    @cached_property
    def _yes(self) -> _Part:
        return self._learned(self.positive)

    @cached_property
    def _no(self) -> _Part:
        return self._learned(self.negative)

    def _learned(self, prompts: LearnedPrompts) -> _Part:
        source = prompts.head_text
        ensemble = prompts.kind == "positive"
        return _Part(source, bound(source, prompts.classes, lambda: self._tower, ensemble=ensemble))


def make_head(
    work: Workspace, name: str, classes: tuple[str, ...], *, negatives: bool, model: Model | None = None
) -> Head:
    """One head of a workspace; see ``Heads``."""
    return Heads(work, classes, model).head(name, negatives=negatives)


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
    _check_model(work, path, prompts.fingerprint, f"lsn train-{kind[:3]}")
    return prompts


def load_checked_head(work: Workspace, kind: str) -> LearnedHead:
    """A learned head of the model that the store belongs to; FingerprintMismatch otherwise.

    LsnError if it was trained on other rows than the learned positive prompts, whose held-out rows would then
    not be new to it.
    """
    path = work.head(kind)
    head = load_head(path, kind)
    _check_model(work, path, head.fingerprint, COMMANDS[kind])
    rule = head.held_out
    if rule is not None and work.positive.is_file():
        other = load_checked(work, "positive").held_out
        if other.split == rule.split and other != rule:
            raise LsnError(
                f"{path} was trained on other rows of split '{rule.split}' than {work.positive}.",
                f"Run `{COMMANDS[kind]}` again.",
            )
    return head


def _check_model(work: Workspace, path: Path, found: Fingerprint, command: str) -> None:
    store = read_fingerprint(work.features)
    if found.digest != store.digest:
        raise FingerprintMismatch(
            f"{path} was learned with another model: expected {store}, found {found}.",
            f"Run `{command}` again, or use another --work folder.",
        )
