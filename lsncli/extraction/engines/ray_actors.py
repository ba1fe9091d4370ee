"""The actors of the engine ``ray``, and the assignment of parts to workers.

An actor loads the model once and then extracts parts. Workers may be lost; their parts go to others. The
assignment (``hand_out``) is independent of Ray: it uses the protocol ``Workers``.
"""

import os
import socket
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lsncli import __version__, console
from lsncli.errors import LsnError
from lsncli.extraction.encoder import Encoder
from lsncli.extraction.engines.local import Broken, broken
from lsncli.extraction.part_job import PartJob, PartResult, encoder_for, read_manifest, work_part

HEAR_SECONDS = 0.5
"""Seconds between an actor's reports of progress."""


class Stopped(Exception):
    """The actor was told to stop."""


@dataclass(frozen=True)
class Post:
    """The message to an actor: the job, the device, and what must be the same on its machine.

    ``folder`` is the working folder of the command, to which paths may be relative. ``seen`` are files that
    the command can read: the plan, the first image and the last.
    """

    job: PartJob
    device: str
    folder: Path
    seen: tuple[str, ...]
    version: str = __version__

    @classmethod
    def of(cls, job: PartJob, device: str) -> "Post":
        """Return the message to the actors of ``job``, which is planned. Raises LsnError."""
        first = read_manifest(job.folder, job.plan, 0)[0]
        last = read_manifest(job.folder, job.plan, job.plan.parts - 1)[-1]
        files = (str(job.folder / "plan.json"), first.path, last.path)
        return cls(job, device, Path.cwd(), tuple(file for file in files if os.path.exists(file)))


class Maker:
    """An actor. Methods may run concurrently; errors are returned."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._encoder: Encoder | None = None
        self._at = (-1, 0)
        self._stop = threading.Event()

    def begin(self) -> Broken | None:
        """Load the model. Returns None, or the error."""
        try:
            check_sight(self._post)
            self._encoder = encoder_for(self._post.job, self._post.device, self._count_images)
        except Exception as error:
            return broken(error)
        return None

    def make(self, index: int, wait: float) -> PartResult | Broken:
        """Extract part ``index``; waits up to ``wait`` seconds for another worker's lock."""
        try:
            if self._encoder is None:
                raise LsnError("A process was to make a part before it had a model.")
            self._at = (index, 0)
            return work_part(self._post.job, index, self._encoder, wait=wait)
        except Exception as error:
            return broken(error)

    def progress(self) -> tuple[int, int]:
        """Return the current part and the number of its images encoded, after HEAR_SECONDS."""
        time.sleep(HEAR_SECONDS)
        return self._at

    def stop(self) -> None:
        """Stop after the current batch; encoded batches are committed."""
        self._stop.set()

    def _count_images(self, step: int, note: str = "") -> None:
        if self._stop.is_set():
            raise Stopped
        index, images = self._at
        self._at = (index, images + step)


def check_sight(post: Post) -> None:
    """Change to the working folder of the command.

    Raises LsnError if this machine does not have the same files, since every image of a part would then be
    recorded as unreadable.
    """
    host = socket.gethostname()
    if post.version != __version__:
        raise LsnError(
            f"The machine '{host}' has lsn {__version__}, the one that plans has {post.version}.",
            "Install the same version on all machines of the cluster.",
        )
    for path in (str(post.folder), *post.seen):
        if not os.path.exists(os.path.join(post.folder, path)):
            raise LsnError(
                f"The machine '{host}' does not see {path}.",
                "Images, --work and the folder where lsn is started need the same paths on every machine.",
            )
    os.chdir(post.folder)


LOSSES = 3
"""Number of workers lost over one part, or in a row before they were ready, that ends the run."""

LOCK_SECONDS = 120.0
"""Seconds to wait for the lock of a lost worker: a file server keeps it until a lease ends (90 s)."""

AGAIN = "What was committed stays. Run the same command again"


@dataclass(frozen=True)
class Ready:
    """The worker is ready for parts."""


@dataclass(frozen=True)
class PartProgress:
    """The number of ``images`` of a part that are encoded, including those of earlier runs."""

    index: int
    images: int


@dataclass(frozen=True)
class Lost:
    """The worker was lost, and the reason if it is known."""

    why: str


News = Ready | PartProgress | PartResult | Broken | Lost


class Workers(Protocol):
    """Workers, each known by a number."""

    def hire(self) -> None:
        """Start another worker; does not wait for it."""

    def give(self, worker: int, index: int, wait: float) -> None:
        """Assign a part to a worker, which waits up to ``wait`` seconds for its lock."""

    def dismiss(self, worker: int) -> None:
        """End a worker; no more news of it is returned."""

    def news(self) -> tuple[int, News]:
        """Wait for news; return the worker and the news. Raises LsnError after a time limit."""


def hand_out(
    parts: int, workers: Workers, count: int, progress: console.ProgressCallback
) -> list[PartResult]:
    """Extract ``parts`` parts with ``count`` workers, each of which is replaced when it is lost or fails.

    The part of a lost worker goes to another, up to ``LOSSES`` times; a part that failed is tried once more,
    after all others. ``progress`` counts every image once, however often it was encoded. Raises the error of
    a part that failed twice or of a worker that could not begin, or an LsnError if too many were lost.
    """
    todo, idle = deque(range(parts)), deque[int]()
    at: dict[int, int] = {}
    reported, failed, lost = Counter[int](), Counter[int](), Counter[int | None]()
    results: list[PartResult] = []
    index: int | None

    def report(index: int, images: int) -> None:
        if images > reported[index]:
            progress(images - reported[index])
            reported[index] = images

    def replace(worker: int, index: int | None) -> None:
        workers.dismiss(worker)
        workers.hire()
        if worker in idle:
            idle.remove(worker)
        if index is not None:
            todo.append(index)

    for _ in range(min(count, parts)):
        workers.hire()
    while len(results) < parts:
        worker, news = workers.news()
        match news:
            case Ready():
                lost[None] = 0
                idle.append(worker)
            case PartProgress(part, images):
                report(part, images)
            case PartResult():
                report(news.index, news.found + news.encoded)
                results.append(news)
                del at[worker]
                idle.append(worker)
            case Broken():
                index = at.pop(worker, None)
                if index is None or failed[index]:
                    raise news.error()
                failed[index] += 1
                replace(worker, index)  # the cause may persist in the worker
            case Lost(why):
                index = at.pop(worker, None)
                lost[index] += 1
                if lost[index] == LOSSES:
                    what = "before they could begin" if index is None else f"at part {index}"
                    raise LsnError(f"{LOSSES} processes were lost {what}: {why}", f"{AGAIN}.")
                replace(worker, index)
        while todo and idle:
            worker, part = idle.popleft(), todo.popleft()
            at[worker] = part
            workers.give(worker, part, LOCK_SECONDS if lost[part] else 0.0)
    return sorted(results, key=lambda part: part.index)
