"""Records of listing: an image, the images of one source, and the listing of all sources.

Also recognises images, system folders and splits of a data set by their names.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Protocol

from lsncli.console import printable
from lsncli.images.budget import MAX_BYTES as MAX_BYTES
from lsncli.types import UNLABELLED, Failure

EXTENSIONS = frozenset(
    {"jpg", "jpeg", "jfif", "png", "webp", "avif", "heic", "heif", "bmp", "gif", "tif", "tiff", "ppm", "pgm"}
)
OTHER_ARCHIVES = (".tar.zst", ".tzst", ".7z", ".rar")

SYSTEM = frozenset(
    {
        "__macosx",
        "$recycle.bin",
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "lost+found",
        "system volume information",
    }
)
"""Folders of macOS, Windows, Linux and network storage (Synology, QNAP), in lower case."""


class Content(Protocol):
    """A container of images, such as a tar or a table; one object is shared by all its images."""

    @property
    def size(self) -> int | None:
        """Size of the container in bytes, if it is known."""

    def read(self, offset: int, size: int | None) -> bytes:
        """Return the bytes of the image at ``offset``, of length ``size`` if that is known. Thread-safe.

        Raises Undecodable, or OSError as a file does.
        """


@dataclass(slots=True)
class ImageItem:
    """One image: where its bytes are and which class it has.

    ``key`` is its path relative to its source, with '/' between folders; with several sources it starts with
    the name of its source. ``path`` is the file, of ``size`` bytes and last changed at ``mtime`` (ns). For a
    ``member`` of a tar, a table or the like, ``path`` is that file, and ``content`` reads the image by
    ``offset`` and ``size``. ``folder`` is its class in its source, by name or number. The listing sets
    ``label``, the index of the class in ``Listing.folders``, -1 for unlabelled. Unknown values are None.
    """

    key: str
    path: str
    offset: int | None = None
    size: int | None = None
    content: Content | None = None
    member: str | None = None
    mtime: int | None = None
    folder: str | int | None = field(default=None, compare=False)
    label: int = UNLABELLED


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that could not be listed: its key, the reason, and the path as the user wrote it."""

    key: str
    reason: str
    path: str


@dataclass
class Source:
    """The images under one path.

    ``single`` marks a path that is itself an image, ``ordered`` one with an order of its own (a list).
    ``notes`` are sentences about what was recognised, such as columns.
    """

    items: list[ImageItem]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    system: set[str] = field(default_factory=set)
    """Names of the ignored system folders."""
    single: bool = False
    ordered: bool = False
    notes: list[str] = field(default_factory=list)


SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Names of folders that each hold a split of a data set."""


@dataclass(frozen=True)
class SplitFolders:
    """The folder or tar ``path``, whose folders ``names`` are splits of a data set and not classes."""

    path: str
    names: tuple[str, ...]
    packed: bool

    @property
    def message(self) -> str:
        """The error message for a command that needs classes."""
        folders = " and ".join(f"'{name}'" for name in self.names)
        what = "folders are splits" if len(self.names) > 1 else "folder is a split"
        return f"'{self.path}' is the root of a data set: its {what} ({folders}), not classes."

    @property
    def hint(self) -> str:
        """The command to use instead."""
        test = next((name for name in self.names if not name.lower().startswith("train")), "")
        train = next((name for name in self.names if name != test), "")
        where = "DIR" if self.packed else self.path
        commands = [f"lsn extract {quote(f'{where}/{train}')}"] if train else []
        commands += [f"lsn extract --split test {quote(f'{where}/{test}')}"] if test else []
        return (
            f"{'Unpack it into DIR and extract' if self.packed else 'Extract'} each: {', '.join(commands)}."
        )


def split_folders(source: Source) -> SplitFolders | None:
    """Return the splits in a folder or tar; None if its folders are classes.

    The folders are splits if all are named like splits, and there are several or one contains class folders:
    ``train`` alone with images in it is a class of trains. Images beside the folders do not count.
    """
    inside = [item for item in source.items if item.folder is not None]
    names = {item.folder for item in inside}
    if not names or not all(isinstance(name, str) and name.lower() in SPLITS for name in names):
        return None
    first = inside[0]
    if not all(item.key.startswith(f"{item.folder}/") for item in inside):  # labels from elsewhere
        return None
    if len(names) == 1 and not any(item.key.count("/") > 1 for item in inside):
        return None
    packed = not first.path.endswith(first.key)
    path = first.path if packed else first.path.removesuffix(first.key).rstrip("/")
    train_first = sorted(map(str, names), key=lambda name: (not name.lower().startswith("train"), name))
    return SplitFolders(path, tuple(train_first), packed)


@dataclass(frozen=True)
class Listing:
    """The images of one or more sources.

    Images are sorted by key, or in the order given; class folders are in label order. ``problems`` are the
    paths that could not be listed, by key as images are; ``problem_paths`` are their paths. ``ignored``
    counts the skipped files and folders: hidden ones, system folders (named in ``system``) and files without
    an image extension. The classes of a source in ``split_folders`` are splits of a data set, which only
    commands that need classes must refuse.
    """

    items: tuple[ImageItem, ...]
    folders: tuple[str, ...]
    problems: tuple[Failure, ...]
    ignored: int
    problem_paths: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    split_folders: tuple[SplitFolders, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences about what was recognised, such as the columns of images and classes."""

    @property
    def skipped(self) -> str:
        """A sentence about skipped files; empty if there are none."""
        if not self.ignored:
            return ""
        system = f", with system folders ({', '.join(map(printable, self.system))})" * bool(self.system)
        return f"Skipped, as hidden or no image: {self.ignored}{system}."

    @cached_property
    def digest(self) -> str:
        """sha256 of every key, label and size; listings with equal digests have the same images."""
        total = hashlib.sha256()
        for item in self.items:
            # The size of an image in a table is unknown until it is read; the table's is used instead.
            size = item.content.size if item.size is None and item.content is not None else item.size
            record = f"{item.key}\0{item.label}\0{size}\0"
            total.update(record.encode("utf-8", "surrogateescape"))
        return total.hexdigest()


Scan = tuple[str, Callable[[], Source]]
"""The name of a source, and the function that lists it."""


def is_hidden(name: str) -> bool:
    """Whether a name is that of a dot file (``._*``, ``.ipynb_checkpoints``) or of a system folder."""
    return name.startswith(".") or is_system(name)


def is_system(name: str) -> bool:
    """Whether a name is that of a system's folder for thumbnails, deleted files or lost files."""
    return name.lower() in SYSTEM


def is_image(name: str) -> bool:
    """Whether the extension is that of an image; the file is not opened."""
    stem, _, extension = name.rpartition(".")
    return bool(stem) and extension.lower() in EXTENSIONS


def by_folder(keys: Sequence[str]) -> list[str | int | None]:
    """Return the class of every key of a folder or tar: its first folder, or None for an image at the top."""
    names: dict[str, str] = {}  # one string per class, not one per image
    return [
        names.setdefault(top, top) if below else None for top, below, _ in (k.partition("/") for k in keys)
    ]


def number_classes(items: Iterable[ImageItem], folders: Sequence[str]) -> None:
    """Set the label of each image to the index of its class in ``folders``."""
    labels = {name: label for label, name in enumerate(folders)}
    for item in items:
        if item.folder is not None:
            item.label = labels[str(item.folder)]


class UniqueNames:
    """Makes names unique: the second ``a`` becomes ``a~2``."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        unique, count = name, self._count.get(name, 0)
        while unique in self._count:
            count += 1
            unique = f"{name}~{count}"
        self._count[name] = max(count, 1)
        self._count.setdefault(unique, 1)
        return unique


def size_and_time(path: Path | str) -> tuple[int | None, int | None]:
    """Return the size of a file in bytes and its modification time in ns.

    Both are None if the status cannot be read; reading the file then fails with the reason.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns
