"""The records of listing: an image, what one source holds, and the listing of all sources.

Also tells by name what is an image, a system folder and a split of a data set.
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
    """What holds the bytes of images that are not a file each. One object serves all images of it."""

    @property
    def size(self) -> int | None:
        """Bytes of all of it, if that is known."""

    def read(self, offset: int, size: int | None) -> bytes:
        """The bytes of the image at ``offset``, ``size`` of them if it is known. Any thread may call this.

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
    """What could not be listed: its key, the reason, and the path that a user knows it by."""

    key: str
    reason: str
    path: str


@dataclass
class Source:
    """Everything one path holds.

    ``single`` marks a path that is itself the image, ``ordered`` one whose order somebody chose (a list).
    ``notes`` tell users what was recognised, such as columns.
    """

    items: list[ImageItem]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    system: set[str] = field(default_factory=set)
    """Names of the system folders among what was ignored."""
    single: bool = False
    ordered: bool = False
    notes: list[str] = field(default_factory=list)


SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders of data sets that hold a split each."""


@dataclass(frozen=True)
class SplitFolders:
    """The folder or tar ``path``, whose folders ``names`` are splits of a data set and not classes."""

    path: str
    names: tuple[str, ...]
    packed: bool

    @property
    def message(self) -> str:
        """What is wrong where classes are wanted."""
        folders = " and ".join(f"'{name}'" for name in self.names)
        what = "folders are splits" if len(self.names) > 1 else "folder is a split"
        return f"'{self.path}' is the root of a data set: its {what} ({folders}), not classes."

    @property
    def hint(self) -> str:
        """What to do instead."""
        test = next((name for name in self.names if not name.lower().startswith("train")), "")
        train = next((name for name in self.names if name != test), "")
        where = "DIR" if self.packed else self.path
        commands = [f"lsn extract {quote(f'{where}/{train}')}"] if train else []
        commands += [f"lsn extract --split test {quote(f'{where}/{test}')}"] if test else []
        return (
            f"{'Unpack it into DIR and extract' if self.packed else 'Extract'} each: {', '.join(commands)}."
        )


def split_folders(source: Source) -> SplitFolders | None:
    """The splits that a folder or tar holds; None where its folders are classes.

    All top folders must be named like splits, and one hold class folders or there be several: ``train`` alone
    with images in it is a class of trains.
    """
    names = {one.folder for one in source.items}
    if not names or not all(isinstance(name, str) and name.lower() in SPLITS for name in names):
        return None
    first = source.items[0]
    if not all(one.key.startswith(f"{one.folder}/") for one in source.items):  # labels that do not say where
        return None
    if len(names) == 1 and not any(one.key.count("/") > 1 for one in source.items):
        return None
    packed = not first.path.endswith(first.key)
    path = first.path if packed else first.path.removesuffix(first.key).rstrip("/")
    train_first = sorted(map(str, names), key=lambda name: (not name.lower().startswith("train"), name))
    return SplitFolders(path, tuple(train_first), packed)


@dataclass(frozen=True)
class Listing:
    """The images of one or more sources.

    Images are sorted by key, or in the order they were named; class folders are in label order. With what
    could not be listed, and how many files and folders were skipped: hidden ones, those of a ``system`` (the
    names of such folders) and files without an image extension.

    The ``problems`` are named by key, as images are; ``problem_paths`` are the paths of the same. Of a source
    in ``split_folders`` the classes are splits of a data set, which only a user of classes must refuse."""

    items: tuple[ImageItem, ...]
    folders: tuple[str, ...]
    problems: tuple[Failure, ...]
    ignored: int
    problem_paths: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    split_folders: tuple[SplitFolders, ...] = ()
    notes: tuple[str, ...] = ()
    """What was recognised, a sentence each: which columns hold images and classes."""

    @property
    def skipped(self) -> str:
        """A sentence on what was skipped; empty if nothing was."""
        if not self.ignored:
            return ""
        system = f", with system folders ({', '.join(map(printable, self.system))})" * bool(self.system)
        return f"Skipped, as hidden or no image: {self.ignored}{system}."

    @cached_property
    def digest(self) -> str:
        """sha256 over every key, label and size: equal digests are the same work."""
        total = hashlib.sha256()
        for item in self.items:
            # A row of a table has no size until it is read; that of the table stands for it.
            size = item.content.size if item.size is None and item.content is not None else item.size
            record = f"{item.key}\0{item.label}\0{size}\0"
            total.update(record.encode("utf-8", "surrogateescape"))
        return total.hexdigest()


Scan = tuple[str, Callable[[], Source]]
"""The name of a source, and how to list it."""


def is_hidden(name: str) -> bool:
    """Dot files and folders (``._*``, ``.Trash-1000``, ``.ipynb_checkpoints``), and system folders."""
    return name.startswith(".") or is_system(name)


def is_system(name: str) -> bool:
    """Whether a name is that of a folder in which a system keeps thumbnails, deleted files or lost ones."""
    return name.lower() in SYSTEM


def is_image(name: str) -> bool:
    """Whether the extension is that of an image; nothing is opened."""
    stem, _, extension = name.rpartition(".")
    return bool(stem) and extension.lower() in EXTENSIONS


def by_folder(keys: Sequence[str]) -> list[str | int | None]:
    """The class of every key of a folder or tar: its first folder, or None for an image at the top."""
    known: dict[str, str] = {}  # one string a class, not one an image
    return [
        known.setdefault(top, top) if below else None for top, below, _ in (k.partition("/") for k in keys)
    ]


def number_classes(items: Iterable[ImageItem], folders: Sequence[str]) -> None:
    """Set the label of each image to the index of its class in ``folders``."""
    labels = {name: label for label, name in enumerate(folders)}
    for item in items:
        if item.folder is not None:
            item.label = labels[str(item.folder)]


class UniqueNames:
    """Names that are given out once: the second ``a`` becomes ``a~2``."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        found, count = name, self._count.get(name, 0)
        while found in self._count:
            count += 1
            found = f"{name}~{count}"
        self._count[name] = max(count, 1)
        self._count.setdefault(found, 1)
        return found


def size_and_time(path: Path | str) -> tuple[int | None, int | None]:
    """Return the size of a file in bytes and the time of its last change in ns.

    Both are None if they are unavailable; the reason shows when the file is read.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns
