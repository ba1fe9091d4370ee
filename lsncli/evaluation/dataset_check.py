"""Which image sets are there, and whether they hold what they should: counted, never decoded."""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lsncli.errors import LsnError
from lsncli.images.cifar import is_cifar
from lsncli.images.dataset_layouts import (
    AnnotatedLayout,
    CifarLayout,
    DatasetLayout,
    FolderLayout,
    TarLayout,
    UnlabelledLayout,
    class_folders,
    find_annotations,
)
from lsncli.images.item import Listing, is_image
from lsncli.images.locations import expand_braces
from lsncli.reference.classes import class_list
from lsncli.reference.datasets import Dataset
from lsncli.types import UNLABELLED


@dataclass(frozen=True)
class Finding:
    """One thing that was counted: what is expected (None = any number) and what is there."""

    what: str
    """"images", "classes", "images of 'tench'", "class 'tench'", or a file that cannot be listed."""
    expected: int | str | None
    found: int | str
    ok: bool


@dataclass(frozen=True)
class Verified:
    """A set that is there: ``findings`` are its images, its classes, then every difference of a class."""

    dataset: Dataset
    path: Path
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


def locate(data: Path, dataset: Dataset) -> DatasetLayout | None:
    """Find a set in the layouts that people have it in; None if it is not there.

    The folder ``data/<name>`` and ``data/<name>.tar`` come first, then the set's ``places`` in their order,
    then the name in any spelling. Nothing is read but folders, and files that say where labels are.
    """
    exact = [path for path in (data / dataset.name, data / f"{dataset.name}.tar") if path.exists()]
    spelled = _spelled(data, dataset.name) or _spelled(data, f"{dataset.name}.tar")
    names = [name for place in dataset.places for name in expand_braces(place)]
    other = [path for name in names if (path := _spelled(data, name)) and _beside(path, dataset.beside)]
    weak: list[DatasetLayout] = []
    for path in [*exact, *other, *([spelled] if spelled else [])]:
        if path in other and dataset.cifar and (cifar := _as_cifar(path, dataset)):
            return cifar
        layout, sure = _recognised(path, data, dataset)
        if layout is not None and sure:
            return layout
        if layout is not None and (path in exact or isinstance(layout, UnlabelledLayout)):
            weak.append(layout)
    return next(iter(weak), None)


def _as_cifar(path: Path, dataset: Dataset) -> DatasetLayout | None:
    known = class_list(dataset.class_list)
    there = is_cifar(path, len(known), dataset.cifar)
    return CifarLayout(path, len(known), dataset.cifar, known.names) if there else None


def _recognised(path: Path, data: Path, dataset: Dataset) -> tuple[DatasetLayout | None, bool]:
    """The layout at ``path``, and whether it is one that holds the set for sure."""
    known = class_list(dataset.class_list) if dataset.class_list else None
    if path.is_file():
        return (TarLayout(path), True) if path.suffix.lower() == ".tar" else (None, False)
    if known is None or not dataset.labelled or any(known.key_of(name) for name in class_folders(path)):
        return FolderLayout(path), True
    inside = _spelled(path, "images")
    for flat in filter(None, (path, inside)):
        if _has_images(flat):
            labels = find_annotations(flat, data)
            return (AnnotatedLayout(flat, labels), True) if labels else (UnlabelledLayout(flat), False)
    return FolderLayout(path), False


def _spelled(root: Path, relative: str) -> Path | None:
    """``root/relative`` in any spelling: case, blanks, '-' and '_' do not matter; an equal name wins."""
    path = root
    for part in relative.split("/"):
        try:
            names = sorted(os.listdir(path))
        except OSError:
            return None
        fits = [name for name in names if _plain(name) == _plain(part)]
        if not fits:
            return None
        path /= part if part in fits else fits[0]
    return path


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.casefold())


def _beside(path: Path, name: str) -> bool:
    """Whether the file ``name`` lies beside ``path``, or does not for ``!name``; True for no name."""
    there = (path.parent / name.removeprefix("!")).is_file()
    return there != name.startswith("!") if name else True


def _has_images(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(is_image(entry.name) for entry in entries)
    except OSError:
        return False


def verify(dataset: Dataset, layout: DatasetLayout) -> Verified:
    """Count the images of a set and of each of its classes by the listing that a suite extracts.

    Class folders of a set that is not ``labelled`` are only counted. What cannot be listed is a finding, not
    an error.
    """
    path = layout.path
    try:
        listing = layout.listing()
    except LsnError as error:
        return Verified(dataset, path, (Finding("images", dataset.images, error.message, False),))
    counts = _counts(listing)
    loose = sum(item.label == UNLABELLED for item in listing.items)
    findings = [
        _number("images", dataset.images, len(listing.items)),
        _number("classes", dataset.classes if dataset.labelled else None, len(counts)),
    ]
    if dataset.labelled and loose:
        findings.append(Finding("images without a class folder", 0, loose, False))
    if dataset.labelled and (counts or not loose):
        findings += _classes(dataset, counts)
    findings += [
        Finding(problem.key, "a readable file", problem.reason, False) for problem in listing.problems
    ]
    return Verified(dataset, path, tuple(findings))


def _counts(listing: Listing) -> dict[str, int]:
    """How many images each class folder holds, in the order of labels."""
    counts = Counter(item.label for item in listing.items)
    return {name: counts[label] for label, name in enumerate(listing.folders)}


def _classes(dataset: Dataset, counts: Mapping[str, int]) -> list[Finding]:
    """Classes that are missing or too many, then those of another size."""
    found: list[Finding] = []
    if dataset.class_list:
        wanted = class_list(dataset.class_list)
        keys = {folder: wanted.key_of(folder) for folder in counts}
        there = Counter(key for key in keys.values() if key is not None)
        for key, name in wanted.by_key.items():
            label = name if key == name else f"{key} {name}"
            if not there[key]:
                found.append(Finding(f"class '{label}'", "there", "missing", False))
            elif there[key] > 1:
                found.append(Finding(f"class '{label}'", "one folder", f"{there[key]} folders", False))
        found += [
            Finding(f"class '{folder}'", "not there", "extra", False)
            for folder, key in keys.items()
            if key is None
        ]
    if dataset.per_class is not None:
        found += [
            Finding(f"images of '{folder}'", dataset.per_class, count, False)
            for folder, count in counts.items()
            if count != dataset.per_class
        ]
    return found


def _number(what: str, expected: int | None, found: int) -> Finding:
    return Finding(what, expected, found, expected is None or expected == found)
