"""What one source holds, before classes are numbered across sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lsncli.types import Failure

EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "jfif"})


@dataclass(frozen=True, slots=True)
class Found:
    """An image of one source; ``folder`` is its class, None = unlabelled."""

    key: str
    folder: str | None
    path: str
    offset: int | None
    size: int | None


@dataclass(frozen=True)
class Source:
    """Everything one path holds; ``single`` marks a path that is itself the image."""

    found: tuple[Found, ...]
    problems: tuple[Failure, ...] = ()
    ignored: int = 0
    single: bool = False


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
    return [key.partition("/")[0] for key in keys]


def file_size(path: Path) -> int | None:
    """The size of a file in bytes; None if it cannot be asked (the reason shows when it is read)."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None
