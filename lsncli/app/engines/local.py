"""Several processes of this machine, one for each GPU or as many as wanted; this one hands out the parts.

A process gets another part when it is done with one. Each hears through its pipe when this process ends,
however it ends, commits what it has and stops: nothing goes on behind anybody's back.
"""

import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

import torch

from lsncli import console
from lsncli.app.engines import Asked, Crew
from lsncli.app.engines.serving import Broken, serve
from lsncli.app.job import Job, PartDone
from lsncli.device import pick_device
from lsncli.errors import LsnError

STOP_SECONDS = 30.0
"""How long a process may take to commit what it has when it is told to stop."""


@dataclass(frozen=True)
class Worker:
    """A process, what it computes on, and this end of its pipe."""

    process: BaseProcess
    device: str
    pipe: Connection


def crew_of(asked: Asked) -> Crew | None:
    """As many processes as were asked for, else one for each GPU."""
    processes = asked.processes or max(1, gpus(asked.device))
    return Crew("local", processes, asked.device, beside=processes) if processes > 1 else None


def work(job: Job, crew: Crew, tick: console.Tick) -> list[PartDone]:
    """An ``Engine``: all parts, by ``crew.processes`` processes. Raises LsnError if one fails or dies."""
    todo = list(range(job.plan.parts))
    workers = [_start(job, device, crew.processes) for device in devices(crew)[: len(todo)]]
    done: list[PartDone] = []
    try:
        busy = {worker.pipe: worker for worker in workers}
        for worker in workers:
            _give(worker, todo.pop(0))
        while busy:
            for pipe in cast(list[Connection], wait(list(busy))):
                message = _heard(busy[pipe])
                if isinstance(message, int):
                    tick(message)
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


def devices(crew: Crew) -> list[str]:
    """The device of each process: the GPUs in turn, unless one of them was named."""
    count = gpus(crew.device)
    device = str(pick_device(crew.device))  # "auto" stands for nothing when one of them fails
    return [f"cuda:{index % count}" if count else device for index in range(crew.processes)]


def _start(job: Job, device: str, processes: int) -> Worker:
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


def _heard(worker: Worker) -> int | PartDone:
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
    return cast(int | PartDone, message)


def _stop(workers: list[Worker]) -> None:
    for worker in workers:
        worker.pipe.close()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
