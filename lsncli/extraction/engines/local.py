"""The engine ``local``: processes of this machine, one for each GPU or as many as asked for.

This process hands out the parts; another process gets a new one when it is done with its last. Each notices
through its pipe when this process ends, commits what it has, and stops.
"""

import _thread
import multiprocessing
import os
import queue
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

import torch

from lsncli import console
from lsncli.device import pick_device
from lsncli.errors import LsnError
from lsncli.extraction.engines import EngineRequest, WorkerGroup
from lsncli.extraction.part_job import PartJob, PartResult, encoder_for, work_part
from lsncli.signals import hear_termination


@dataclass(frozen=True)
class Broken:
    """An error on its way through a pipe, as exceptions lose their hints there."""

    kind: type[LsnError]
    message: str
    hint: str

    def error(self) -> LsnError:
        """The error again."""
        return self.kind(self.message, self.hint)


def broken(error: Exception) -> Broken:
    """What to send of an error."""
    if isinstance(error, LsnError):
        return Broken(type(error), error.message, error.hint)
    text = f"A process that encodes failed: {type(error).__name__}: {error}."
    return Broken(LsnError, text, "This is a bug in lsn, or memory ran out.")


def serve(job: PartJob, device: str, processes: int, pipe: Connection) -> None:
    """Make the parts whose numbers come through ``pipe``; answer with images done, parts done, or an error.

    ``processes`` such processes share the cores of this machine. Ends when the other end is closed.
    """
    # Ctrl-C reaches every process of a terminal; this one is told by the process that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hear_termination()
    todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, todo), daemon=True).start()
    with suppress(KeyboardInterrupt):
        try:
            if pick_device(device).type == "cpu":
                torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
            encoder = encoder_for(job, device, lambda step, note="": pipe.send(step))
            while (index := todo.get()) is not None:
                pipe.send(work_part(job, index, encoder))
        except Exception as error:
            pipe.send(broken(error))
        todo.get()  # leave when the other side does: it has read everything then


def _listen(pipe: Connection, todo: "queue.SimpleQueue[int | None]") -> None:
    with suppress(EOFError, OSError):
        while True:
            todo.put(pipe.recv())
    todo.put(None)
    _thread.interrupt_main(signal.SIGTERM)


STOP_SECONDS = 30.0
"""How long a process may take to commit what it has when it is told to stop."""


@dataclass(frozen=True)
class Worker:
    """A process, what it computes on, and this end of its pipe."""

    process: BaseProcess
    device: str
    pipe: Connection


def group_of(asked: EngineRequest) -> WorkerGroup | None:
    """As many processes as were asked for, else one for each GPU."""
    processes = asked.processes or max(1, gpus(asked.device))
    return WorkerGroup("local", processes, asked.device, beside=processes) if processes > 1 else None


def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
    """An ``Engine``: all parts, by ``group.processes`` processes. Raises LsnError if one fails or dies."""
    todo = list(range(job.plan.parts))
    workers = [_start(job, device, group.processes) for device in devices(group)[: len(todo)]]
    done: list[PartResult] = []
    try:
        busy = {worker.pipe: worker for worker in workers}
        for worker in workers:
            _give(worker, todo.pop(0))
        while busy:
            for pipe in cast(list[Connection], wait(list(busy))):
                message = _heard(busy[pipe])
                if isinstance(message, int):
                    progress(message)
                    continue
                done.append(message)
                if todo:
                    _give(busy[pipe], todo.pop(0))
                else:
                    del busy[pipe]
    finally:
        _stop(workers)
    return sorted(done, key=lambda one: one.index)


def gpus(device: str) -> int:
    """How many GPUs ``device`` stands for: all for ``auto`` and ``cuda``, none for one that is named."""
    return torch.cuda.device_count() if device in ("auto", "cuda") else 0


def devices(group: WorkerGroup) -> list[str]:
    """The device of each process: the GPUs in turn, unless one of them was named."""
    count = gpus(group.device)
    device = str(pick_device(group.device))  # "auto" stands for nothing when one of them fails
    return [f"cuda:{index % count}" if count else device for index in range(group.processes)]


def _start(job: PartJob, device: str, processes: int) -> Worker:
    # A fork of a process that has used CUDA or threads is not safe.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(job, device, processes, theirs), daemon=True)
    process.start()
    theirs.close()  # or its end would stay open here, and nobody would hear that it died
    return Worker(process, device, ours)


def _give(worker: Worker, index: int) -> None:
    with suppress(OSError):  # it is gone, which is heard next
        worker.pipe.send(index)


def _heard(worker: Worker) -> int | PartResult:
    """Images that were done, or a part. Raises the worker's LsnError, or one that says that it is gone."""
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError) as error:
        worker.process.join(STOP_SECONDS)
        raise LsnError(
            f"A process that encoded on '{worker.device}' ended with exit code {worker.process.exitcode}.",
            "What was committed stays. Run the same command again; with fewer --processes if memory ran out.",
        ) from error
    if isinstance(message, Broken):
        raise message.error()
    return cast(int | PartResult, message)


def _stop(workers: list[Worker]) -> None:
    for worker in workers:
        worker.pipe.close()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
