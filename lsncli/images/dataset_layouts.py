"""The layouts of published image sets, each as a listing of the classes that are wanted.

A folder of class folders, a tar, a flat folder with a file of labels (ImageNet, Tiny-ImageNet), or CIFAR's
own files. Keys and classes are the same in all of them, so a choice of images does not depend on how a set
was unpacked.
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
from lsncli.images import folder as folders_of
from lsncli.images.cifar import scan_cifar
from lsncli.images.item import Found, ImageItem, Listing, Problem, is_hidden, is_image
from lsncli.images.listing import list_images
from lsncli.images.locations import with_prefix
from lsncli.types import UNLABELLED, Failure

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
"""Files that say which class a number is, the surest first."""


@dataclass(frozen=True)
class Annotations:
    """The WordNet id of every image, by the name of its file without an ending."""

    path: Path
    """The file that says so."""
    wnids: Mapping[str, str]


def find_annotations(folder: Path, top: Path) -> Path | None:
    """The file that labels the flat images of ``folder``, looked for there and in every folder up to ``top``.

    Development kits in those folders count, too. The first match is taken, from the inside out.
    """
    for near in _near(folder, top):
        for path in _files(near, NAMES):
            return path
    return None


def read_annotations(path: Path) -> Annotations:
    """What a file found by ``find_annotations`` says. Raises LsnError if it is unreadable or empty."""
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
    bad = next((one for one in wnids.values() if not WNID.fullmatch(one)), None)
    if bad is not None or not wnids:
        found = "nothing" if bad is None else f"'{bad[:40]}'"
        raise LsnError(f"{path}: expected a WordNet id such as n01440764 for every image, found {found}.")
    return Annotations(path, wnids)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield line.strip()


def _numbered(wnids: list[str]) -> dict[str, str]:
    """Labels in the order of ImageNet's validation images."""
    return {f"ILSVRC2012_val_{number:08d}": wnid for number, wnid in enumerate(wnids, start=1)}


def _by_number(path: Path) -> list[str]:
    """The labels of the development kit: numbers of classes, which a second file gives WordNet ids."""
    numbers = [int(line) if line.isdecimal() else 0 for line in _lines(path)]
    places = [path.parent, path.parent / "data", path.parent.parent, path.parent.parent / "data"]
    found = [one for pattern in SYNSETS for place in places for one in _files(place, pattern)]
    if not found:
        raise LsnError(
            f"{path} numbers the classes, and no meta.mat or map_clsloc.txt beside it says which they are.",
            "Put both files of the development kit's folder 'data' there.",
        )
    known = _synsets(found[0])
    missing = next((number for number in numbers if number not in known), None)
    if missing is not None:
        raise LsnError(f"{path}: expected numbers of the classes in {found[0]}, found {missing}.")
    return [known[number] for number in numbers]


def _synsets(path: Path) -> dict[int, str]:
    """WordNet ids by the number that the development kit gives them, which is not the alphabet's."""
    if path.suffix.lower() == ".mat":
        return _meta(path)
    rows = [line.split() for line in _lines(path)]
    if all(len(row) > 1 and row[1].isdecimal() for row in rows):  # map_clsloc.txt: id, number, name
        return {int(row[1]): row[0] for row in rows}
    wnids = [row[0] for row in rows]
    if wnids == sorted(wnids):
        raise LsnError(
            f"{path} lists the classes by the alphabet, and the ground truth numbers them otherwise.",
            "Use meta.mat of the development kit instead.",
        )
    return dict(enumerate(wnids, start=1))


def _meta(path: Path) -> dict[int, str]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        return {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets}
    except (MatReadError, OSError, KeyError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise LsnError(f"{path} cannot be read as the development kit's meta.mat: {error}.") from error


def _near(folder: Path, top: Path) -> Iterator[Path]:
    """``folder``, then its parents up to ``top``, each with the development kits in it."""
    chain = [folder, *folder.parents]
    for near in chain[: chain.index(top) + 1] if top in chain else chain[:1]:
        yield near
        for kit in _entries(near):
            if "devkit" in kit.name.lower() and kit.is_dir():
                yield kit
                yield kit / "data"


def _files(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [one for one in _entries(folder) if pattern.fullmatch(one.name) and one.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


class DatasetLayout(ABC):
    """Where an image set lies and how its images are listed."""

    path: Path

    @property
    @abstractmethod
    def how(self) -> str:
        """The layout in a few words, for people."""

    @property
    @abstractmethod
    def folders(self) -> tuple[str, ...]:
        """The names of the class folders, as ``Listing.folders`` has them; found without listing images."""

    @abstractmethod
    def listing(self, only: Collection[str] | None = None) -> Listing:
        """Every image, or those of the class folders ``only``. Raises LsnError."""


@dataclass(frozen=True)
class FolderLayout(DatasetLayout):
    """A folder of class folders, or of images without classes."""

    path: Path

    @property
    def how(self) -> str:
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
        found: list[Found] = []
        problems: list[Problem] = []
        ignored = 0
        for name in sorted(set(only) & set(self.folders)):
            source = with_prefix(name, folders_of.scan(self.path / name, follow_links=True))
            found += [replace(one, folder=name) for one in source.found]
            problems += source.problems
            ignored += source.ignored
        return _listing(found, problems, ignored)


@dataclass(frozen=True)
class TarLayout(DatasetLayout):
    """One tar of class folders."""

    path: Path

    @property
    def how(self) -> str:
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
    """A flat folder of images whose classes stand in a file."""

    path: Path
    labels: Path

    @property
    def how(self) -> str:
        return f"flat folder, classes from {self.labels.name}"

    @cached_property
    def _annotations(self) -> Annotations:
        return read_annotations(self.labels)

    @cached_property
    def folders(self) -> tuple[str, ...]:
        return tuple(sorted(set(self._annotations.wnids.values())))

    def listing(self, only: Collection[str] | None = None) -> Listing:
        wanted = set(self.folders if only is None else only)
        source = folders_of.scan(self.path, follow_links=True)
        found, problems, wnids = [], list(source.problems), self._annotations.wnids
        for one in source.found:
            wnid = wnids.get(Path(one.key).stem)
            if wnid is None:
                problems.append(Problem(one.key, f"{self.labels.name} has no class for it", one.path))
            elif wnid in wanted:
                found.append(replace(one, key=f"{wnid}/{one.key}", folder=wnid))
        return _listing(found, problems, source.ignored)


@dataclass(frozen=True)
class CifarLayout(DatasetLayout):
    """CIFAR's own files, unpacked or in their archive; ``names`` are the classes in label order."""

    path: Path
    classes: int
    role: str
    names: tuple[str, ...]

    @property
    def how(self) -> str:
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
    """A flat folder of images whose classes are needed and not to be found."""

    path: Path

    @property
    def how(self) -> str:
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
    """The names of the folders in ``path`` that are not hidden, sorted; none if images lie beside them."""
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
    """The images of some class folders, numbered anew."""
    folders = tuple(name for name in listing.folders if name in set(only))
    number = {listing.folders.index(name): label for label, name in enumerate(folders)}
    items = tuple(replace(one, label=number[one.label]) for one in listing.items if one.label in number)
    return replace(listing, items=items, folders=folders)


def _listing(found: Sequence[Found], problems: Iterable[Problem] = (), ignored: int = 0) -> Listing:
    """Labelled images as a listing, sorted by key."""
    problems = list(problems)
    folders = tuple(sorted({str(one.folder) for one in found if one.folder is not None}))
    number = {name: label for label, name in enumerate(folders)}
    items = tuple(
        ImageItem(
            one.key,
            UNLABELLED if one.folder is None else number[str(one.folder)],
            one.path,
            one.offset,
            one.size,
            one.content,
            one.member,
            one.mtime,
        )
        for one in sorted(found, key=lambda one: one.key)
    )
    return Listing(
        items,
        folders,
        tuple(Failure(one.key, one.reason) for one in problems),
        ignored,
        tuple(one.path for one in problems),
    )
