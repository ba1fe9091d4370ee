"""Which images are extracted for a table: a stored split for every part, and the job that makes it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lsncli.bench.jobs import StoreSnapshot, TableRow
from lsncli.bench.subsets import Subset, expected_images, images_a_class, lacking, list_subset
from lsncli.bench.suite_workspace import SuiteWorkspace
from lsncli.bench.tasks import ClassSubset, TaskSplit
from lsncli.errors import LsnError
from lsncli.reference.classes import class_list

WORTH = 0.5
"""A subset is extracted where it leaves out at least this fraction of its set."""

SHOWN = 20
"""Missing classes that a message names."""


@dataclass(frozen=True)
class Extract:
    """A job: the features of a set, or a subset of it, by one model."""

    subset: Subset
    model: str
    suite_work: SuiteWorkspace
    bundle: Path | None = None
    """A store that holds the features of these very images already."""
    classes: tuple[str, ...] = ()
    """The classes that must be there, by name; empty where any will do."""

    @property
    def set(self) -> str:
        """The image set."""
        return self.subset.set

    @property
    def split(self) -> str:
        """Its name in the store."""
        return self.subset.split

    def __str__(self) -> str:
        return f"features of {self.subset}"

    @property
    def label(self) -> str:
        """What seconds of extraction are compared with."""
        if self.bundle:
            return "extract from the suite's features"
        return f"extract by {self.model or self.suite_work.model} on {self.suite_work.device}"

    @cached_property
    def blocked(self) -> str:
        """Why it cannot be done; empty if it can. Class folders are looked at, images are not."""
        if self.bundle:
            return ""
        layout, data = self.suite_work.images(self.set), self.suite_work.data
        if data is None:
            return f"no features of the set '{self.set}', and no --data DIR to make them from"
        if layout is None:
            return f"no features of the set '{self.set}', and no {data / self.set}.tar or folder"
        if not self.classes:
            return ""
        missing = lacking(self.classes, layout, self.suite_work.sets.get(self.set))
        if not missing:
            return ""
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        return (
            f"no images of {len(missing)} of the {len(self.classes)} classes that are needed of the set "
            f"'{self.set}' in {layout.path} ({layout.description}): {', '.join(missing[:SHOWN])}{more}"
        )

    @cached_property
    def images(self) -> int | None:
        """How many images: those listed, or those published where none are there; None if nobody knows."""
        if self.bundle:
            return self.suite_work.bundled[self.set].rows
        known, layout = self.suite_work.sets.get(self.set), self.suite_work.images(self.set)
        if layout is not None and not self.blocked:
            try:
                return len(list_subset(self.subset, layout, known).items)
            except LsnError:
                pass
        return expected_images(self.subset, known)


class StoredSets:
    """Which stored splits hold the images of every part, for one model.

    A subset that is stored is taken, else the whole set if that is stored, came with the suite or is needed
    anyway; else the subset is extracted if it leaves out enough. So what was measured once is found again,
    whatever was extracted since.
    """

    def __init__(
        self,
        suite_work: SuiteWorkspace,
        model: str,
        there: StoreSnapshot,
        todo: Sequence[tuple[TableRow, TaskSplit, int]],
    ) -> None:
        self._desk, self._model, self._there = suite_work, model, there
        self._splits: dict[str, Subset] = {}
        self._classes: dict[str, dict[str, None]] = {}
        asked = [
            one
            for line, place, seed in todo
            if line.model == model
            for one in self._asked(line, place, seed).values()
        ]
        self._wholes = {one.set for one in asked if not self._worth(one)}

    def place(self, line: TableRow, place: TaskSplit, seed: int) -> TaskSplit:
        """``place`` with the stored split of each part; without training images if the line uses none."""
        splits = {part: self._split(part, one) for part, one in self._asked(line, place, seed).items()}
        train = None if place.train is None else splits.get(("train", place.train))
        if train is not None:
            self._need(train, place.known)
        test = splits["test", place.test]
        self._need(test, place.test)
        ood = {}
        for name, part in place.ood.items():
            ood[name] = splits[name, part]
            if part.classes:
                self._need(ood[name], part)
        return replace(place, train=train, test=test, ood=ood)

    def extract(self, split: str) -> Extract:
        """The job that makes a split."""
        subset = self._splits[split]
        bundle = self._desk.bundle if subset.whole and self._bundled(subset.set) else None
        return Extract(subset, self._model, self._desk, bundle, tuple(self._classes.get(split, ())))

    def _asked(self, line: TableRow, place: TaskSplit, seed: int) -> dict[tuple[str, ClassSubset], Subset]:
        """What each part takes of its set, by role."""
        named = "candidates" in line.method_from(seed).needs  # words lie in files named by the set
        found = {
            (role, part): Subset(part.set, () if named else part.classes)
            for role, part in (("test", place.test), *place.ood.items())
        }
        learns = bool(line.learnings) or line.looks_at_rows
        if place.train is not None and (learns or not self._same_classes(place.train, place.test)):
            each = images_a_class(line.shots) if learns else None
            found["train", place.train] = Subset(
                place.train.set, place.train.classes, each, seed if each else 0
            )
        return found

    def _same_classes(self, train: ClassSubset, test: ClassSubset) -> bool:
        """Whether the test images say which classes there are as well as the training images do."""
        lists = [
            self._desk.sets[part.set].class_list for part in (train, test) if part.set in self._desk.sets
        ]
        return bool(train.classes) or (len(lists) == 2 and lists[0] == lists[1] != "")

    def _split(self, role_and_part: tuple[str, ClassSubset], subset: Subset) -> ClassSubset:
        _, part = role_and_part
        if not subset.whole and subset.split not in self._there.sets:
            whole = subset.set in self._there.sets or subset.set in self._wholes
            subset = Subset(subset.set) if whole or self._bundled(subset.set) else subset
        self._splits[subset.split] = subset
        return part if subset.whole else replace(part, set=subset.split, source=part.set)

    def _need(self, stored: ClassSubset, part: ClassSubset) -> None:
        """Note the classes that a split must have."""
        known = self._desk.sets.get(part.set)
        names = part.classes
        if not names and known is not None and known.class_list and known.labelled:
            names = class_list(known.class_list).names
        self._classes.setdefault(stored.set, {}).update(dict.fromkeys(names))

    def _worth(self, subset: Subset) -> bool:
        """Whether to extract a subset alone."""
        if subset.whole:
            return False
        known = self._desk.sets.get(subset.set)
        some, every = expected_images(subset, known), expected_images(Subset(subset.set), known)
        layout = self._desk.images(subset.set)
        if (some is None or every is None) and layout is not None:
            try:
                some = len(list_subset(subset, layout, known).items)
                every = len(layout.listing().items)
            except LsnError:
                return False
        return some is not None and every is not None and some <= (1 - WORTH) * every

    def _bundled(self, name: str) -> bool:
        """Whether the suite brings features of a set, and ``--data`` has no other images of that name."""
        there = self._desk.bundled.get(name) if not self._model else None
        if there is None:
            return False
        layout = self._desk.images(name)
        try:
            return layout is None or layout.listing().digest == there.listing
        except LsnError:
            return False  # extraction will say why
