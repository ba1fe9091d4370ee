"""Hand out parts to workers that may be lost on the way: their parts are given to others.

Nothing here knows what a worker is or where it runs; whoever calls says it (``Workers``).
"""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Protocol

from lsncli import console
from lsncli.app.engines.serving import Broken
from lsncli.app.job import PartDone
from lsncli.errors import LsnError

LOSSES = 3
"""So many workers may be lost over one part, or in a row before they were ready."""

LOCK_SECONDS = 120.0
"""How long to wait for the lock that a lost worker held: a file server keeps it until a lease ends (90 s)."""

AGAIN = "What was committed stays. Run the same command again"


@dataclass(frozen=True)
class Ready:
    """The worker can be given parts."""


@dataclass(frozen=True)
class Progress:
    """So many ``images`` of a part are done, those found done included."""

    index: int
    images: int


@dataclass(frozen=True)
class Lost:
    """The worker is gone, and what is known of that."""

    why: str


News = Ready | Progress | PartDone | Broken | Lost


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


def hand_out(parts: int, workers: Workers, count: int, tick: console.Tick) -> list[PartDone]:
    """Have ``parts`` parts made by ``count`` workers, each of which is replaced when it is lost or fails.

    A part whose worker was lost is made by another, up to ``LOSSES`` times; one that failed is tried once
    more, last of all. ``tick`` hears of every image once, however often it was encoded. Raises the error of a
    part that failed twice or of a worker that could not begin, or an LsnError if too many were lost.
    """
    todo, idle = deque(range(parts)), deque[int]()
    at: dict[int, int] = {}
    told, failed, lost = Counter[int](), Counter[int](), Counter[int | None]()
    done: list[PartDone] = []
    index: int | None

    def tell(index: int, images: int) -> None:
        if images > told[index]:
            tick(images - told[index])
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
            case Progress(part, images):
                tell(part, images)
            case PartDone():
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
