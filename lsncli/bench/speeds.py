"""The speed of this machine for the jobs of a suite: a short probe that needs no data set.

The probe runs a little of each kind of work on random inputs: it decodes and encodes images, learns prompts
for a few classes and fits scores on a few rows. Times are then scaled by text passes, images, or rows times
classes.
"""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image

from lsncli.backbones import Backbone, load_untrained, with_text
from lsncli.bench.suite_workspace import SuiteWorkspace
from lsncli.bench.training_jobs import LearningSpec
from lsncli.console import say
from lsncli.device import pick_device, threads_for
from lsncli.errors import LsnError, Unavailable
from lsncli.extraction.estimate import probe
from lsncli.images.item import ImageItem, Listing
from lsncli.methods.spec import Method
from lsncli.prompts.cocoop import conditional_cosines
from lsncli.prompts.layout import TextTower
from lsncli.prompts.learner import LearnedContexts, learn, settings_layout, steps
from lsncli.prompts.settings import PromptSettings
from lsncli.reference.classes import class_list
from lsncli.scores import load_score
from lsncli.training.linear_probe import choose_probe
from lsncli.types import Head, Rows, unit

SECONDS = 1.5
"""Of each measurement, after the warm-up."""

BATCH = 4
"""Batch size on a CPU: about as fast per image as 16, and done earlier."""

PASSES = 8
"""Text passes of a measured training step; more if that is fast."""

STEPS, MORE_STEPS = 3, 30
MOST_CLASSES = 256

SIDE = (500, 375)
"""Size of an image: about the mean of ImageNet's."""

CLASSES, ROWS_A_CLASS, SCORED = 100, 4, 512
"""Training rows of scores and linear probes, and rows to score; fewer classes would measure overhead."""


@dataclass(frozen=True)
class _Picture:
    """A JPEG in memory, the content of every item of a listing."""

    data: bytes

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.data)

    def read(self, offset: int, size: int | None) -> bytes:
        """All of it."""
        return self.data


class Speeds:
    """The speeds of a suite's models on this machine; each is measured once, on first use.

    ``reasons`` says why a model could not be measured.
    """

    def __init__(self, suite_work: SuiteWorkspace, *, quiet: bool = False) -> None:
        self._workspace, self._quiet = suite_work, quiet
        self._models: dict[str, _Model | None] = {}
        self.reasons: dict[str, str] = {}

    def images(self, model: str) -> float | None:
        """Return images per second, decoded and encoded; None if the model is missing."""
        one = self._of(model)
        return one.images() if one else None

    def learning(self, model: str, learning: LearningSpec, rows: int, classes: int) -> float | None:
        """Return the seconds of a training; None if the model is missing."""
        one = self._of(model)
        if one is None:
            return None
        if learning.settings is None:
            return one.linear() * rows * classes
        return learning.work(rows, classes) * one.learning(learning.settings)

    def scoring(
        self,
        model: str,
        method: Method,
        learnings: Sequence[LearningSpec],
        train: int,
        rows: int,
        classes: int,
    ) -> float | None:
        """Return the seconds to fit a method on ``train`` rows and score ``rows``; None without the model."""
        one = self._of(model)
        if one is None:
            return None
        conditional = [one.settings for one in learnings if one.settings and one.settings.learner == "cocoop"]
        text = sum(one.scoring(settings) * settings.sets for settings in conditional)
        cost = one.score(method)
        compared = train if cost.keeps_rows else classes
        return cost.fit * train * classes + rows * (classes * text + compared * cost.score)

    def _of(self, model: str) -> "_Model | None":
        if model not in self._models:
            name = model or self._workspace.model
            say(f"Measuring what {name} does in a second here (up to 20 s) ...", quiet=self._quiet)
            try:
                self._models[model] = _Model(self._backbone(model, name), self._workspace)
            except LsnError as error:
                self._models[model], self.reasons[model] = None, f"{name}: {error}"
        return self._models[model]

    def _backbone(self, model: str, name: str) -> Backbone:
        """The model, with random weights if its own are missing."""
        try:
            return self._workspace.backbone(model)
        except Unavailable:
            backbone = load_untrained(name, device=self._workspace.device)
            if backbone is None:
                raise
            say(f"The weights of {name} are not here; random weights take as long.", quiet=self._quiet)
            return backbone


@dataclass(frozen=True)
class _Score:
    """Seconds to fit per training row and class, and to score per row and class (or training row)."""

    fit: float
    score: float
    keeps_rows: bool
    """Whether scoring compares images with every training row."""


class _Model:
    """The speeds of one loaded model."""

    def __init__(self, backbone: Backbone, suite_work: SuiteWorkspace) -> None:
        self._backbone, self._workspace = backbone, suite_work
        self._random = np.random.default_rng(0)
        self.images = cache(self._images)
        self.linear = cache(self._linear)
        self._tower = cache(lambda precision: with_text(backbone).text_tower(precision=precision))
        self._learning: dict[tuple[int, str], float] = {}
        self._scoring: dict[tuple[int, str], float] = {}
        self._scores: dict[str, _Score] = {}

    def _images(self) -> float:
        picture = _Picture(_jpeg(self._random))
        items = tuple(ImageItem(f"{n}.jpg", "probe", 0, picture.size, picture) for n in range(64))
        listing = Listing(items, (), (), 0)
        on_cpu = pick_device(self._workspace.device).type == "cpu"
        batch, workers = BATCH if on_cpu else self._workspace.batch_size, self._workspace.workers
        found = probe(listing, self._backbone, batch_size=batch, workers=workers, seconds=SECONDS)
        return found.images_per_second

    def learning(self, settings: PromptSettings) -> float:
        """Return seconds per text pass of a training step, for prompts of this length."""
        key = settings.length, settings.precision
        if key not in self._learning:
            tower = self._tower(settings.precision)
            with threads_for(tower.vocabulary.width):
                self._learning[key] = _learning_seconds(tower, settings, self._rows)
        return self._learning[key]

    def scoring(self, settings: PromptSettings) -> float:
        """Return seconds per text pass of scoring, for prompts of this length that depend on the image."""
        key = settings.length, settings.precision
        if key not in self._scoring:
            tower = self._tower(settings.precision)
            with threads_for(tower.vocabulary.width):
                self._scoring[key] = _scoring_seconds(tower, settings, self._rows)
        return self._scoring[key]

    def _linear(self) -> float:
        """Seconds per row and class of a linear probe."""
        rows, held = self._rows(CLASSES, ROWS_A_CLASS), self._rows(CLASSES, 1)
        began = time.perf_counter()
        choose_probe(rows, held, CLASSES, pick_device(self._workspace.device))
        return (time.perf_counter() - began) / (len(rows) * CLASSES)

    def score(self, method: Method) -> _Score:
        """Return the cost of a method without text passes."""
        if str(method) not in self._scores:
            self._scores[str(method)] = self._score(method)
        return self._scores[str(method)]

    def _score(self, method: Method) -> _Score:
        rows, scored = self._rows(CLASSES, ROWS_A_CLASS), self._rows(1, SCORED).features
        text = unit(self._random.normal(size=(4, CLASSES, scored.shape[1])))
        head = Head(tuple(map(str, range(CLASSES))), text[0], 100.0, text[1:], np.zeros(CLASSES))
        settings = method.settings | ({"k": 50} if "k" in method.settings else {})
        device = str(pick_device(self._workspace.device))
        try:
            score = load_score(method.score, **settings)
            began = time.perf_counter()
            learned = score.fit(head, rows, device)
            fitted = time.perf_counter()
            score.scorer(head, learned, device)(scored)
        except LsnError:  # it needs more than features; it takes at least the time of cosines
            return self._score(Method("mcm", "hand", {}))
        took = time.perf_counter() - fitted
        kept = any(len(one) == len(rows) for one in learned.values() if one.ndim)
        compared = len(rows) if kept else CLASSES
        return _Score((fitted - began) / (len(rows) * CLASSES), took / (SCORED * compared), kept)

    def _rows(self, classes: int, each: int) -> Rows:
        """Random labelled features of the model's size."""
        labels = np.repeat(np.arange(classes, dtype=np.int32), each)
        features = self._random.normal(size=(len(labels), self._backbone.fingerprint.dim))
        return Rows(features.astype(np.float16), labels)


RowsOf = Callable[[int, int], Rows]
"""Random rows: number of classes, rows per class."""


def _few_names(settings: PromptSettings) -> tuple[str, ...]:
    """Classes for about ``PASSES`` text passes."""
    return class_list("imagenet1k").names[: max(2, PASSES // settings.sets)]


def _learning_seconds(tower: TextTower, settings: PromptSettings, rows_of: RowsOf) -> float:
    """Seconds per text pass over some steps for a few classes, or for more if these are fast."""
    names = _few_names(settings)
    _, found = _learned(tower, settings, names, rows_of, STEPS)
    step = found * len(names) * settings.sets
    if step * MORE_STEPS < SECONDS:
        more = int(min(MOST_CLASSES, len(names) * SECONDS / (step * MORE_STEPS)))
        _, found = _learned(tower, settings, class_list("imagenet1k").names[:more], rows_of, MORE_STEPS)
    return found


def _learned(
    tower: TextTower, settings: PromptSettings, names: Sequence[str], rows_of: RowsOf, count: int
) -> tuple[LearnedContexts, float]:
    """Contexts after ``count`` steps, and seconds per text pass without the first step, which warms up."""
    taken: list[float] = []
    short = replace(settings, epochs=1, warmup=0, turns=False)
    wanted = count * short.batch_size
    rows = rows_of(len(names), -(-wanted // len(names)))
    rows = Rows(rows.features[:wanted], rows.labels[:wanted])
    learned = learn(
        tower, rows, names, short, progress=lambda step, note="": taken.append(time.perf_counter())
    )
    per_step = LearningSpec(short.kind, short).work(len(rows), len(names)) / steps(len(rows), short)
    return learned, (taken[-1] - taken[0]) / max(1, len(taken) - 1) / per_step


def _scoring_seconds(tower: TextTower, settings: PromptSettings, rows_of: RowsOf) -> float:
    """Seconds per text pass of scoring by prompts that depend on the image."""
    names = _few_names(settings)
    learned, _ = _learned(tower, settings, names, rows_of, 1)
    layout = settings_layout(tower, names, settings)
    cosines = conditional_cosines(tower, learned.contexts, learned.meta, layout)
    cosines(rows_of(1, 1).features)
    images, began = 0, time.perf_counter()
    while not images or (images < MORE_STEPS and time.perf_counter() - began < SECONDS / 2):
        cosines(rows_of(1, 2).features)
        images += 2
    return (time.perf_counter() - began) / (images * len(names) * settings.sets)


def _jpeg(random: np.random.Generator) -> bytes:
    """A JPEG of random patches with the size and the decoding time of a photo."""
    patches = random.integers(0, 256, size=(SIDE[1] // 8, SIDE[0] // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(patches).resize(SIDE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()
