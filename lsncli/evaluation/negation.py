"""Can CLIP understand "not"? Images choose between "a photo of a [class]" and "not a photo of a [class]"."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError, UsageError
from lsncli.images.names_file import read_name_lines
from lsncli.prompts.layout import TextTower
from lsncli.prompts.text_features import text_features
from lsncli.scores.common import CHUNK, cosines
from lsncli.store.format import Split
from lsncli.store.reader import list_splits
from lsncli.types import UNLABELLED, Float64Array, FloatArray, Labels

YES, NO = "a photo of a {}", "not a photo of a {}"
"""The two descriptions of the paper's appendix K; {} stands for the class name."""

FOREIGN = -2
"""The label of an image whose class is known not to be among those asked for."""

CELLS = 2**23
"""Cosines at a time, 64 MiB a matrix: with many classes fewer rows are taken than ``CHUNK``."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Some images: raw ``features`` (n, D), ``labels`` (n,) and ``keys``.

    A label is a class index, ``UNLABELLED`` or ``FOREIGN``.
    """

    features: FloatArray
    labels: Labels
    keys: Sequence[str]


@dataclass(frozen=True)
class DescriptionPair:
    """The two descriptions of every class as unit text features, each (C, D)."""

    classes: tuple[str, ...]
    yes: Float64Array
    no: Float64Array


@dataclass(frozen=True)
class ChoiceCounts:
    """Counts of images, one entry a class (C,). A tie is a choice of the positive description.

    ``yes`` and ``no`` are the paper's bars: how many of all images chose each description of the class.
    ``own_yes`` and ``own_no`` are those of images of the class itself, ``other_yes`` and ``other_no`` of
    labelled images of other classes: unlabelled images are in neither. ``fooled`` counts, over ``pairs``, the
    pairs of an image of the class and another class in which "not [own class]" scores above "not [other
    class]", the wrong answer of Figure 3. ``margin`` is the mean over images of cosine(positive) -
    cosine("not").
    """

    classes: tuple[str, ...]
    images: int
    yes: Counts
    no: Counts
    own_yes: Counts
    own_no: Counts
    other_yes: Counts
    other_no: Counts
    fooled: Counts
    pairs: Counts
    margin: Float64Array


@dataclass(frozen=True)
class Shares:
    """Over all images and classes, fractions; NaN where there is nothing to count.

    A model that understands "not" has ``no_of_own`` 0, ``no_of_other`` 1 and ``fooled`` 0; by guessing, a
    half each.
    """

    no: float
    no_of_own: float
    no_of_other: float
    fooled: float


class _Running:
    """Counts of the parts seen so far."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes, count = classes, len(classes)
        self.images = self.labelled = 0
        self.yes, self.own_yes, self.labelled_yes = (np.zeros(count, np.int64) for _ in range(3))
        self.own_images, self.fooled = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.margin = np.zeros(count)

    def add(self, yes: Float64Array, no: Float64Array, labels: Labels) -> None:
        """Count images by their cosines (n, C) with both descriptions."""
        count, chosen = len(self.classes), yes >= no
        known, own = labels != UNLABELLED, np.flatnonzero(labels >= 0)
        of = labels[own]
        self.images += len(labels)
        self.labelled += int(known.sum())
        self.yes += chosen.sum(axis=0)
        self.labelled_yes += chosen[known].sum(axis=0)
        self.own_images += np.bincount(of, minlength=count)
        self.own_yes += np.bincount(of[chosen[own, of]], minlength=count)
        np.add.at(self.fooled, of, (no[own] < no[own, of][:, None]).sum(axis=1))
        self.margin += (yes - no).sum(axis=0)

    def counts(self) -> ChoiceCounts:
        other_yes = self.labelled_yes - self.own_yes
        return ChoiceCounts(
            classes=self.classes,
            images=self.images,
            yes=self.yes,
            no=self.images - self.yes,
            own_yes=self.own_yes,
            own_no=self.own_images - self.own_yes,
            other_yes=other_yes,
            other_no=self.labelled - self.own_images - other_yes,
            fooled=self.fooled,
            pairs=self.own_images * (len(self.classes) - 1),
            margin=self.margin / max(self.images, 1),
        )


def encode_descriptions(
    tower: TextTower, classes: Sequence[str], yes: str = YES, no: str = NO
) -> DescriptionPair:
    """Both descriptions of every class through the text tower.

    Raises UsageError if a template has no {} or both are the same, LsnError without classes.
    """
    for option, template in (("--yes", yes), ("--no", no)):
        if "{}" not in template:
            raise UsageError(f"{option}: expected {{}} where the class name stands, found '{template}'.")
    if yes == no:
        raise UsageError(f"--yes and --no are the same: '{yes}'.", "Write two descriptions that differ.")
    if not classes:
        raise LsnError("There are no classes to ask about.", "Name them with --classes FILE, one a line.")

    def features(template: str) -> Float64Array:
        # Not str.format: a class name or a template may hold other braces.
        found = text_features(tower, [template.replace("{}", name) for name in classes])
        return found.cpu().numpy().astype(np.float64)

    return DescriptionPair(tuple(classes), features(yes), features(no))


def count_choices(pair: DescriptionPair, parts: Iterable[LabelledFeatures]) -> ChoiceCounts:
    """Let every image choose between the descriptions of every class, a bounded block at a time.

    Raises LsnError for features of another model than the texts, and if there are no images.
    """
    running = _Running(pair.classes)
    for part in blocks(parts, len(pair.classes)):
        yes, no = cosines(part.features, pair.yes), cosines(part.features, pair.no)
        running.add(yes, no, part.labels)
    if not running.images:
        raise LsnError("There is no image to ask about.", "Name other images or another --split.")
    return running.counts()


def choice_rows(pair: DescriptionPair, parts: Iterable[LabelledFeatures]) -> Iterator[dict[str, object]]:
    """Every image with every class, as Figures 3, 4 and 8 show a few: both cosines and the choice."""
    for part in blocks(parts, len(pair.classes)):
        yes, no = cosines(part.features, pair.yes), cosines(part.features, pair.no)
        for row, (key, label) in enumerate(zip(part.keys, part.labels, strict=True)):
            for at, name in enumerate(pair.classes):
                yield {
                    "path": key,
                    "class": name,
                    "own": None if label == UNLABELLED else bool(label == at),
                    "cosine_yes": float(yes[row, at]),
                    "cosine_no": float(no[row, at]),
                    "choice": "yes" if yes[row, at] >= no[row, at] else "no",
                }


def total_shares(found: ChoiceCounts) -> Shares:
    """What all classes say together."""

    def share(part: Counts, rest: Counts) -> float:
        total = int(part.sum()) + int(rest.sum())
        return int(part.sum()) / total if total else float("nan")

    return Shares(
        no=share(found.no, found.yes),
        no_of_own=share(found.own_no, found.own_yes),
        no_of_other=share(found.other_no, found.other_yes),
        fooled=share(found.fooled, found.pairs - found.fooled),
    )


def blocks(parts: Iterable[LabelledFeatures], classes: int) -> Iterator[LabelledFeatures]:
    """The same rows, so few at a time that a matrix of cosines has at most ``CELLS`` entries."""
    rows = max(1, min(CHUNK, CELLS // classes))
    for part in parts:
        for start in range(0, len(part.labels), rows):
            here = slice(start, start + rows)
            yield LabelledFeatures(part.features[here], part.labels[here], part.keys[here])


def choose_classes(store: Path, train: str, file: Path | None, own: Sequence[str]) -> tuple[str, ...]:
    """Class names from ``file``, else those of the training split, else the images' ``own``.

    Raises UsageError for a file that cannot be read, is empty or names a class twice.
    """
    if file is None:
        splits = list_splits(store) if store.is_file() else {}
        known = splits[train].classes if train in splits else ()
        return known or tuple(own)
    names = [" ".join(line.split()) for line in read_name_lines(file)]
    if not names or len(set(names)) < len(names):
        wrong = next((name for name in names if names.count(name) > 1), "")
        found = f"'{wrong}' twice" if wrong else "none"
        raise UsageError(f"--classes {file}: expected class names, one a line, found {found}.")
    return tuple(names)


def labels_among(labels: Labels, own: Sequence[str], classes: Sequence[str]) -> Labels:
    """``labels`` (N,) of the images' ``own`` classes as indices of ``classes``, by name.

    ``FOREIGN`` where the class is not among them, ``UNLABELLED`` as it was.
    """
    number = {name: index for index, name in enumerate(classes)}
    table = np.array([*(number.get(name, FOREIGN) for name in own), UNLABELLED], dtype=np.int32)
    return table[labels]  # UNLABELLED is -1, the last


def labelled_features(split: Split, classes: Sequence[str]) -> LabelledFeatures:
    """A stored split with its labels among ``classes``."""
    return LabelledFeatures(split.features, labels_among(split.labels, split.classes, classes), split.keys)
