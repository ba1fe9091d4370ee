"""Which image sets are there, and whether they hold what they should: counted, never decoded."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lsncli.errors import LsnError
from lsncli.facts.classes import class_list
from lsncli.facts.datasets import Dataset
from lsncli.images.sources import Listing, list_images
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


def locate(data: Path, name: str) -> Path | None:
    """Where a set lies: the folder ``data/name``, else ``data/name.tar``; None if neither is there."""
    folder, tar = data / name, data / f"{name}.tar"
    return folder if folder.is_dir() else tar if tar.is_file() else None


def verify(dataset: Dataset, path: Path) -> Verified:
    """Count the images of a set and of each of its classes by the listing that ``lsn extract`` makes.

    Class folders of a set that is not ``labelled`` are only counted. A path that cannot be listed is a
    finding, not an error.
    """
    try:
        listing = list_images([path], follow_links=True)
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
