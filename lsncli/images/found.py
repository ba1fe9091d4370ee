"""What one source holds, before classes are numbered across sources."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

EXTENSIONS = frozenset(
    {"jpg", "jpeg", "jfif", "png", "webp", "avif", "heic", "heif", "bmp", "gif", "tif", "tiff", "ppm", "pgm"}
)
LISTS = (".txt", ".csv", ".tsv")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
TABLES = (".parquet",)
PACKS = LISTS + TARS + TABLES
"""What is a source of its own where a pattern finds it."""
OTHER_ARCHIVES = (".tar.zst", ".tzst", ".zip", ".7z", ".rar")

MAX_BYTES = 1 << 29
"""Encoded bytes that are read of one image: six for each of the pixels that are decoded at most."""


class Content(Protocol):
    """What holds the bytes of images that are not a file each. One object serves all images of it."""

    @property
    def size(self) -> int | None:
        """Bytes of all of it, if that is known."""

    def read(self, offset: int, size: int | None) -> bytes:
        """The bytes of the image at ``offset``, ``size`` of them if it is known. Any thread may call this.

        Raises Undecodable, or OSError as a file does.
        """


@dataclass(frozen=True, slots=True)
class Found:
    """An image of one source; ``folder`` is its class, by name or number, None = unlabelled. The rest is as
    in ``ImageItem``."""

    key: str
    folder: str | int | None
    path: str
    offset: int | None
    size: int | None
    content: Content | None = None
    member: str | None = None
    mtime: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be listed: its key, the reason, and the path that a user knows it by."""

    key: str
    reason: str
    path: str


@dataclass
class Source:
    """Everything one path holds; ``single`` marks a path that is itself the image, ``ordered`` one whose
    order somebody chose (a list). ``notes`` tell people what was recognised, such as columns."""

    found: list[Found]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    single: bool = False
    ordered: bool = False
    notes: list[str] = field(default_factory=list)


Scan = tuple[str, Callable[[], Source]]
"""The name of a source, and how to list it."""


def is_hidden(name: str) -> bool:
    """Dot files (macOS's ``._*`` among them) and the ``__MACOSX`` folders of zip tools."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether the extension is that of an image; nothing is opened."""
    stem, _, extension = name.rpartition(".")
    return bool(stem) and extension.lower() in EXTENSIONS


def by_folder(keys: Sequence[str]) -> list[str | int | None]:
    """The class of every key of a folder or tar: its first folder, or None for all of them when any
    image lies at the top (then it is a flat collection, whatever else it holds)."""
    if any("/" not in key for key in keys):
        return [None] * len(keys)
    known: dict[str, str] = {}  # one string a class, not one an image
    return [known.setdefault(name, name) for name in (key.partition("/")[0] for key in keys)]


def column_of(name: str) -> tuple[str, str]:
    """``x.parquet#pixels`` or ``x.csv#photo`` as the file and the column of images that it names; any other
    name alone."""
    file, _, column = name.rpartition("#")
    return (file, column) if file.lower().endswith(TABLES + LISTS) and "/" not in column else (name, "")


def rows_without_class(found: Sequence[Found]) -> str:
    """A note on the images of a list or table that have no class although others may; "" if all have one."""
    without = sum(one.folder is None for one in found)
    return f"{without} of {len(found)} rows have no class" if without else ""


class Unique:
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
    """The size of a file in bytes and the time of its last change in ns; None for both if they cannot be
    asked (the reason shows when it is read)."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns
