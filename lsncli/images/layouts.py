"""The layouts that image sets come in, each as a listing of the classes that are wanted.

A folder of class folders, a tar, a flat folder with a file of labels, or CIFAR's own files. Keys and classes
are the same in all of them, so it does not matter for a choice of images how a set was unpacked.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lsncli.errors import LsnError
from lsncli.images import folder as folders_of
from lsncli.images.annotations import Annotations, read_annotations
from lsncli.images.cifar import scan_cifar
from lsncli.images.found import Found, Problem, is_hidden, is_image
from lsncli.images.paths import behind
from lsncli.images.sources import ImageItem, Listing, list_images
from lsncli.types import UNLABELLED, Failure


class Layout(ABC):
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
class Folder(Layout):
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
            source = behind(name, folders_of.scan(self.path / name, follow_links=True))
            found += [replace(one, folder=name) for one in source.found]
            problems += source.problems
            ignored += source.ignored
        return _listing(found, problems, ignored)


@dataclass(frozen=True)
class Tar(Layout):
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
        return self._whole if only is None else with_classes(self._whole, only)


@dataclass(frozen=True)
class Annotated(Layout):
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
class Cifar(Layout):
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
        return self._whole if only is None else with_classes(self._whole, only)


@dataclass(frozen=True)
class Unlabelled(Layout):
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


def with_classes(listing: Listing, only: Collection[str]) -> Listing:
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
