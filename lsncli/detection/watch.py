"""Images as they arrive in a folder: seen twice alike, then read once (``lsn watch``)."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsncli.detection.detect import Verdict
from lsncli.detection.watch_log import Version, WatchLog
from lsncli.images.folder import scan
from lsncli.images.item import ImageItem, Listing, Problem
from lsncli.types import Failure

Detect = Callable[[Listing], Iterator[tuple[int, Sequence[Verdict]]]]
"""``detection.detect`` with a detector and a model."""

PAUSE = 4
"""The least pause, in times of what the look before it took."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image (or what could not be listed) that has no row, and its version when it was seen."""

    one: ImageItem | Problem
    version: Version


class Watcher:
    """Looks at a folder again and again, and has what is new in it scored.

    A file is taken when two looks in a row saw it with the same size and times; wait an interval between
    looks. ``folder`` is a full path, so that rows are of the same images wherever the next run starts.
    """

    def __init__(self, folder: Path, log: WatchLog, detect: Detect, *, follow_links: bool = False) -> None:
        self.folder, self.follow_links = folder, follow_links
        self.trouble = ""
        """Why the last look could not read the folder; empty if it could."""
        self.gone = 0
        """Images that were taken away before they were read: they have no row."""
        self._log, self._detect = log, detect
        self._seen: dict[str, Version] = {}

    @property
    def waiting(self) -> int:
        """Images without a row that the last look saw for the first time, or changed."""
        return len(self._seen)

    def look(self) -> list[Arrival]:
        """What is new and has not changed since the last look, the oldest first."""
        source = scan(self.folder, follow_links=self.follow_links)
        top = f"{self.folder}/"
        self.trouble = next((one.reason for one in source.problems if one.path == top), "")
        settled: list[Arrival] = []
        seen: dict[str, Version] = {}
        candidates: list[ImageItem | Problem] = [*source.problems, *source.items]
        for one in candidates:
            version = version_of(one.path) if isinstance(one, ImageItem) else Version()
            if one.path == top or version is None or self._log.knows(one.path, version):
                continue
            if self._seen.get(one.path) == version:
                settled.append(Arrival(one, version))
            else:
                seen[one.path] = version
        self._seen = seen
        settled.sort(key=lambda arrival: (arrival.version.mtime_ns or 0, arrival.one.path))
        return settled

    def score(self, arrivals: Sequence[Arrival]) -> Iterator[list[Verdict]]:
        """Score what ``look`` gave; batches come when their rows are on the disk.

        What changed while it was read gets no row now: the next looks see it as new. Raises as ``detect`` and
        ``WatchLog.append`` do.
        """
        versions: dict[str | None, Version] = {arrival.one.path: arrival.version for arrival in arrivals}
        for _, batch in self._detect(_listing(arrivals)):
            rows = [verdict for verdict in batch if self._is_valid(verdict, versions[verdict.path])]
            self._log.append([(vars(verdict), versions[verdict.path]) for verdict in rows])
            yield rows

    def _is_valid(self, verdict: Verdict, version: Version) -> bool:
        """Whether the file that was read is the version that was seen."""
        now = version_of(verdict.path or "") if version != Version() else version
        if now is None:  # removed after it was read: its verdict counts
            self.gone += verdict.error is not None
            return verdict.error is None
        return now == version


def rounds(watcher: Watcher, interval: float, *, once: bool = False) -> Iterator[list[Arrival]]:
    """What each look finds, ``interval`` seconds or more apart: for ever, or ``once`` what is there now.

    A look costs some system calls for each image in the folder; in a large one the pauses become longer, so
    that looking takes no more than a fifth of the time.
    """
    found, seconds = _timed_look(watcher)
    while not once or watcher.waiting:
        time.sleep(max(interval, PAUSE * seconds))
        found, seconds = _timed_look(watcher)
        yield found
        if once:
            return


def _timed_look(watcher: Watcher) -> tuple[list[Arrival], float]:
    began = time.perf_counter()
    found = watcher.look()
    return found, time.perf_counter() - began


def version_of(path: str) -> Version | None:
    """The version of a file, or of a link to nothing itself; None if there is no such file."""
    try:
        try:
            found = os.stat(path)
        except OSError:
            found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # it is there, but nothing can be said of it; reading it will tell why
        return Version()
    return Version(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _listing(arrivals: Sequence[Arrival]) -> Listing:
    found = [arrival.one for arrival in arrivals if isinstance(arrival.one, ImageItem)]
    problems = [arrival.one for arrival in arrivals if isinstance(arrival.one, Problem)]
    return Listing(
        items=tuple(ImageItem(one.key, one.path, None, one.size) for one in found),
        folders=(),
        problems=tuple(Failure(one.key, one.reason) for one in problems),
        ignored=0,
        problem_paths=tuple(one.path for one in problems),
    )
