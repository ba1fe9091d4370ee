"""Find image sets in a folder and check their numbers of images and classes, without decoding."""

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
from lsncli.images.listing import expand_braces
from lsncli.reference.classes import class_list
from lsncli.reference.datasets import Dataset
from lsncli.types import UNLABELLED


@dataclass(frozen=True)
class Finding:
    """One count: the expected value (None = any number) and the value found."""

    what: str
    """"images", "classes", "images of 'tench'", "class 'tench'", or a file that cannot be listed."""
    expected: int | str | None
    found: int | str
    ok: bool


@dataclass(frozen=True)
class Verified:
    """The check of a set: ``findings`` are its images, its classes, then each difference of a class."""

    dataset: Dataset
    path: Path
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether all findings are as expected."""
        return all(finding.ok for finding in self.findings)


def locate(data: Path, dataset: Dataset) -> DatasetLayout | None:
    """Find a set in any of its usual layouts; None if it is missing.

    The folder ``data/<name>`` and ``data/<name>.tar`` come first, then the set's ``places`` in their order,
    then the name in any spelling. Only folders and files of labels are read.
    """
    exact = [path for path in (data / dataset.name, data / f"{dataset.name}.tar") if path.exists()]
    spelled = _spelled(data, dataset.name) or _spelled(data, f"{dataset.name}.tar")
    names = [name for pattern in dataset.places for name in expand_braces(pattern)]
    others = [path for name in names if (path := _spelled(data, name)) and _beside(path, dataset.beside)]
    weak: list[DatasetLayout] = []
    for path in [*exact, *others, *([spelled] if spelled else [])]:
        if path in others and dataset.cifar and (cifar := _as_cifar(path, dataset)):
            return cifar
        layout, sure = _recognise(path, data, dataset)
        if layout is not None and sure:
            return layout
        if layout is not None and (path in exact or isinstance(layout, UnlabelledLayout)):
            weak.append(layout)
    return next(iter(weak), None)


def _as_cifar(path: Path, dataset: Dataset) -> DatasetLayout | None:
    known = class_list(dataset.class_list)
    if not is_cifar(path, len(known), dataset.cifar):
        return None
    return CifarLayout(path, len(known), dataset.cifar, known.names)


def _recognise(path: Path, data: Path, dataset: Dataset) -> tuple[DatasetLayout | None, bool]:
    """Return the layout at ``path``, and whether it surely holds the set."""
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
    """Find ``root/relative``, ignoring case, blanks, '-' and '_'; an equal name wins."""
    path = root
    for part in relative.split("/"):
        try:
            names = sorted(os.listdir(path))
        except OSError:
            return None
        matches = [name for name in names if _plain(name) == _plain(part)]
        if not matches:
            return None
        path /= part if part in matches else matches[0]
    return path


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.casefold())


def _beside(path: Path, name: str) -> bool:
    """Return whether the file ``name`` is beside ``path``, or is not for ``!name``; True without a name."""
    exists = (path.parent / name.removeprefix("!")).is_file()
    return exists != name.startswith("!") if name else True


def _has_images(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(is_image(entry.name) for entry in entries)
    except OSError:
        return False


def verify(dataset: Dataset, layout: DatasetLayout) -> Verified:
    """Count the images of a set and of each class in the listing that a suite would extract.

    Class folders of a set that is not ``labelled`` are only counted. Files that cannot be listed are
    findings, not errors.
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
    """Return the number of images of each class folder, in the order of labels."""
    counts = Counter(item.label for item in listing.items)
    return {name: counts[label] for label, name in enumerate(listing.folders)}


def _classes(dataset: Dataset, counts: Mapping[str, int]) -> list[Finding]:
    """Return the classes that are missing or too many, then those of another size."""
    findings: list[Finding] = []
    if dataset.class_list:
        known = class_list(dataset.class_list)
        keys = {folder: known.key_of(folder) for folder in counts}
        folders = Counter(key for key in keys.values() if key is not None)
        for key, name in known.by_key.items():
            label = name if key == name else f"{key} {name}"
            if not folders[key]:
                findings.append(Finding(f"class '{label}'", "there", "missing", False))
            elif folders[key] > 1:
                findings.append(Finding(f"class '{label}'", "one folder", f"{folders[key]} folders", False))
        findings += [
            Finding(f"class '{folder}'", "not there", "extra", False)
            for folder, key in keys.items()
            if key is None
        ]
    if dataset.per_class is not None:
        findings += [
            Finding(f"images of '{folder}'", dataset.per_class, count, False)
            for folder, count in counts.items()
            if count != dataset.per_class
        ]
    return findings


def _number(what: str, expected: int | None, found: int) -> Finding:
    return Finding(what, expected, found, expected is None or expected == found)
