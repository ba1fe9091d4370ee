"""Where a method is measured: the classes of one split of an ID set, and what it is told from.

A place names sets of the suite's store and classes of theirs; ``load`` makes its rows. Nothing is copied on
the disk: the five splits of CIFAR-10 are five choices from one stored set.
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
    """The images of ``classes`` in a stored set, in this order; every image if no class is named."""

    set: str
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """What prompts call these classes; empty for the names they are stored under."""
    source: str = ""
    """The suite's image set, where the stored ``set`` holds only some images of one."""

    @property
    def image_set(self) -> str:
        """The suite's image set that these are images of."""
        return self.source or self.set

    def of(self, split: Split, name: str) -> Split:
        """These images as a split ``name``; LsnError if the set lacks a class or has no such image."""
        if not self.classes:
            return replace(split, name=name)
        missing = [one for one in self.classes if one not in split.classes]
        if missing:
            raise LsnError(
                f"The set '{self.image_set}' has no class '{missing[0]}' ({len(missing)} of "
                f"{len(self.classes)} are missing); it has {len(split.classes)}, such as "
                f"'{(*split.classes, 'none')[0]}'.",
                "Are these the right images? `lsn datasets verify` names every difference.",
            )
        lookup = np.full(len(split.classes) + 1, UNLABELLED, dtype=np.int32)
        for number, one in enumerate(self.classes):
            lookup[split.classes.index(one)] = number
        labels = lookup[split.labels]  # the last entry answers -1
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
    """One split of an ID set, and the OOD sets by the name that they are reported under."""

    id: str
    split: int
    train: ClassSubset | None
    """None where there is nothing to learn from: then classes are those of ``test``."""
    test: ClassSubset
    ood: Mapping[str, ClassSubset]

    @property
    def known(self) -> ClassSubset:
        """The part that says which classes there are."""
        return self.train or self.test

    @property
    def tested(self) -> tuple[str, ...]:
        """The stored sets whose images are told apart, each once."""
        return tuple(dict.fromkeys(part.set for part in (self.test, *self.ood.values())))

    @property
    def parts(self) -> tuple[ClassSubset, ...]:
        """All its parts."""
        return self.known, self.test, *self.ood.values()

    @property
    def sets(self) -> tuple[str, ...]:
        """The stored sets that it takes, each once."""
        return tuple(dict.fromkeys(part.set for part in self.parts))

    def __str__(self) -> str:
        return f"{self.id}, split {self.split + 1}"


@dataclass(frozen=True, eq=False)
class EvalTask:
    """The rows of a place. Split names are those of the sets, with ``@train``, ``@test`` or ``@<OOD>``.

    Without training images ``train`` has no rows, only classes.
    """

    place: TaskSplit
    train: Split
    test: Split
    ood: Mapping[str, Split]

    def rows(self, shots: int | None, seed: int) -> HoldoutRows:
        """At most ``shots`` training rows a class, as the seed draws them from those not held out.

        Raises LsnError if there are none to learn from.
        """
        if self.place.train is None:
            raise LsnError(f"The ID set '{self.place.id}' has no images to learn from.")
        return hold_out(self.train, HELD_OUT, shots, seed)


class Loader:
    """Reads places from a store; a set once for all the places that follow each other and share it."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._sets: dict[str, Split] = {}

    def load(self, place: TaskSplit) -> EvalTask:
        """The rows of ``place``. Raises LsnError if a set or a class is missing, or an ID class is OOD."""
        self._sets = {name: split for name, split in self._sets.items() if name in place.sets}
        test = self._part(place.test, "test")
        for name, part in place.ood.items():
            _check_disjoint(name, part, place.test)
        train = without_rows(test, "none@train") if place.train is None else self._part(place.train, "train")
        return EvalTask(
            place, train, test, {name: self._part(part, name) for name, part in place.ood.items()}
        )

    def _part(self, part: ClassSubset, role: str) -> Split:
        if part.set not in self._sets:
            self._sets[part.set] = read_split(self._store, part.set)
        found = part.of(self._sets[part.set], f"{part.set}@{role}")
        if len(found.labels) == 0:
            raise LsnError(f"The set '{part.image_set}' has no image for '{role}'.", "Extract it again.")
        return found


def _check_disjoint(name: str, part: ClassSubset, test: ClassSubset) -> None:
    """LsnError if images are ID and OOD at once: their scores would be counted against themselves."""
    both = set(part.classes) & set(test.classes) if part.classes and test.classes else {"every class"}
    if part.image_set == test.image_set and both:
        raise LsnError(f"The set '{test.image_set}' is ID and OOD ('{name}') at once: {sorted(both)[0]}.")
