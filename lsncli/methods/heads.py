"""The classifier heads of a workspace: hand-written or learned prompts, class means, linear probes, CLIPN.

Prompts that do not depend on the image are text features. CoCoOp prompts are bound to the text tower.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from lsncli.artefacts.heads import COMMANDS, LearnedHead, load_head
from lsncli.artefacts.prompts import HeadSource, HeadText, HeldOut, LearnedPrompts, load_prompts
from lsncli.backbones import Backbone, load_again, loader_of, with_text
from lsncli.backbones.text import openai_templates
from lsncli.errors import FingerprintMismatch, LsnError, UsageError
from lsncli.methods.bound_text import RecentCosines, bind_text
from lsncli.methods.cache import NO_CACHE, Cache, digest
from lsncli.methods.source_digest import code_of
from lsncli.methods.text_recipes import RECIPES, TEMPLATE
from lsncli.methods.word_features import WordEncoder, encode
from lsncli.methods.workspace import Workspace
from lsncli.prompts.layout import TextTower
from lsncli.prompts.settings import Kind
from lsncli.prompts.text_features import text_features
from lsncli.scores.common import labelled_chunks
from lsncli.store.reader import read_fingerprint, read_text
from lsncli.types import UNLABELLED, CosineFunction, Fingerprint, Float64Array, FloatArray, Head, Rows, unit

LoadBackbone = Callable[[], Backbone]
"""Returns the model that made the features; called only if a head needs its text tower."""


def head_from(source: HeadSource, model: LoadBackbone) -> Head:
    """Return the head of a detector; ``model`` is called only if its prompts depend on the image."""
    tower = cache(lambda: with_text(model()).text_tower())
    return build_head(
        source, lambda text, ensemble: bind_text(text, source.classes, tower, ensemble=ensemble)
    )


def build_head(source: HeadSource, bind: Callable[[HeadText, bool], Float64Array | CosineFunction]) -> Head:
    """Build a head from its source; ``bind`` is called with each text and whether to average its prompts.

    Several positive prompts of a class are averaged (an ensemble); sets of negative prompts stay apart.
    """
    negative = None if source.negative is None else bind(source.negative, False)
    return Head(source.classes, bind(source.weights, True), source.scale, negative, source.bias)


TEXT_HEADS = ("hand", "ensemble", "positive", *RECIPES)
MEANS = "means"
HEADS = (*TEXT_HEADS, MEANS, *COMMANDS)
"""Hand-written prompt, OpenAI's 80 templates, learned prompts, the texts of NegLabel and of CSP, class means,
heads of ``artefacts.heads``."""
NO_SOFTMAX = (MEANS, "dualcoop")
"""Heads whose logits define no probabilities over the classes: distances to class means at a scale that is
that of text, and DualCoOp, whose classes are each decided against a negative prompt."""


@dataclass(frozen=True)
class Heads:
    """The heads of a workspace; what they share is computed once, when a head first needs it."""

    work: Workspace
    classes: tuple[str, ...]
    """The classes of the split, for hand-written prompts."""
    model: LoadBackbone | None = None
    """None loads the store's model."""
    cache: Cache = NO_CACHE
    """Where text features of hand-written prompts are cached."""
    rows: Rows | None = None
    """Training rows, whose labels index ``classes``, for class means."""
    recent: RecentCosines | None = None
    """Cosines with CoCoOp prompts that other heads have computed."""
    remark: Callable[[str], None] = lambda text: None
    """Called with a sentence about what takes long."""
    whole: "Heads | None" = None
    """Heads of more classes, whose model and text features these take instead of their own."""
    banned: tuple[str, ...] = ()
    """Names that no vocabulary of words may hold, besides the classes."""
    prompts: Mapping[Kind, LearnedPrompts] | None = None
    """Learned prompts in place of the workspace's."""

    def head(self, name: str, *, negatives: bool) -> Head:
        """Return a head of ``HEADS``; ``negatives`` adds its own negative prompts, or else the learned ones.

        Raises as ``source`` does.
        """
        source = self.source(name, negatives=negatives)
        return build_head(source, lambda text, ensemble: self._bound(text, source.classes, ensemble))

    def source(self, name: str, *, negatives: bool) -> HeadSource:
        """Return what a head is built from; loads no text tower for prompts that depend on the image.

        Raises UsageError for an unknown name, LsnError if prompts are missing or disagree about the classes,
        FingerprintMismatch if they belong to another model than the store.
        """
        if name not in (*TEXT_HEADS, MEANS):
            learned = self._learned_head(name)
            return HeadSource(learned.classes, learned.scale, learned.weights, learned.negative, learned.bias)
        if name == "positive":
            classes, weights = self.positive.classes, self._positive_text
        else:
            classes, weights = self.classes, self.means if name == MEANS else self.text(name)
        if not negatives:
            return HeadSource(classes, self.fingerprint.logit_scale, weights, None)
        if self.negative.classes != classes:
            owner = self.work.positive if name == "positive" else "this split"
            raise LsnError(
                f"{self.work.negative} was learned for {len(self.negative.classes)} classes that are not "
                f"the {len(classes)} of {owner}.",
                "Name the split that the prompts were trained on, or run `lsn train-neg` again.",
            )
        return HeadSource(classes, self.fingerprint.logit_scale, weights, self._negative_text)

    def text(self, name: str) -> Float64Array:
        """Return the unit text features (C, D) of hand-written prompts: "hand", "ensemble" or a recipe."""
        if self.whole is not None:
            return self.whole.text(name)[[self.whole.classes.index(each) for each in self.classes]]
        if name in RECIPES:
            return self._recipe(name)
        return self._hand if name == "hand" else self._ensemble

    def learned_from(self, name: str, *, negatives: bool) -> set[str]:
        """Return the splits that the prompts or the head ``name`` learned from. Raises as ``source`` does."""
        rules: list[HeldOut | None] = []
        if name == "positive":
            rules.append(self.positive.held_out)
        elif name not in (*TEXT_HEADS, MEANS):
            rules.append(self._learned_head(name).held_out)
        if negatives and name in TEXT_HEADS:
            rules.append(self.negative.held_out)
        return {rule.split for rule in rules if rule is not None}

    def _bound(
        self, text: HeadText, classes: tuple[str, ...], ensemble: bool
    ) -> Float64Array | CosineFunction:
        """Call ``bind_text`` once for each text, so that methods on the same prompts share their cosines."""
        if id(text) not in self._bound_texts:
            self._bound_texts[id(text)] = bind_text(
                text,
                classes,
                lambda: self.tower,
                ensemble=ensemble,
                model=self.fingerprint.digest,
                recent=self.recent,
            )
        return self._bound_texts[id(text)]

    @cached_property
    def _bound_texts(self) -> dict[int, Float64Array | CosineFunction]:
        return {}

    def _learned_head(self, name: str) -> LearnedHead:
        if name not in COMMANDS:
            raise UsageError(f"Head: expected one of {', '.join(HEADS)}, found '{name}'.")
        if name not in self._learned_heads:
            self._learned_heads[name] = load_checked_head(self.work, name)
        return self._learned_heads[name]

    @cached_property
    def _learned_heads(self) -> dict[str, LearnedHead]:
        return {}

    @cached_property
    def positive(self) -> LearnedPrompts:
        """The learned positive prompts. Raises as ``load_checked`` does."""
        return self._learned_prompts("positive")

    @cached_property
    def negative(self) -> LearnedPrompts:
        """The learned negative prompts. Raises as ``load_checked`` does."""
        return self._learned_prompts("negative")

    def _learned_prompts(self, kind: Kind) -> LearnedPrompts:
        return load_checked(self.work, kind) if self.prompts is None else self.prompts[kind]

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the store."""
        return read_fingerprint(self.work.features)

    @property
    def model_code(self) -> tuple[str, ...]:
        """The loader of the store's model, as roots of ``code_of``; empty for imported features."""
        return loader_of(self.fingerprint.model)

    @cached_property
    def backbone(self) -> Backbone:
        """The store's model, loaded on first use, that of ``whole`` if there is one."""
        if self.whole is not None:
            return self.whole.backbone
        return self.model() if self.model else load_again(self.fingerprint)

    @cached_property
    def tower(self) -> TextTower:
        """The text tower of the store's model."""
        return with_text(self.backbone).text_tower()

    @property
    def word_encoder(self) -> WordEncoder:
        """The encoder of words of the store's model."""
        return WordEncoder(self.tower, self.fingerprint.digest, self.model_code)

    @cached_property
    def _hand(self) -> Float64Array:
        """Unit text features (C, D) of ``TEMPLATE`` with each class name.

        Imported class text features of the store take precedence over the text tower. Raises LsnError if
        they lack a class.
        """
        imported = read_text(self.work.features)
        if imported is None:
            return unit(self._templates([TEMPLATE.format])[0])
        names, features = imported
        missing = [name for name in self.classes if name not in names]
        if missing:
            raise LsnError(
                f"The imported text features lack {len(missing)} of {len(self.classes)} classes: "
                f"'{missing[0]}' ...",
                "Import text features for every class with `lsn store import --text`.",
            )
        order = [names.index(name) for name in self.classes]
        return unit(features[order])

    @cached_property
    def means(self) -> Float64Array:
        """Unit mean (C, D) of the unit features of each class, for models without a text encoder.

        Raises LsnError if a class has no row, UsageError without rows.
        """
        if self.rows is None:
            raise UsageError(f"The head '{MEANS}' needs training rows.", "Use it in `lsn eval`.")
        sums = np.zeros((len(self.classes), self.rows.features.shape[1]))
        for part, labels in labelled_chunks(self.rows):
            known = labels != UNLABELLED
            np.add.at(sums, labels[known], part[known])
        missing = np.setdiff1d(np.arange(len(self.classes)), self.rows.labels)
        if len(missing):
            raise LsnError(
                f"The class '{self.classes[missing[0]]}' has no training row, so it has no mean.",
                "Extract images of every class.",
            )
        return unit(sums)

    @cached_property
    def _ensemble(self) -> Float64Array:
        """Unit mean (C, D) of the unit text features of OpenAI's templates (Radford et al., ICML 2021)."""
        return unit(self._templates(openai_templates()).mean(axis=0))

    def _recipe(self, name: str) -> Float64Array:
        """Unit text features (C, D) of a recipe of ``RECIPES``: the unit mean of raw features."""
        code = code_of(encode, *self.model_code, without=(Backbone,))
        texts = RECIPES[name].class_texts(self.classes)
        key = digest("recipe", code, self.fingerprint.digest, texts)
        return unit(self._kept_text(key, lambda: encode(self.tower, texts)))

    def _templates(self, templates: Sequence[Callable[[str], str]]) -> Float64Array:
        """Return unit text features (T, C, D) of ``templates``, from the cache or the text tower."""
        texts = [[template(name) for name in self.classes] for template in templates]
        code = code_of(text_features, *self.model_code, without=(Backbone,))
        key = digest("text", code, self.fingerprint.digest, texts)

        def compute() -> Float64Array:
            tower = self.tower
            return unit(np.stack([text_features(tower, names).cpu().numpy() for names in texts]))

        return self._kept_text(key, compute)

    def _kept_text(self, key: str, compute: Callable[[], FloatArray]) -> Float64Array:
        """Return text features in float64 from the cache, or computed and kept under ``key``."""
        cached = self.cache.get(key)
        features = cached[0]["text"] if cached else compute()
        if not cached:
            self.cache.put(key, {"text": features}, {"what": "text features"})
        return np.asarray(features, dtype=np.float64)

    @cached_property
    def _positive_text(self) -> HeadText:
        return self.positive.head_text

    @cached_property
    def _negative_text(self) -> HeadText:
        return self.negative.head_text


def make_head(
    work: Workspace,
    name: str,
    classes: tuple[str, ...],
    *,
    negatives: bool,
    model: LoadBackbone | None = None,
) -> Head:
    """Return one head of a workspace; see ``Heads.head``."""
    return Heads(work, classes, model).head(name, negatives=negatives)


def load_checked(work: Workspace, kind: Kind) -> LearnedPrompts:
    """Load learned prompts; FingerprintMismatch if they belong to another model than the store."""
    path = work.prompts(kind)
    prompts = load_prompts(path, kind)
    _check_model(work, path, prompts.fingerprint, f"lsn train-{kind[:3]}")
    return prompts


def load_checked_head(work: Workspace, kind: str) -> LearnedHead:
    """Load a learned head; FingerprintMismatch if it belongs to another model than the store.

    Raises LsnError if it was trained on other rows than the learned positive prompts, since it would then
    have seen some of their held-out rows.
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


def _check_model(work: Workspace, path: Path, fingerprint: Fingerprint, command: str) -> None:
    store = read_fingerprint(work.features)
    if fingerprint.digest != store.digest:
        raise FingerprintMismatch(
            f"{path} was learned with another model: expected {store}, found {fingerprint}.",
            f"Run `{command}` again, or use another --work folder.",
        )
