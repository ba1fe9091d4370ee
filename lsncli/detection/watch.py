"""Score images as they arrive in a folder (``lsn watch``): an image unchanged in two scans is read once."""

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
"""``detection.detect`` with its detector and model bound."""

PAUSE = 4
"""The shortest pause between scans, as a multiple of the duration of the last scan."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image, or a path that could not be listed, without a row, and its version when it was seen."""

    item: ImageItem | Problem
    version: Version


class Watcher:
    """Scan a folder repeatedly and score new images.

    A file is scored when two consecutive scans, an interval apart, found it with the same size and times.
    ``folder`` is an absolute path, so that rows identify the same images wherever the next run starts.
    """

    def __init__(self, folder: Path, log: WatchLog, detect: Detect, *, follow_links: bool = False) -> None:
        self.folder, self.follow_links = folder, follow_links
        self.trouble = ""
        """The reason why the last scan could not read the folder; empty if it could."""
        self.gone = 0
        """The number of images that were removed before they were read and have no row."""
        self._log, self._detect = log, detect
        self._seen: dict[str, Version] = {}

    @property
    def waiting(self) -> int:
        """The number of images without a row that were new or changed in the last scan."""
        return len(self._seen)

    def look(self) -> list[Arrival]:
        """Scan the folder and return what is new and unchanged since the last scan, the oldest first."""
        source = scan(self.folder, follow_links=self.follow_links)
        top = f"{self.folder}/"
        self.trouble = next((problem.reason for problem in source.problems if problem.path == top), "")
        settled: list[Arrival] = []
        seen: dict[str, Version] = {}
        candidates: list[ImageItem | Problem] = [*source.problems, *source.items]
        for item in candidates:
            version = version_of(item.path) if isinstance(item, ImageItem) else Version()
            if item.path == top or version is None or self._log.knows(item.path, version):
                continue
            if self._seen.get(item.path) == version:
                settled.append(Arrival(item, version))
            else:
                seen[item.path] = version
        self._seen = seen
        settled.sort(key=lambda arrival: (arrival.version.mtime_ns or 0, arrival.item.path))
        return settled

    def score(self, arrivals: Sequence[Arrival]) -> Iterator[list[Verdict]]:
        """Score the images that ``look`` returned; yield each batch after its rows are on disk.

        An image that changed while it was read gets no row: the next scans treat it as new. Raises as
        ``detect`` and ``WatchLog.append`` do.
        """
        versions: dict[str | None, Version] = {arrival.item.path: arrival.version for arrival in arrivals}
        for _, batch in self._detect(_listing(arrivals)):
            rows = [verdict for verdict in batch if self._is_valid(verdict, versions[verdict.path])]
            self._log.append([(vars(verdict), versions[verdict.path]) for verdict in rows])
            yield rows

    def _is_valid(self, verdict: Verdict, version: Version) -> bool:
        """Return whether the file that was read is the version that was seen."""
        now = version_of(verdict.path or "") if version != Version() else version
        if now is None:  # removed: a verdict counts if the image was read before
            self.gone += verdict.error is not None
            return verdict.error is None
        return now == version


def rounds(watcher: Watcher, interval: float, *, once: bool = False) -> Iterator[list[Arrival]]:
    """Yield the arrivals of each scan, ``interval`` seconds or more apart: forever, or ``once``.

    A scan takes some system calls for each image in the folder. In a large folder the pauses become longer,
    so that scanning takes at most a fifth of the time.
    """
    arrivals, seconds = _timed_look(watcher)
    while not once or watcher.waiting:
        time.sleep(max(interval, PAUSE * seconds))
        arrivals, seconds = _timed_look(watcher)
        yield arrivals
        if once:
            return


def _timed_look(watcher: Watcher) -> tuple[list[Arrival], float]:
    start = time.perf_counter()
    arrivals = watcher.look()
    return arrivals, time.perf_counter() - start


def version_of(path: str) -> Version | None:
    """Return the version of a file, or of a broken link itself; None if the path does not exist."""
    try:
        try:
            status = os.stat(path)
        except OSError:
            status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # it exists but has no readable status; reading it will give the reason
        return Version()
    return Version(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _listing(arrivals: Sequence[Arrival]) -> Listing:
    items = [arrival.item for arrival in arrivals if isinstance(arrival.item, ImageItem)]
    problems = [arrival.item for arrival in arrivals if isinstance(arrival.item, Problem)]
    return Listing(
        items=tuple(ImageItem(item.key, item.path, None, item.size) for item in items),
        folders=(),
        problems=tuple(Failure(problem.key, problem.reason) for problem in problems),
        ignored=0,
        problem_paths=tuple(problem.path for problem in problems),
    )
