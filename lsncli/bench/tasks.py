"""The splits of an ID set on which a method is measured, and their rows.

A split names stored sets and some of their classes; ``Loader`` reads its rows. Nothing is copied on the disk:
the five splits of CIFAR-10 are five choices from one stored set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lsncli.errors import LsnError
from lsncli.methods.holdout import HoldoutRows, hold_out, without_rows
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.types import UNLABELLED

HELD_OUT = 0.2
"""Fraction of each class of the training set that nothing learns from, as with ``lsn train-pos``."""


@dataclass(frozen=True)
class ClassSubset:
    """The images of some classes of a stored set, in this order; all images if ``classes`` is empty."""

    set: str
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Names of these classes in prompts; empty for the names in the store."""
    source: str = ""
    """The image set of the suite, where the stored ``set`` holds only some of its images; else empty."""

    @property
    def image_set(self) -> str:
        """The image set of the suite that the images come from."""
        return self.source or self.set

    def of(self, split: Split, name: str) -> Split:
        """Return these images of ``split`` as a split ``name``. Raises LsnError if the set lacks a class."""
        if not self.classes:
            return replace(split, name=name)
        missing = [label for label in self.classes if label not in split.classes]
        if missing:
            raise LsnError(
                f"The set '{self.image_set}' has no class '{missing[0]}' ({len(missing)} of "
                f"{len(self.classes)} are missing); it has {len(split.classes)}, such as "
                f"'{(*split.classes, 'none')[0]}'.",
                "Are these the right images? `lsn datasets verify` names every difference.",
            )
        lookup = np.full(len(split.classes) + 1, UNLABELLED, dtype=np.int32)
        for number, label in enumerate(self.classes):
            lookup[split.classes.index(label)] = number
        labels = lookup[split.labels]  # -1, no class, reads the last entry
        chosen = np.flatnonzero(labels != UNLABELLED)
        return Split(
            name=name,
            features=split.features[chosen],
            labels=labels[chosen],
            keys=tuple(split.keys[row] for row in chosen.tolist()),
            classes=self.names or self.classes,
            source=split.source,
        )


@dataclass(frozen=True)
class TaskSplit:
    """One split of an ID set, and its OOD sets by the name that results have."""

    id: str
    number: int
    train: ClassSubset | None
    """None where there is nothing to learn from; then the classes are those of ``test``."""
    test: ClassSubset
    ood: Mapping[str, ClassSubset]

    @property
    def known(self) -> ClassSubset:
        """The part that defines the classes."""
        return self.train or self.test

    @property
    def tested(self) -> tuple[str, ...]:
        """The stored sets whose images are scored, each once."""
        return tuple(dict.fromkeys(part.set for part in (self.test, *self.ood.values())))

    @property
    def parts(self) -> tuple[ClassSubset, ...]:
        """Training, test and OOD images."""
        return self.known, self.test, *self.ood.values()

    @property
    def sets(self) -> tuple[str, ...]:
        """The stored sets of all parts, each once."""
        return tuple(dict.fromkeys(part.set for part in self.parts))

    def __str__(self) -> str:
        return f"{self.id}, split {self.number + 1}"


@dataclass(frozen=True, eq=False)
class EvalTask:
    """The rows of a ``TaskSplit``, named by their sets with ``@train``, ``@test`` or ``@<OOD>``.

    Without training images ``train`` has classes but no rows.
    """

    split: TaskSplit
    train: Split
    test: Split
    ood: Mapping[str, Split]

    def rows(self, shots: int | None, seed: int) -> HoldoutRows:
        """Return at most ``shots`` training rows per class, drawn by the seed from those not held out.

        Raises LsnError if there are no training images.
        """
        if self.split.train is None:
            raise LsnError(f"The ID set '{self.split.id}' has no images to learn from.")
        return hold_out(self.train, HELD_OUT, shots, seed)


class Loader:
    """Read splits from a store; consecutive splits that share a set read it once."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._sets: dict[str, Split] = {}

    def load(self, split: TaskSplit) -> EvalTask:
        """Return the rows of ``split``. Raises LsnError for a missing set or class, or an ID class in OOD."""
        self._sets = {name: rows for name, rows in self._sets.items() if name in split.sets}
        test = self._part(split.test, "test")
        for name, part in split.ood.items():
            _check_disjoint(name, part, split.test)
        train = without_rows(test, "none@train") if split.train is None else self._part(split.train, "train")
        return EvalTask(
            split, train, test, {name: self._part(part, name) for name, part in split.ood.items()}
        )

    def _part(self, part: ClassSubset, role: str) -> Split:
        if part.set not in self._sets:
            self._sets[part.set] = read_split(self._store, part.set)
        rows = part.of(self._sets[part.set], f"{part.set}@{role}")
        if len(rows.labels) == 0:
            raise LsnError(f"The set '{part.image_set}' has no image for '{role}'.", "Extract it again.")
        return rows


def _check_disjoint(name: str, part: ClassSubset, test: ClassSubset) -> None:
    """Raise LsnError for images that are ID and OOD at once: they would be compared with themselves."""
    both = set(part.classes) & set(test.classes) if part.classes and test.classes else {"every class"}
    if part.image_set == test.image_set and both:
        raise LsnError(f"The set '{test.image_set}' is ID and OOD ('{name}') at once: {sorted(both)[0]}.")
