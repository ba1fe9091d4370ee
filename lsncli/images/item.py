"""What a listing holds: images, and what could not be listed."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from lsncli.console import printable
from lsncli.images.found import Content, SplitFolders
from lsncli.types import Failure


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image: where it lies and which class it belongs to.

    ``key`` is its path relative to its source with '/' between folders (with several sources, behind the
    name of its own source); ``label`` indexes ``Listing.folders``, -1 = unlabelled; ``path`` is the file, of
    ``size`` bytes and last changed at ``mtime`` (ns), or the tar of which the image is a ``member``. Then
    ``content`` reads it, by ``offset`` and ``size``. What is not known is None.
    """

    key: str
    label: int
    path: str
    offset: int | None
    size: int | None
    content: Content | None = None
    member: str | None = None
    mtime: int | None = None


@dataclass(frozen=True)
class Listing:
    """Images sorted by key (or in the order they were named), the class folders in label order, what could
    not be listed, and how many files and folders were skipped: hidden ones, those of a ``system`` (the names
    of such folders) and files without an image extension.

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
