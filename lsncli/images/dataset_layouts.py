"""The layouts of published image sets, and the listing of their images, or of some of their classes.

A layout is a folder of class folders, a tar, a flat folder with a file of labels (ImageNet, Tiny-ImageNet),
or CIFAR's own files. Keys and classes are the same in all of them, so a choice of images does not depend on
how a set was unpacked.
"""

import csv
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lsncli.errors import LsnError
from lsncli.images import folder as folder_source
from lsncli.images.cifar import scan_cifar
from lsncli.images.item import ImageItem, Listing, Problem, is_hidden, is_image, number_classes
from lsncli.images.listing import list_images, with_prefix
from lsncli.types import Failure

WNID = re.compile(r"n\d{8}")
VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})", re.IGNORECASE)
"""An image of ImageNet's validation set; its number is its line in the ground truth."""

NAMES = re.compile(
    r"val_annotations\.txt|LOC_val_solution\.csv|.*validation.*synset_labels\.txt|"
    r"ILSVRC\d{4}_(clsloc_)?validation_ground_truth\.txt",
    re.IGNORECASE,
)
SYNSETS = (
    re.compile(r"meta\.mat", re.IGNORECASE),
    re.compile(r"map_clsloc\.txt", re.IGNORECASE),
    re.compile(r".*synsets?(?!_labels).*\.txt", re.IGNORECASE),
)
"""Files that map class numbers to classes, the most reliable first."""


@dataclass(frozen=True)
class Annotations:
    """The WordNet id of every image by its file name without extension, read from the file ``path``."""

    path: Path
    wnids: Mapping[str, str]


def find_annotations(folder: Path, top: Path) -> Path | None:
    """Return the first file with labels of the flat images of ``folder``, or None.

    It is searched for in ``folder`` and its parents up to ``top``, and in the development kits in these.
    """
    for candidate in _search_path(folder, top):
        for path in _files(candidate, NAMES):
            return path
    return None


def read_annotations(path: Path) -> Annotations:
    """Read a file found by ``find_annotations``. Raises LsnError if it is unreadable or empty."""
    try:
        name = path.name.lower()
        if name == "val_annotations.txt":
            rows = (line.split("\t") for line in _lines(path))
            wnids = {Path(cells[0]).stem: cells[1] for cells in rows if len(cells) > 1}
        elif name.endswith(".csv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                cells = csv.DictReader(file)
                wnids = {row["ImageId"]: row["PredictionString"].split()[0] for row in cells}
        elif name.endswith("synset_labels.txt"):
            wnids = _numbered(list(_lines(path)))
        else:
            wnids = _numbered(_by_number(path))
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, IndexError, csv.Error) as error:
        raise LsnError(
            f"{path} cannot be read as labels of images: {type(error).__name__} {error}."
        ) from error
    invalid = next((wnid for wnid in wnids.values() if not WNID.fullmatch(wnid)), None)
    if invalid is not None or not wnids:
        content = "nothing" if invalid is None else f"'{invalid[:40]}'"
        raise LsnError(f"{path}: expected a WordNet id such as n01440764 for every image, found {content}.")
    return Annotations(path, wnids)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield line.strip()


def _numbered(wnids: list[str]) -> dict[str, str]:
    """Assign labels to ImageNet's validation images, in order."""
    return {f"ILSVRC2012_val_{number:08d}": wnid for number, wnid in enumerate(wnids, start=1)}


def _by_number(path: Path) -> list[str]:
    """Read labels of the development kit: class numbers, which a second file maps to WordNet ids."""
    numbers = [int(line) if line.isdecimal() else 0 for line in _lines(path)]
    folders = [path.parent, path.parent / "data", path.parent.parent, path.parent.parent / "data"]
    files = [file for pattern in SYNSETS for folder in folders for file in _files(folder, pattern)]
    if not files:
        raise LsnError(
            f"{path} numbers the classes, and no meta.mat or map_clsloc.txt beside it says which they are.",
            "Put both files of the development kit's folder 'data' there.",
        )
    synsets = _synsets(files[0])
    missing = next((number for number in numbers if number not in synsets), None)
    if missing is not None:
        raise LsnError(f"{path}: expected numbers of the classes in {files[0]}, found {missing}.")
    return [synsets[number] for number in numbers]


def _synsets(path: Path) -> dict[int, str]:
    """Read the WordNet ids by their numbers in the development kit, which are not in alphabetical order."""
    if path.suffix.lower() == ".mat":
        return _meta(path)
    rows = [line.split() for line in _lines(path)]
    if all(len(row) > 1 and row[1].isdecimal() for row in rows):  # map_clsloc.txt: id, number, name
        return {int(row[1]): row[0] for row in rows}
    wnids = [row[0] for row in rows]
    if wnids == sorted(wnids):
        raise LsnError(
            f"{path} lists the classes in alphabetical order, but the ground truth uses another order.",
            "Use meta.mat of the development kit instead.",
        )
    return dict(enumerate(wnids, start=1))


def _meta(path: Path) -> dict[int, str]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        return {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
    except (MatReadError, OSError, KeyError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise LsnError(f"{path} cannot be read as the development kit's meta.mat: {error}.") from error


def _search_path(folder: Path, top: Path) -> Iterator[Path]:
    """Yield ``folder`` and its parents up to ``top``, each followed by the development kits in it."""
    chain = [folder, *folder.parents]
    for parent in chain[: chain.index(top) + 1] if top in chain else chain[:1]:
        yield parent
        for kit in _entries(parent):
            if "devkit" in kit.name.lower() and kit.is_dir():
                yield kit
                yield kit / "data"


def _files(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [path for path in _entries(folder) if pattern.fullmatch(path.name) and path.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


class DatasetLayout(ABC):
    """The location of an image set, and how its images are listed."""

    path: Path

    @property
    @abstractmethod
    def description(self) -> str:
        """The layout in a few words, for users."""

    @property
    @abstractmethod
    def folders(self) -> tuple[str, ...]:
        """The names of the class folders, as in ``Listing.folders``; no images are listed."""

    @abstractmethod
    def listing(self, only: Collection[str] | None = None) -> Listing:
        """List all images, or those of the class folders ``only``. Raises LsnError."""


@dataclass(frozen=True)
class FolderLayout(DatasetLayout):
    """A folder of class folders, or of images without classes."""

    path: Path

    @property
    def description(self) -> str:
        return "folder"

    @cached_property
    def folders(self) -> tuple[str, ...]:
        return class_folders(self.path)

    @cached_property
    def _whole(self) -> Listing:
        return list_images([self.path], follow_links=True)

    def listing(self, only: Collection[str] | None = None) -> Listing:
        if only is None or set(only) >= set(self.folders):
            return self._whole
        items: list[ImageItem] = []
        problems: list[Problem] = []
        ignored = 0
        for name in sorted(set(only) & set(self.folders)):
            source = with_prefix(name, folder_source.scan(self.path / name, follow_links=True))
            items += [replace(item, folder=name) for item in source.items]
            problems += source.problems
            ignored += source.ignored
        return _listing(items, problems, ignored)


@dataclass(frozen=True)
class TarLayout(DatasetLayout):
    """A tar of class folders."""

    path: Path

    @property
    def description(self) -> str:
        return "tar"

    @property
    def folders(self) -> tuple[str, ...]:
        return self._whole.folders

    @cached_property
    def _whole(self) -> Listing:
        return list_images([self.path], follow_links=True)

    def listing(self, only: Collection[str] | None = None) -> Listing:
        return self._whole if only is None else filter_classes(self._whole, only)


@dataclass(frozen=True)
class AnnotatedLayout(DatasetLayout):
    """A flat folder of images whose classes are in a file."""

    path: Path
    labels: Path

    @property
    def description(self) -> str:
        return f"flat folder, classes from {self.labels.name}"

    @cached_property
    def _annotations(self) -> Annotations:
        return read_annotations(self.labels)

    @cached_property
    def folders(self) -> tuple[str, ...]:
        return tuple(sorted(set(self._annotations.wnids.values())))

    def listing(self, only: Collection[str] | None = None) -> Listing:
        classes = set(self.folders if only is None else only)
        source = folder_source.scan(self.path, follow_links=True)
        items, problems, wnids = [], list(source.problems), self._annotations.wnids
        for item in source.items:
            wnid = wnids.get(Path(item.key).stem)
            if wnid is None:
                problems.append(Problem(item.key, f"{self.labels.name} has no class for it", item.path))
            elif wnid in classes:
                items.append(replace(item, key=f"{wnid}/{item.key}", folder=wnid))
        return _listing(items, problems, source.ignored)


@dataclass(frozen=True)
class CifarLayout(DatasetLayout):
    """CIFAR's own files, unpacked or in their archive; ``names`` are the classes in the order of labels."""

    path: Path
    classes: int
    role: str
    names: tuple[str, ...]

    @property
    def description(self) -> str:
        return f"CIFAR-{self.classes} {'archive' if self.path.is_file() else 'files'}"

    @property
    def folders(self) -> tuple[str, ...]:
        return self.names

    @cached_property
    def _whole(self) -> Listing:
        return _listing(scan_cifar(self.path, self.classes, self.role, self.names))

    def listing(self, only: Collection[str] | None = None) -> Listing:
        return self._whole if only is None else filter_classes(self._whole, only)


@dataclass(frozen=True)
class UnlabelledLayout(DatasetLayout):
    """A flat folder of images whose classes are required but unknown."""

    path: Path

    @property
    def description(self) -> str:
        return "flat folder, and no file with its classes"

    @property
    def folders(self) -> tuple[str, ...]:
        return ()

    def listing(self, only: Collection[str] | None = None) -> Listing:
        raise LsnError(
            f"{self.path} is a flat folder, and no file says which class an image has.",
            "Put LOC_val_solution.csv, or the folder 'data' of the development kit (the ground truth and "
            "meta.mat), beside it, or sort the images into folders named by WordNet id.",
        )


def class_folders(path: Path) -> tuple[str, ...]:
    """Return the sorted names of the visible folders in ``path``; none if it also contains images."""
    names = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    names.append(entry.name)
                elif is_image(entry.name):
                    return ()
    except OSError:
        return ()
    return tuple(sorted(names))


def filter_classes(listing: Listing, only: Collection[str]) -> Listing:
    """Return the images of some class folders, with new labels from 0."""
    folders = tuple(name for name in listing.folders if name in set(only))
    number = {listing.folders.index(name): label for label, name in enumerate(folders)}
    items = tuple(replace(item, label=number[item.label]) for item in listing.items if item.label in number)
    return replace(listing, items=items, folders=folders)


def _listing(images: Sequence[ImageItem], problems: Iterable[Problem] = (), ignored: int = 0) -> Listing:
    """Make a listing of labelled images, sorted by key."""
    problems = list(problems)
    folders = tuple(sorted({str(image.folder) for image in images if image.folder is not None}))
    items = sorted(images, key=lambda image: image.key)
    number_classes(items, folders)
    return Listing(
        tuple(items),
        folders,
        tuple(Failure(problem.key, problem.reason) for problem in problems),
        ignored,
        tuple(problem.path for problem in problems),
    )
