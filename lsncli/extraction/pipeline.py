"""A stage of a pipeline: work on a stream in threads of its own, in order, a few steps ahead."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from threading import Condition, Lock, Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Raised:
    error: BaseException


def in_threads(
    source: Generator[T, None, None],
    work: Callable[[T], R],
    *,
    threads: int = 1,
    ahead: int = 1,
    name: str,
    stop: Callable[[], object] = lambda: None,
) -> Generator[R, None, None]:
    """``work`` on every element of ``source``, in its order, while the caller is busy with earlier results.

    At most ``threads + ahead`` elements were taken and not yet given to the caller. What ``source`` or
    ``work`` raises, the caller gets in its place. Closing the iterator calls ``stop``, which may give up what
    ``source`` waits for, ends the threads, once each is done with its element, and then closes ``source``.
    """
    turn, change = Lock(), Condition()  # a generator cannot be asked by two threads at once
    results: dict[int, R | _Raised] = {}
    taken = given = 0
    end: int | None = None
    stopped = False

    def run() -> None:
        nonlocal taken, end
        while True:
            with turn:
                with change:
                    while not stopped and taken - given >= threads + ahead:
                        change.wait()
                    if stopped or end is not None:
                        return
                    number = taken
                try:
                    one = next(source)
                except StopIteration:
                    with change:
                        end = number
                        change.notify_all()
                    return
                except BaseException as error:
                    with change:
                        results[number], end = _Raised(error), number + 1
                        change.notify_all()
                    return
                taken += 1
            result: R | _Raised
            try:
                result = work(one)
            except BaseException as error:
                result = _Raised(error)
            with change:
                results[number] = result
                change.notify_all()
            del one, result  # a batch is not to stay in memory while this thread waits

    # Daemons: an iterator that nobody closed must not keep the program from ending.
    running = [Thread(target=run, name=f"{name}-{index}", daemon=True) for index in range(threads)]
    for thread in running:
        thread.start()
    try:
        while True:
            with change:
                while given not in results and (end is None or given < end):
                    change.wait()
                if given not in results:
                    return
                result = results.pop(given)
                given += 1
                change.notify_all()
            if isinstance(result, _Raised):
                raise result.error
            yield result
            del result
    finally:
        with change:
            stopped = True
            change.notify_all()
        stop()
        for thread in running:
            thread.join()
        source.close()
