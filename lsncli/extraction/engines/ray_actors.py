"""The actors of the engine ``ray``, and how parts are handed out to them.

An actor loads the model once and then makes parts. Workers may be lost; their parts go to others. That half
does not know what a worker is or where it runs: the caller says it (``Workers``).
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
"""How often an actor says how far it is."""


class Stopped(Exception):
    """The actor was told to stop."""


@dataclass(frozen=True)
class Post:
    """What an actor is sent: the job, the device to compute on, and what must be alike where it works.

    ``folder`` is the working folder of the command: paths may be relative to it. ``seen`` are files that the
    command sees: the plan, the first image and the last.
    """

    job: PartJob
    device: str
    folder: Path
    seen: tuple[str, ...]
    version: str = __version__

    @classmethod
    def of(cls, job: PartJob, device: str) -> "Post":
        """The post of actors that make parts of ``job``, which is planned. Raises LsnError."""
        first = read_manifest(job.folder, job.plan, 0)[0]
        last = read_manifest(job.folder, job.plan, job.plan.parts - 1)[-1]
        files = (str(job.folder / "plan.json"), first.path, last.path)
        return cls(job, device, Path.cwd(), tuple(file for file in files if os.path.exists(file)))


class Maker:
    """An actor. Each method may be called while another is under way; errors are values."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._encoder: Encoder | None = None
        self._at = (-1, 0)
        self._stop = threading.Event()

    def begin(self) -> Broken | None:
        """Load the model; None if that went well."""
        try:
            check_sight(self._post)
            self._encoder = encoder_for(self._post.job, self._post.device, self._count_images)
        except Exception as error:
            return broken(error)
        return None

    def make(self, index: int, wait: float) -> PartResult | Broken:
        """Make part ``index``; ``wait`` seconds for the lock of somebody else who worked on it."""
        try:
            if self._encoder is None:
                raise LsnError("A process was to make a part before it had a model.")
            self._at = (index, 0)
            return work_part(self._post.job, index, self._encoder, wait=wait)
        except Exception as error:
            return broken(error)

    def progress(self) -> tuple[int, int]:
        """After a moment: the part at work, and how many of its images are done."""
        time.sleep(HEAR_SECONDS)
        return self._at

    def stop(self) -> None:
        """Stop behind the present batch; what is done is committed."""
        self._stop.set()

    def _count_images(self, step: int, note: str = "") -> None:
        if self._stop.is_set():
            raise Stopped
        index, images = self._at
        self._at = (index, images + step)


def check_sight(post: Post) -> None:
    """Work in the folder of the command.

    Raises LsnError if this machine has not the same files: every image of a part would be noted as
    unreadable.
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
"""So many workers may be lost over one part, or in a row before they were ready."""

LOCK_SECONDS = 120.0
"""How long to wait for the lock that a lost worker held: a file server keeps it until a lease ends (90 s)."""

AGAIN = "What was committed stays. Run the same command again"


@dataclass(frozen=True)
class Ready:
    """The worker can be given parts."""


@dataclass(frozen=True)
class PartProgress:
    """So many ``images`` of a part are done, those found done included."""

    index: int
    images: int


@dataclass(frozen=True)
class Lost:
    """The worker is gone, and what is known of that."""

    why: str


News = Ready | PartProgress | PartResult | Broken | Lost


class Workers(Protocol):
    """Workers, each known by a number."""

    def hire(self) -> None:
        """Begin to start another one."""

    def give(self, worker: int, index: int, wait: float) -> None:
        """Have a part made; ``wait`` seconds for its lock."""

    def dismiss(self, worker: int) -> None:
        """Have no more of it; no news of it comes any more."""

    def news(self) -> tuple[int, News]:
        """Wait until there is news, and of whom. Raises LsnError if it has been waited long enough."""


def hand_out(
    parts: int, workers: Workers, count: int, progress: console.ProgressCallback
) -> list[PartResult]:
    """Have ``parts`` parts made by ``count`` workers, each of which is replaced when it is lost or fails.

    A part whose worker was lost is made by another, up to ``LOSSES`` times; one that failed is tried once
    more, last of all. ``progress`` counts every image once, however often it was encoded. Raises the error of
    a part that failed twice or of a worker that could not begin, or an LsnError if too many were lost.
    """
    todo, idle = deque(range(parts)), deque[int]()
    at: dict[int, int] = {}
    told, failed, lost = Counter[int](), Counter[int](), Counter[int | None]()
    done: list[PartResult] = []
    index: int | None

    def tell(index: int, images: int) -> None:
        if images > told[index]:
            progress(images - told[index])
            told[index] = images

    def replace(worker: int, index: int | None) -> None:
        workers.dismiss(worker)
        workers.hire()
        if worker in idle:
            idle.remove(worker)
        if index is not None:
            todo.append(index)

    for _ in range(min(count, parts)):
        workers.hire()
    while len(done) < parts:
        worker, news = workers.news()
        match news:
            case Ready():
                lost[None] = 0
                idle.append(worker)
            case PartProgress(part, images):
                tell(part, images)
            case PartResult():
                tell(news.index, news.found + news.encoded)
                done.append(news)
                del at[worker]
                idle.append(worker)
            case Broken():
                index = at.pop(worker, None)
                if index is None or failed[index]:
                    raise news.error()
                failed[index] += 1
                replace(worker, index)  # whatever broke it may be left in it
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
    return sorted(done, key=lambda one: one.index)
