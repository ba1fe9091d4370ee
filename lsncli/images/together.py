"""Several things that mostly wait, done side by side."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from threading import Event, Thread
from typing import TypeVar

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
