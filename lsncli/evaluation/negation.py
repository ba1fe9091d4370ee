"""The test of "not": each image chooses between "a photo of a [class]" and "not a photo of a [class]"."""

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
"""The two descriptions of the paper's appendix K; {} is the class name."""

FOREIGN = -2
"""The label of an image of a class that is known and is not one of the tested classes."""

CELLS = 2**23
"""Entries of a matrix of cosines, 64 MiB: with many classes, fewer rows than ``CHUNK`` are taken."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Raw ``features`` (n, D), ``labels`` (n,) and ``keys`` of some images.

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
    """Counts of images by class, each of shape (C,). A tie counts as the positive description.

    ``yes`` and ``no`` are the paper's bars: how many of all images chose each description of the class.
    ``own_yes`` and ``own_no`` count images of the class itself, ``other_yes`` and ``other_no`` labelled
    images of other classes; unlabelled images are in neither. ``fooled`` counts, out of ``pairs``, the pairs
    of an image of the class and another class in which "not [own class]" scores above "not [other class]",
    the wrong answer of Figure 3. ``margin`` is the mean over images of cosine(positive) - cosine("not").
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
    """Fractions over all images and classes; NaN if there is nothing to count.

    A model that understands "not" has ``no_of_own`` 0, ``no_of_other`` 1 and ``fooled`` 0; at chance, each is
    0.5.
    """

    no: float
    no_of_own: float
    no_of_other: float
    fooled: float


class _Counter:
    """Counts of the images added so far."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes, count = classes, len(classes)
        self.images = self.labelled = 0
        self.yes, self.own_yes, self.labelled_yes = (np.zeros(count, np.int64) for _ in range(3))
        self.own_images, self.fooled = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.margin = np.zeros(count)

    def add(self, yes: Float64Array, no: Float64Array, labels: Labels) -> None:
        """Add images by their cosines (n, C) with both descriptions."""
        count, chosen = len(self.classes), yes >= no
        labelled, own = labels != UNLABELLED, np.flatnonzero(labels >= 0)
        classes = labels[own]
        self.images += len(labels)
        self.labelled += int(labelled.sum())
        self.yes += chosen.sum(axis=0)
        self.labelled_yes += chosen[labelled].sum(axis=0)
        self.own_images += np.bincount(classes, minlength=count)
        self.own_yes += np.bincount(classes[chosen[own, classes]], minlength=count)
        np.add.at(self.fooled, classes, (no[own] < no[own, classes][:, None]).sum(axis=1))
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
    """Encode both descriptions of each class with the text tower.

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
        rows = text_features(tower, [template.replace("{}", name) for name in classes])
        return rows.cpu().numpy().astype(np.float64)

    return DescriptionPair(tuple(classes), features(yes), features(no))


def count_choices(pair: DescriptionPair, parts: Iterable[LabelledFeatures]) -> ChoiceCounts:
    """Count which description of each class each image chooses, a bounded block of images at a time.

    Raises LsnError for features of another model than the texts, and without images.
    """
    counter = _Counter(pair.classes)
    for part in blocks(parts, len(pair.classes)):
        yes, no = cosines(part.features, pair.yes), cosines(part.features, pair.no)
        counter.add(yes, no, part.labels)
    if not counter.images:
        raise LsnError("There is no image to ask about.", "Name other images or another --split.")
    return counter.counts()


def choice_rows(pair: DescriptionPair, parts: Iterable[LabelledFeatures]) -> Iterator[dict[str, object]]:
    """Yield a row for each image and class, as in Figures 3, 4 and 8: both cosines and the choice."""
    for part in blocks(parts, len(pair.classes)):
        yes, no = cosines(part.features, pair.yes), cosines(part.features, pair.no)
        for row, (key, label) in enumerate(zip(part.keys, part.labels, strict=True)):
            for index, name in enumerate(pair.classes):
                yield {
                    "path": key,
                    "class": name,
                    "own": None if label == UNLABELLED else bool(label == index),
                    "cosine_yes": float(yes[row, index]),
                    "cosine_no": float(no[row, index]),
                    "choice": "yes" if yes[row, index] >= no[row, index] else "no",
                }


def total_shares(counts: ChoiceCounts) -> Shares:
    """Return the fractions over all classes."""

    def share(part: Counts, rest: Counts) -> float:
        total = int(part.sum()) + int(rest.sum())
        return int(part.sum()) / total if total else float("nan")

    return Shares(
        no=share(counts.no, counts.yes),
        no_of_own=share(counts.own_no, counts.own_yes),
        no_of_other=share(counts.other_no, counts.other_yes),
        fooled=share(counts.fooled, counts.pairs - counts.fooled),
    )


def blocks(parts: Iterable[LabelledFeatures], classes: int) -> Iterator[LabelledFeatures]:
    """Yield the same rows in blocks whose matrix of cosines has at most ``CELLS`` entries."""
    rows = max(1, min(CHUNK, CELLS // classes))
    for part in parts:
        for start in range(0, len(part.labels), rows):
            block = slice(start, start + rows)
            yield LabelledFeatures(part.features[block], part.labels[block], part.keys[block])


def choose_classes(store: Path, train: str, file: Path | None, own: Sequence[str]) -> tuple[str, ...]:
    """Return the class names of ``file``, else of the training split, else the images' ``own``.

    Raises UsageError for a file that cannot be read, is empty or names a class twice.
    """
    if file is None:
        splits = list_splits(store) if store.is_file() else {}
        known = splits[train].classes if train in splits else ()
        return known or tuple(own)
    names = [" ".join(line.split()) for line in read_name_lines(file)]
    if not names or len(set(names)) < len(names):
        repeated = next((name for name in names if names.count(name) > 1), "")
        problem = f"'{repeated}' twice" if repeated else "none"
        raise UsageError(f"--classes {file}: expected class names, one a line, found {problem}.")
    return tuple(names)


def labels_among(labels: Labels, own: Sequence[str], classes: Sequence[str]) -> Labels:
    """Return ``labels`` (N,) of the images' ``own`` classes as indices into ``classes``, by name.

    A class that is not in ``classes`` becomes ``FOREIGN``; ``UNLABELLED`` stays.
    """
    number = {name: index for index, name in enumerate(classes)}
    table = np.array([*(number.get(name, FOREIGN) for name in own), UNLABELLED], dtype=np.int32)
    return table[labels]  # UNLABELLED is -1, the last


def labelled_features(split: Split, classes: Sequence[str]) -> LabelledFeatures:
    """Return the rows of a stored split with labels as indices into ``classes``."""
    return LabelledFeatures(split.features, labels_among(split.labels, split.classes, classes), split.keys)
