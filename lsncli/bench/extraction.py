"""Extraction for a table: which stored split holds the images of each part, and the job that extracts it.

Features come with the suite, or from the images in its data folder under the published class names.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsncli.bench.jobs import StoreSnapshot, TableRow
from lsncli.bench.subsets import (
    Subset,
    expected_images,
    images_per_class,
    list_subset,
    missing_classes,
    stored_subset,
)
from lsncli.bench.suite_workspace import SuiteWorkspace
from lsncli.bench.tasks import ClassSubset, TaskSplit
from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.extraction.extract import extract
from lsncli.images.item import Listing
from lsncli.methods.candidates import write_lines
from lsncli.reference.classes import class_list
from lsncli.reference.datasets import Dataset
from lsncli.store.format import SplitInfo
from lsncli.store.reader import list_splits, read_fingerprint, read_split
from lsncli.store.writer import write_split

WORTH = 0.5
"""A subset is extracted by itself if it leaves out at least this fraction of its set."""

SHOWN = 20
"""Number of missing classes that a message names."""


@dataclass(frozen=True)
class Extract:
    """A job: extract the features of a set, or of a subset of it, by one model."""

    subset: Subset
    model: str
    suite_work: SuiteWorkspace
    bundle: Path | None = None
    """A store that came with the suite and holds these features."""
    classes: tuple[str, ...] = ()
    """Names of the classes that the images must have; empty for any."""

    @property
    def set(self) -> str:
        """The image set."""
        return self.subset.set

    @property
    def split(self) -> str:
        """The name of its split in the store."""
        return self.subset.split

    def __str__(self) -> str:
        return f"features of {self.subset}"

    @property
    def label(self) -> str:
        """The label by which its time is estimated."""
        if self.bundle:
            return "extract from the suite's features"
        return f"extract by {self.model or self.suite_work.model} on {self.suite_work.device}"

    @cached_property
    def blocked(self) -> str:
        """Why it cannot run; empty if it can. Checks the folders of classes, not the images."""
        if self.bundle:
            return ""
        layout, data = self.suite_work.images(self.set), self.suite_work.data
        if data is None:
            return f"no features of the set '{self.set}', and no --data DIR to make them from"
        if layout is None:
            return f"no features of the set '{self.set}', and no {data / self.set}.tar or folder"
        if not self.classes:
            return ""
        missing = missing_classes(self.classes, layout, self.suite_work.sets.get(self.set))
        if not missing:
            return ""
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        return (
            f"no images of {len(missing)} of the {len(self.classes)} classes that are needed of the set "
            f"'{self.set}' in {layout.path} ({layout.description}): {', '.join(missing[:SHOWN])}{more}"
        )

    @cached_property
    def images(self) -> int | None:
        """Number of images: as listed, or as published if there are none; None if unknown."""
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
    """The stored splits with the images of every part, for one model.

    A stored subset is used first, then the whole set if it is stored, came with the suite or is needed
    anyway; otherwise the subset is extracted if it leaves out enough. So results stay known, whatever is
    extracted later.
    """

    def __init__(
        self,
        suite_work: SuiteWorkspace,
        model: str,
        store: StoreSnapshot,
        todo: Sequence[tuple[TableRow, TaskSplit, int]],
    ) -> None:
        self._workspace, self._model, self._store = suite_work, model, store
        self._splits: dict[str, Subset] = {}
        self._classes: dict[str, dict[str, None]] = {}
        subsets = [
            subset
            for row, split, seed in todo
            if row.model == model
            for subset in self._subsets(row, split, seed).values()
        ]
        self._wholes = {subset.set for subset in subsets if not self._is_worthwhile(subset)}

    def stored_split(self, row: TableRow, split: TaskSplit, seed: int) -> TaskSplit:
        """``place`` with the stored split of each part; without training images if the line uses none."""
        splits = {key: self._split(key[1], subset) for key, subset in self._subsets(row, split, seed).items()}
        train = None if split.train is None else splits.get(("train", split.train))
        if train is not None:
            self._note_classes(train, split.known)
        test = splits["test", split.test]
        self._note_classes(test, split.test)
        ood = {}
        for name, part in split.ood.items():
            ood[name] = splits[name, part]
            if part.classes:
                self._note_classes(ood[name], part)
        return replace(split, train=train, test=test, ood=ood)

    def extract(self, split: str) -> Extract:
        """Return the job that extracts a split."""
        subset = self._splits[split]
        bundle = self._workspace.bundle if subset.whole and self._bundled(subset.set) else None
        return Extract(subset, self._model, self._workspace, bundle, tuple(self._classes.get(split, ())))

    def _subsets(self, row: TableRow, split: TaskSplit, seed: int) -> dict[tuple[str, ClassSubset], Subset]:
        """The subset of its set that each part needs, by role and part."""
        by_set = "candidates" in row.method_from(seed).needs  # candidates are files of a whole set
        subsets = {
            (role, part): Subset(part.set, () if by_set else part.classes)
            for role, part in (("test", split.test), *split.ood.items())
        }
        learns = bool(row.learnings) or row.fits_rows
        if split.train is not None and (learns or not self._same_classes(split.train, split.test)):
            each = images_per_class(row.shots) if learns else None
            subsets["train", split.train] = Subset(
                split.train.set, split.train.classes, each, seed if each else 0
            )
        return subsets

    def _same_classes(self, train: ClassSubset, test: ClassSubset) -> bool:
        """Whether the test images have the same list of classes as the training images."""
        lists = [
            self._workspace.sets[part.set].class_list
            for part in (train, test)
            if part.set in self._workspace.sets
        ]
        return bool(train.classes) or (len(lists) == 2 and lists[0] == lists[1] != "")

    def _split(self, part: ClassSubset, subset: Subset) -> ClassSubset:
        if not subset.whole and subset.split not in self._store.sets:
            whole = subset.set in self._store.sets or subset.set in self._wholes
            subset = Subset(subset.set) if whole or self._bundled(subset.set) else subset
        self._splits[subset.split] = subset
        return part if subset.whole else replace(part, set=subset.split, source=part.set)

    def _note_classes(self, stored: ClassSubset, part: ClassSubset) -> None:
        """Add to the classes that a split must have."""
        known = self._workspace.sets.get(part.set)
        names = part.classes
        if not names and known is not None and known.class_list and known.labelled:
            names = class_list(known.class_list).names
        self._classes.setdefault(stored.set, {}).update(dict.fromkeys(names))

    def _is_worthwhile(self, subset: Subset) -> bool:
        """Whether to extract a subset by itself."""
        if subset.whole:
            return False
        known = self._workspace.sets.get(subset.set)
        some, every = expected_images(subset, known), expected_images(Subset(subset.set), known)
        layout = self._workspace.images(subset.set)
        if (some is None or every is None) and layout is not None:
            try:
                some = len(list_subset(subset, layout, known).items)
                every = len(layout.listing().items)
            except LsnError:
                return False
        return some is not None and every is not None and some <= (1 - WORTH) * every

    def _bundled(self, name: str) -> bool:
        """Whether the suite came with features of a set, and ``--data`` has no other images of that name."""
        info = self._workspace.bundled.get(name) if not self._model else None
        if info is None:
            return False
        layout = self._workspace.images(name)
        try:
            return layout is None or layout.listing().digest == info.listing
        except LsnError:
            return False  # extraction reports the reason


def extract_set(job: Extract, progress: ProgressCallback = silent) -> int:
    """Extract one set or subset into the store of its model; return the number of images.

    Resumes after a kill. Images with features in another stored split of the same set are not encoded again.
    Raises LsnError if the images are missing or more than a twentieth of them cannot be read.
    """
    suite_work = job.suite_work
    store = suite_work.workspace(job.model).features
    if job.bundle:
        bundled = read_split(job.bundle, job.set)
        write_split(store, bundled, read_fingerprint(job.bundle))
        return len(bundled.labels)
    layout, known = suite_work.images(job.set), suite_work.sets.get(job.set)
    if layout is None or job.blocked:
        raise LsnError(f"There are {job.blocked}.")
    listing = list_subset(job.subset, layout, known)
    extract(
        listing,
        source=layout.path.name,
        store=store,
        split=job.split,
        backbone=suite_work.backbone(job.model),
        batch_size=suite_work.batch_size,
        workers=suite_work.workers,
        names_file=write_class_names(store.with_name("names") / f"{job.split}.json", listing.folders, known),
        known=_stored_features(store, job, listing),
        progress=progress,
    )
    return len(listing.items)


def _stored_features(store: Path, job: Extract, listing: Listing) -> dict[str, NDArray[np.float16]]:
    """Features by key of the images in ``listing`` that other splits hold, unless these are outdated."""
    features: dict[str, NDArray[np.float16]] = {}
    keys = {item.key for item in listing.items}
    for name, info in list_splits(store).items() if store.is_file() else ():
        part = stored_subset(name, info, job.set)
        if part is None or name == job.split or describe_outdated(name, job.set, job.suite_work, info):
            continue
        split = read_split(store, name)
        features |= {key: split.features[row] for row, key in enumerate(split.keys) if key in keys}
    return features


def describe_outdated(split: str, image_set: str, suite_work: SuiteWorkspace, info: SplitInfo) -> str:
    """Return why a stored split does not match the images in the data folder; empty if it matches."""
    layout, part = suite_work.images(image_set), stored_subset(split, info, image_set)
    if layout is None or part is None or not info.listing:
        return ""
    listing = list_subset(part, layout, suite_work.sets.get(image_set))
    if listing.digest == info.listing:
        return ""
    return (
        f"the features of '{image_set}' were made from {info.rows + len(info.failures)} images, and "
        f"{layout.path} now holds {len(listing.items)} that are not the same"
    )


def write_class_names(path: Path, folders: tuple[str, ...], known: Dataset | None) -> Path | None:
    """Write the published name of every folder's class, if the set has a class list; return the path."""
    if known is None or not known.class_list or not folders or not known.labelled:
        return None
    names = class_list(known.class_list).names_of(folders)
    if set(names) != set(folders):
        return None  # other folders than published, which `lsn datasets verify` lists
    write_lines(path, [json.dumps(names)])
    return path
