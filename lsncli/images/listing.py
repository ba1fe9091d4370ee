"""List images: folders, patterns, image files, lists, archives and tables become one listing.

Also says whether several processes can read a listing.
"""

import hashlib
import itertools
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

from lsncli.console import printable
from lsncli.credentials import mask_credentials
from lsncli.errors import LsnError, UsageError
from lsncli.images import folder, listfile, remote_listing
from lsncli.images.columns import AUTOMATIC, Columns
from lsncli.images.folder import Pattern, check_matched, find_files, parse_pattern
from lsncli.images.item import (
    OTHER_ARCHIVES,
    ImageItem,
    Listing,
    Problem,
    Scan,
    Source,
    SplitFolders,
    UniqueNames,
    number_classes,
    size_and_time,
    split_folders,
)
from lsncli.images.remote import as_url, strip_file_scheme
from lsncli.images.source_kinds import (
    ListingOptions,
    content_types,
    find_kind,
    source_suffixes,
    sources_hint,
    split_fragment,
)
from lsncli.images.tar_stream import UnpackedFile
from lsncli.registry import load
from lsncli.types import UNLABELLED, Failure

MOST_NOTES = 10
"""Notes of a listing; thousands of shards could say something of their own each."""
LISTING_THREADS = 32
"""Sources behind URLs that are listed at the same time."""


def list_images(
    paths: Sequence[Path],
    *,
    keep_order: bool = False,
    follow_links: bool = False,
    columns: Columns = AUTOMATIC,
) -> Listing:
    """List every image under ``paths``, sorted by key.

    A path is a folder, a pattern with ``*`` or ``{0..9}``, an image, a list file (.txt, .csv, .tsv), a tar, a
    Parquet file, a URL of any of these, or ``-``: a list on standard input. Images in subfolders of a folder
    or tar are labelled by the first one, and those at its top have no class; those of a tar with .cls or
    .json files beside them, or of a table with a class column, by these. Classes of the same name in several
    sources are one class. ``keep_order`` keeps the sources in their order and a list as it is (repetitions
    too); folders and tars are sorted within. Links out of a folder are problems unless ``follow_links``.
    ``columns`` name the columns of lists and tables that hold images and classes. Raises UsageError for a
    path that is not there or cannot be a source, and for columns that are missing or ambiguous; Unavailable
    without the package that a source needs, and LsnError for a network that fails.
    """
    if not paths:
        raise UsageError("No images were named.", sources_hint())
    options = ListingOptions(repeats=keep_order, columns=columns)
    scans = [scan for path in paths for scan in find_sources(path, options, follow_links)]
    unique = UniqueNames()
    items: list[ImageItem] = []
    problems: list[Problem] = []
    notes: dict[str, list[str]] = {}
    ignored = 0
    system: set[str] = set()
    splits: list[SplitFolders] = []
    # Behind a URL each header of a tar is a request, which mostly waits.
    threads = LISTING_THREADS if any(as_url(path) for path in paths) else 1
    sources = in_order([scan for _, scan in scans], threads) if threads > 1 else (scan() for _, scan in scans)
    for (name, _), source in zip(scans, sources, strict=True):
        if (found_splits := split_folders(source)) is not None:
            splits.append(found_splits)
        if len(scans) > 1:
            source = with_prefix(unique(name), source)
        if not source.ordered:
            source.items.sort(key=lambda item: item.key)
        items += source.items
        problems += source.problems
        ignored += source.ignored
        system |= source.system
        for note in source.notes:
            notes.setdefault(note, []).append(name)
    if not keep_order:
        items.sort(key=lambda item: item.key)
    folders = _in_order({item.folder for item in items if item.folder is not None})
    number_classes(items, folders)
    return Listing(
        items=tuple(items),
        folders=folders,
        problems=tuple(Failure(problem.key, problem.reason) for problem in problems),
        ignored=ignored,
        problem_paths=tuple(problem.path for problem in problems),
        system=tuple(sorted(system)),
        split_folders=tuple(splits),
        notes=tuple(_notes(notes)),
    )


def named(paths: Sequence[Path]) -> str:
    """What was asked for, as people wrote it (``Path`` takes a slash out of a URL), but for credentials."""
    return ", ".join(mask_credentials(as_url(path) or str(path)) for path in paths)


def check_not_empty(listing: Listing, source: str) -> None:
    """Raise LsnError if nothing was listed under ``source``, not even a problem."""
    if listing.items or listing.problems:
        return
    raise LsnError(
        f"There are no images in {source or 'the listing'} ({listing.ignored} other files were skipped).",
        "Images end in .jpg, .png, .webp, .avif, .heic, .gif, .tif, .bmp or .ppm; hidden files and system "
        "folders do not count.",
    )


def take_shots(listing: Listing, shots: int, seed: int) -> Listing:
    """At most ``shots`` images of every class, in the order they had; all of a class that has fewer.

    The choice depends on (seed, class, key) alone, through sha256: it is the same on every machine, another
    class does not change it, and fewer shots are a subset of more. Raises UsageError if any image has no
    class.
    """
    if shots < 1:
        raise UsageError(f"--shots: expected 1 or more, found {shots}.")
    loose = [item.key for item in listing.items if item.label == UNLABELLED]
    if loose:
        raise UsageError(
            f"--shots takes images of every class, but {len(loose)} of {len(listing.items)} images have no "
            f"class, such as '{loose[0]}'.",
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


def _notes(by_text: dict[str, list[str]]) -> Iterator[str]:
    """Yield sentences about sources; a note that several share appears once."""
    for text, names in list(by_text.items())[:MOST_NOTES]:
        others = f" and {len(names) - 1} more" * (len(names) > 1)
        yield f"{printable(names[0])}{others}: {text}."
    if len(by_text) > MOST_NOTES:
        yield f"Remarks like these on {len(by_text) - MOST_NOTES} more sources are left out."


def _in_order(classes: Iterable[str | int]) -> tuple[str, ...]:
    """Class numbers by number, then names by name: number k is label k when all numbers are there."""
    numbers = sorted({label for label in classes if isinstance(label, int)})
    names = sorted({label for label in classes if isinstance(label, str)} - set(map(str, numbers)))
    return (*map(str, numbers), *names)


def shareable(listing: Listing) -> str:
    """Why other processes could not read the images of ``listing``, as a sentence; empty if they can.

    Their items can be written down then, and read wherever the same paths lead to the same files.
    """
    known = tuple(content_types().values())
    for item in listing.items:
        if isinstance(item.content, UnpackedFile):
            return f"'{item.path}' is compressed: this process alone can read what it unpacked of it."
        if item.content is not None and not isinstance(item.content, known):
            kind = type(item.content).__name__
            return f"'{item.path}': this process alone can read its images; no row of SOURCES names {kind}."
        if item.path.startswith("memory://"):
            return f"'{item.path}' lies in the memory of this process."
    return ""


T = TypeVar("T")


def in_order(tasks: Sequence[Callable[[], T]], threads: int) -> Iterator[T]:
    """The results of ``tasks``, in their order; what a task raises is raised in its place.

    When the iterator is closed nothing new is begun, and nobody waits for what still runs: its threads end
    with the process, so that Ctrl-C does not wait for a slow network.
    """
    futures: deque[Future[T]] = deque(Future() for _ in tasks)
    waiting, stopped = deque(zip(tasks, futures, strict=True)), Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                task, future = waiting.popleft()
            except IndexError:
                return
            try:
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)

    for _ in range(min(threads, len(tasks))):
        Thread(target=work, name="lsn-listing", daemon=True).start()
    try:
        while futures:
            yield futures.popleft().result()
    finally:
        stopped.set()


GROUP = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")
MOST = 1_000_000
"""Names that one text may expand to."""


def expand_braces(text: str) -> list[str]:
    """Return the names that the braces in ``text`` expand to, in order; ``text`` alone if it has none.

    ``{8..11}`` counts up or down, with leading zeros if a bound has any; ``{a,b}`` lists names. Raises
    UsageError for more than MOST names.
    """
    pieces, choices, at, count = [], [], 0, 1
    for group in GROUP.finditer(text):
        pieces.append(text[at : group.start()])
        at = group.end()
        low, high, names = group.groups()
        # Count a group before it is expanded: it may be very long.
        count *= abs(int(high) - int(low)) + 1 if names is None else names.count(",") + 1
        if count > MOST:
            raise UsageError(f"'{text}' expands to more than {MOST:,} names.", "Write fewer in the {...}.")
        choices.append(_count(low, high) if names is None else names.split(","))
    rest = text[at:]
    return [
        "".join(itertools.chain(*zip(pieces, combination, strict=True), [rest]))
        for combination in itertools.product(*choices)
    ]


def _count(low: str, high: str) -> list[str]:
    """Return the numbers from ``low`` to ``high``, which may be the smaller one."""
    padded = low.startswith("0") or high.startswith("0")
    width = max(len(low), len(high)) if padded else 0
    first, last = int(low), int(high)
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


STDIN = Path("-")


def find_sources(path: Path, options: ListingOptions, follow_links: bool) -> list[Scan]:
    """Return the sources that a path names: itself, those of its braces, or what matches its pattern.

    Raises UsageError for a path that is no source.
    """
    if path == STDIN:
        return [("stdin", lambda: listfile.scan_stdin(repeats=options.repeats, columns=options.columns))]
    path = Path(strip_file_scheme(str(path)))
    if not os.path.lexists(path):
        if (names := expand_braces(str(path))) != [str(path)]:
            return [scan for name in names for scan in find_sources(Path(name), options, follow_links)]
        if (url := as_url(path)) is not None:
            return remote_listing.find_sources(url, options)
        file, fragment = split_fragment(str(path))
        path, options = Path(file), replace(options, fragment=fragment)
        if (pattern := parse_pattern(path)) is not None:
            return _match(path, pattern, options, follow_links)
    name = path.name or path.resolve().name or "root"
    return [(name, lambda: _scan(path, options, follow_links))]


def _match(path: Path, pattern: Pattern, options: ListingOptions, follow_links: bool) -> list[Scan]:
    """Return what matches a pattern: each archive, table or list as a source, all images as one source."""
    if not pattern.base.is_dir():
        raise UsageError(f"There is no folder '{pattern.base}'.", sources_hint())
    if find_kind(path.name):
        files = find_files(pattern, source_suffixes())
        check_matched(bool(files), str(path))
        return [scan for file in files for scan in find_sources(file, options, follow_links)]

    def scan() -> Source:
        source = folder.scan(pattern.base, follow_links=follow_links, pattern=pattern)
        check_matched(bool(source.items or source.problems), str(path))
        return source

    return [(pattern.base.name or "images", scan)]


def _scan(path: Path, options: ListingOptions, follow_links: bool) -> Source:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if not os.path.lexists(path):
            reason = "" if isinstance(error, FileNotFoundError) else f" that can be read: {error}"
            raise UsageError(f"There is no '{path}'{reason}.", sources_hint()) from error
        mode = stat.S_IFREG  # a broken link: it is listed, and fails when it is read
    name = path.name.lower()
    if stat.S_ISDIR(mode):
        return folder.scan(path, follow_links=follow_links)
    if name.endswith(OTHER_ARCHIVES):
        raise UsageError(f"'{path}' is an archive that cannot be read.", "Unpack it and give the folder.")
    kind = find_kind(name)
    if kind and not stat.S_ISREG(mode):
        raise UsageError(f"'{path}' is not a regular file.", "Pipe a list into `-` instead.")
    if kind:
        source: Source = load(kind.scan)(str(path), options)
        return source
    size, mtime = size_and_time(path)
    return Source([ImageItem(path.name, str(path), None, size, mtime=mtime)], single=True)


def with_prefix(name: str, source: Source) -> Source:
    """Put the name of a source before its keys, so that they are unique among several sources."""

    def key(old: str) -> str:
        return name if source.single else f"{name}/{old}"

    source.items = [replace(item, key=key(item.key)) for item in source.items]
    source.problems = [replace(problem, key=f"{name}/{problem.key}") for problem in source.problems]
    return source
