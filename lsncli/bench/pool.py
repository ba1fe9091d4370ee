"""Learning, one job after the other or several at a time in processes of one thread each."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lsncli.bench.desk import same_backbone
from lsncli.bench.learning import Lesson, learn
from lsncli.bench.places import Loader, Place
from lsncli.console import Tick, silent
from lsncli.errors import LsnError


@dataclass(frozen=True)
class Homework:
    """A lesson with all that a process needs to do it by itself."""

    lesson: Lesson
    where: Place
    path: Path
    """The file that the outcome goes to."""
    pretrained: str

    def do(self, tick: Tick = silent) -> float:
        """Learn; returns the seconds it took. Raises LsnError as ``learn`` does."""
        began, store = time.perf_counter(), self.lesson.place.features
        task = loader(store).load(self.where)
        learn(self.lesson, task, lambda: same_backbone(store, self.pretrained, self.lesson.device), tick)
        return time.perf_counter() - began


@dataclass(frozen=True)
class Done:
    """What became of it: the seconds it took, or why it failed."""

    work: Homework
    seconds: float = 0.0
    error: str = ""


@lru_cache(maxsize=1)
def loader(store: Path) -> Loader:
    """Shared by the jobs of a process that follow each other."""
    return Loader(store)


@contextmanager
def learning(todo: Sequence[Homework], jobs: int) -> Iterator[Iterator[Done]]:
    """Learn everything; each comes as soon as its outcome is on the disk.

    Several jobs start at once, whatever is done inside before the first of them is asked for, and end in any
    order; one at a time learns when it is asked for. Raises LsnError if a process was killed.
    """
    if jobs < 2 or not todo:
        yield map(_attempt, todo)
        return
    spawn = multiprocessing.get_context("spawn")  # a forked torch can hang
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)), mp_context=spawn, initializer=_start, initargs=(os.getpid(),)
    )
    try:
        with _one_thread():  # the processes read it when they load torch
            futures = [pool.submit(_attempt, work) for work in todo]
        yield (future.result() for future in as_completed(futures))
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():  # after SIGTERM they have heard of nothing
            process.terminate()
        raise
    except BrokenProcessPool as error:
        raise LsnError(
            "A process that learned prompts was killed.",
            "Is there enough memory for that many --jobs? The same command goes on where it was.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _attempt(work: Homework) -> Done:
    try:
        return Done(work, work.do())
    except LsnError as error:
        return Done(work, error=str(error))


def _start(parent: int) -> None:
    """One thread of torch, and an end when the parent has been killed: nobody would wait for the outcome."""
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
