"""What images there are: folders, patterns, image files, lists and tars become one listing."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lsncli.errors import LsnError, UsageError
from lsncli.images import folder, listfile, tar
from lsncli.images.found import Found, Problem, Source, Unique, file_size
from lsncli.images.patterns import Pattern, as_pattern, matching_files
from lsncli.images.unpacked import Unpacked
from lsncli.types import UNLABELLED, Failure

STDIN = Path("-")
LISTS = (".txt", ".csv", ".tsv")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
OTHER_ARCHIVES = (".tar.zst", ".tzst", ".zip", ".7z", ".rar")
WANTED = (
    "Give folders, images, 'patterns/**/*.jpg', lists (.txt, .csv, .tsv), tars (plain, .gz, .bz2, .xz), "
    "or - for a list on standard input."
)


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image: where it lies and which class it belongs to.

    ``key`` is its path relative to its source with '/' between folders (with several sources, behind the
    name of its own source); ``label`` indexes ``Listing.folders``, -1 = unlabelled; ``path`` is the file, or
    the tar in which the image, its ``member``, is the ``size`` bytes from ``offset``. If the tar is
    compressed they lie in ``unpacked``.
    """

    key: str
    label: int
    path: str
    offset: int | None
    size: int | None
    unpacked: Unpacked | None = None
    member: str | None = None


@dataclass(frozen=True)
class Listing:
    """Images sorted by key (or in the order they were named), the class folders in label order, what could
    not be listed, and how many files were passed over because they are hidden or have no image extension.

    The ``problems`` are named by key, as images are; ``problem_paths`` are the paths of the same."""

    items: tuple[ImageItem, ...]
    folders: tuple[str, ...]
    problems: tuple[Failure, ...]
    ignored: int
    problem_paths: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """sha256 over every key, label and size: equal digests are the same work."""
        total = hashlib.sha256()
        for item in self.items:
            record = f"{item.key}\0{item.label}\0{item.size}\0"
            total.update(record.encode("utf-8", "surrogateescape"))
        return total.hexdigest()


def list_images(paths: Sequence[Path], *, keep_order: bool = False, follow_links: bool = False) -> Listing:
    """List every image under ``paths``, sorted by key.

    A path is a folder, a pattern with ``*``, an image, a list file (.txt, .csv, .tsv), a tar, or ``-``: a
    list on standard input. Images that lie only in subfolders of a folder or tar are labelled by the first
    one. Classes of the same name in several sources are one class. ``keep_order`` keeps the sources in their
    order and a list as it is (repetitions too); folders and tars are sorted within. Links out of a folder are
    problems unless ``follow_links``. Raises UsageError for a path that is not there or cannot be a source.
    """
    if not paths:
        raise UsageError("No images were named.", WANTED)
    scans = [one for path in paths for one in _scans(path, keep_order, follow_links)]
    unique = Unique()
    found: list[Found] = []
    problems: list[Problem] = []
    ignored = 0
    for name, scan in scans:
        source = scan()
        if len(scans) > 1:
            source = _prefixed(source, unique(name))
        if not source.ordered:
            source.found.sort(key=lambda one: one.key)
        found += source.found
        problems += source.problems
        ignored += source.ignored
    if not keep_order:
        found.sort(key=lambda one: one.key)
    folders = tuple(sorted({one.folder for one in found if one.folder is not None}))
    number: dict[str | None, int] = {name: label for label, name in enumerate(folders)}
    number[None] = UNLABELLED
    return Listing(
        items=tuple(_items(found, number)),
        folders=folders,
        problems=tuple(Failure(one.key, one.reason) for one in problems),
        ignored=ignored,
        problem_paths=tuple(one.path for one in problems),
    )


def check_not_empty(listing: Listing, source: str) -> None:
    """Raise LsnError if nothing was listed under ``source``, not even a problem."""
    if listing.items or listing.problems:
        return
    raise LsnError(
        f"There are no images in {source or 'the listing'} ({listing.ignored} other files were passed over).",
        "Images end in .jpg, .png, .webp, .avif, .heic, .gif, .tif, .bmp or .ppm; hidden files do not count.",
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


def _items(found: list[Found], number: dict[str | None, int]) -> Iterator[ImageItem]:
    """What was found, as items; ``found`` is empty then, so that a million images are held once."""
    found.reverse()
    while found:
        one = found.pop()
        yield ImageItem(one.key, number[one.folder], one.path, one.offset, one.size, one.unpacked, one.member)


def _scans(path: Path, repeats: bool, follow_links: bool) -> list[tuple[str, Callable[[], Source]]]:
    """The sources that a path stands for, each with its name and how to list it: one, or the lists and tars
    that fit a pattern."""
    if path == STDIN:
        return [("stdin", lambda: listfile.scan_stdin(repeats=repeats))]
    if not os.path.lexists(path) and (pattern := as_pattern(path)) is not None:
        if not pattern.base.is_dir():
            raise UsageError(f"There is no folder '{pattern.base}'.", WANTED)
        name = pattern.base.name or "images"
        if not path.name.lower().endswith(LISTS + TARS):
            return [(name, lambda: _fitting(path, pattern, follow_links))]
        files = matching_files(pattern, LISTS + TARS)
        _check_fits(bool(files), path)
        return [one for file in files for one in _scans(file, repeats, follow_links)]
    name = path.name or path.resolve().name or "root"
    return [(name, lambda: _scan(path, repeats, follow_links))]


def _scan(path: Path, repeats: bool, follow_links: bool) -> Source:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if not os.path.lexists(path):
            reason = "" if isinstance(error, FileNotFoundError) else f" that can be read: {error}"
            raise UsageError(f"There is no '{path}'{reason}.", WANTED) from error
        mode = stat.S_IFREG  # a link to nothing: it is listed, and fails when it is read
    name = path.name.lower()
    if stat.S_ISDIR(mode):
        return folder.scan(path, follow_links=follow_links)
    if name.endswith(OTHER_ARCHIVES):
        raise UsageError(f"'{path}' is an archive that cannot be read.", "Unpack it and give the folder.")
    if name.endswith(LISTS + TARS) and not stat.S_ISREG(mode):
        raise UsageError(f"'{path}' is not a regular file.", "Pipe a list into `-` instead.")
    if name.endswith(LISTS):
        return listfile.scan(path, repeats=repeats)
    if name.endswith(TARS):
        return tar.scan(path)
    return Source([Found(path.name, None, str(path), None, file_size(path))], single=True)


def _fitting(path: Path, pattern: Pattern, follow_links: bool) -> Source:
    source = folder.scan(pattern.base, follow_links=follow_links, pattern=pattern)
    _check_fits(bool(source.found or source.problems), path)
    return source


def _check_fits(fits: bool, path: Path) -> None:
    if not fits:
        raise UsageError(
            f"No image fits the pattern '{path}'.",
            "Put it in quotes; * stands for one name, ** for any folders. Hidden files do not count.",
        )


def _prefixed(source: Source, name: str) -> Source:
    def key(old: str) -> str:
        return name if source.single else f"{name}/{old}"

    source.found = [replace(one, key=key(one.key)) for one in source.found]
    source.problems = [replace(one, key=f"{name}/{one.key}") for one in source.problems]
    return source
