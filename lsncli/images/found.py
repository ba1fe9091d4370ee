"""What one source holds, before classes are numbered across sources."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsncli.images.unpacked import Unpacked

EXTENSIONS = frozenset(
    {"jpg", "jpeg", "jfif", "png", "webp", "avif", "heic", "heif", "bmp", "gif", "tif", "tiff", "ppm", "pgm"}
)

MAX_BYTES = 1 << 29
"""Encoded bytes that are read of one image: six for each of the pixels that are decoded at most."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image of one source; ``folder`` is its class, None = unlabelled. The rest is as in ``ImageItem``."""

    key: str
    folder: str | None
    path: str
    offset: int | None
    size: int | None
    unpacked: Unpacked | None = None
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be listed: its key, the reason, and the path that a user knows it by."""

    key: str
    reason: str
    path: str


@dataclass
class Source:
    """Everything one path holds; ``single`` marks a path that is itself the image, ``ordered`` one whose
    order somebody chose (a list)."""

    found: list[Found]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    single: bool = False
    ordered: bool = False


def is_hidden(name: str) -> bool:
    """Dot files (macOS's ``._*`` among them) and the ``__MACOSX`` folders of zip tools."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether the extension is that of an image; nothing is opened."""
    stem, _, extension = name.rpartition(".")
    return bool(stem) and extension.lower() in EXTENSIONS


def by_folder(keys: Sequence[str]) -> list[str | None]:
    """The class of every key of a folder or tar: its first folder, or None for all of them when any
    image lies at the top (then it is a flat collection, whatever else it holds)."""
    if any("/" not in key for key in keys):
        return [None] * len(keys)
    known: dict[str, str] = {}  # one string a class, not one an image
    return [known.setdefault(name, name) for name in (key.partition("/")[0] for key in keys)]


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


def file_size(path: Path | str) -> int | None:
    """The size of a file in bytes; None if it cannot be asked (the reason shows when it is read)."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return None
