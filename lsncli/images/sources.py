"""What images there are: folders, image files, list files and tars become one sorted listing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lsncli.errors import LsnError, UsageError
from lsncli.images import folder, listfile, tar
from lsncli.images.found import Found, Source, file_size
from lsncli.types import UNLABELLED, Failure

LISTS = (".txt", ".csv", ".tsv")
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip", ".7z", ".rar")
WANTED = "Give a folder, an image, a list file (.txt, .csv, .tsv) or an uncompressed .tar."


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image: where it lies and which class it belongs to.

    ``key`` is its path relative to its source with '/' between folders (with several sources, behind the
    name of its own source); ``label`` indexes ``Listing.folders``, -1 = unlabelled; ``path`` is the file, or
    the tar in which the image is the ``size`` bytes from ``offset``.
    """

    key: str
    label: int
    path: str
    offset: int | None
    size: int | None


@dataclass(frozen=True)
class Listing:
    """Images in the order of their keys, the class folders in label order, what could not be listed, and
    how many files were passed over because they are hidden or have no image extension."""

    items: tuple[ImageItem, ...]
    folders: tuple[str, ...]
    problems: tuple[Failure, ...]
    ignored: int

    @cached_property
    def digest(self) -> str:
        """sha256 over every key, label and size: equal digests are the same work."""
        total = hashlib.sha256()
        for item in self.items:
            record = f"{item.key}\0{item.label}\0{item.size}\0"
            total.update(record.encode("utf-8", "surrogateescape"))
        return total.hexdigest()


def list_images(paths: Sequence[Path]) -> Listing:
    """List every image under ``paths``, sorted by key.

    A path is a folder, an image, a list file (.txt, .csv, .tsv) or an uncompressed .tar. Images that lie
    only in subfolders of a folder or tar are labelled by the first one. Classes of the same name in several
    sources are one class. Raises UsageError for a path that is not there or cannot be a source.
    """
    if not paths:
        raise UsageError("No images were named.", WANTED)
    sources = [_scan(path) for path in paths]
    if len(paths) > 1:
        sources = [_prefixed(*pair) for pair in zip(sources, _unique_names(paths), strict=True)]
    found = sorted((one for source in sources for one in source.found), key=lambda one: one.key)
    folders = tuple(sorted({one.folder for one in found if one.folder is not None}))
    number: dict[str | None, int] = {name: label for label, name in enumerate(folders)}
    number[None] = UNLABELLED
    return Listing(
        items=tuple(ImageItem(f.key, number[f.folder], f.path, f.offset, f.size) for f in found),
        folders=folders,
        problems=tuple(failure for source in sources for failure in source.problems),
        ignored=sum(source.ignored for source in sources),
    )


def check_not_empty(listing: Listing, source: str) -> None:
    """Raise LsnError if nothing was listed under ``source``, not even a problem."""
    if listing.items or listing.problems:
        return
    raise LsnError(
        f"There are no images in {source or 'the listing'} ({listing.ignored} other files were passed over).",
        "Images end in .jpg, .png, .webp, .bmp, .gif, .tif, .ppm or .jfif; hidden files do not count.",
    )


def take_shots(listing: Listing, shots: int, seed: int) -> Listing:
    """At most ``shots`` images of every class, in the order they had; all of a class that has fewer.

    The choice hangs on (seed, class, key) alone, through sha256: it is the same on every machine, another
    class does not change it, and fewer shots are a subset of more. Raises UsageError if any image has no
    class.
    """
    if shots < 1:
        raise UsageError(f"--shots: expected 1 or more, found {shots}.")
    if any(item.label == UNLABELLED for item in listing.items):
        raise UsageError(
            "--shots takes images of every class, but these images have no classes.",
            "Put each class into a folder of its own, or name the class in a second column of the list.",
        )

    def lot(item: ImageItem) -> bytes:
        text = f"{seed}\0{listing.folders[item.label]}\0{item.key}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

    classes: dict[int, list[ImageItem]] = {}
    for item in listing.items:
        classes.setdefault(item.label, []).append(item)
    drawn = {item.key for members in classes.values() for item in sorted(members, key=lot)[:shots]}
    return replace(listing, items=tuple(item for item in listing.items if item.key in drawn))


def short_classes(listing: Listing, shots: int) -> tuple[str, ...]:
    """The class folders with fewer than ``shots`` images, in label order."""
    counts = [0] * len(listing.folders)
    for item in listing.items:
        if item.label != UNLABELLED:
            counts[item.label] += 1
    return tuple(name for name, count in zip(listing.folders, counts, strict=True) if count < shots)


def _scan(path: Path) -> Source:
    name = path.name.lower()
    if path.is_dir():
        return folder.scan(path)
    if not path.exists() and not path.is_symlink():
        raise UsageError(f"There is no '{path}'.", WANTED)
    if name.endswith(PACKED):
        raise UsageError(f"'{path}' is compressed.", "Unpack it first: a folder or a plain .tar can be read.")
    if name.endswith(LISTS):
        return listfile.scan(path)
    if name.endswith(".tar"):
        return tar.scan(path)
    return Source((Found(path.name, None, str(path), None, file_size(path)),), single=True)


def _unique_names(paths: Sequence[Path]) -> list[str]:
    names: list[str] = []
    for path in paths:
        base = path.name or path.resolve().name or "root"
        name, count = base, 1
        while name in names:
            count += 1
            name = f"{base}~{count}"
        names.append(name)
    return names


def _prefixed(source: Source, name: str) -> Source:
    return Source(
        tuple(replace(one, key=name if source.single else f"{name}/{one.key}") for one in source.found),
        tuple(replace(failure, key=f"{name}/{failure.key}") for failure in source.problems),
        source.ignored,
    )
