"""The engine ``local``: processes on this machine, one for each GPU or as many as requested.

This process assigns the parts; a worker gets the next one when it has finished its last. Workers notice by
their pipe when this process ends, commit their chunks, and stop.
"""

import _thread
import multiprocessing
import os
import queue
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

import torch

from lsncli import console
from lsncli.device import gpus, pick_device
from lsncli.errors import LsnError
from lsncli.extraction.engines import EngineRequest, WorkerGroup
from lsncli.extraction.part_job import PartJob, PartResult, encoder_for, work_part
from lsncli.memory import out_of_memory
from lsncli.signals import hear_termination


@dataclass(frozen=True)
class Broken:
    """An error to send through a pipe, where exceptions would lose their hints."""

    kind: type[LsnError]
    message: str
    hint: str

    def error(self) -> LsnError:
        """Return the error."""
        return self.kind(self.message, self.hint)


def broken(error: Exception) -> Broken:
    """Return ``error`` in a form that can be sent."""
    if isinstance(error, LsnError):
        return Broken(type(error), error.message, error.hint)
    text = f"A process that encodes failed: {type(error).__name__}: {error}."
    hint = "Use fewer --processes or --workers." if out_of_memory(error) else "This is a bug in lsn."
    return Broken(LsnError, text, hint)


def serve(job: PartJob, device: str, processes: int, pipe: Connection) -> None:
    """Extract the parts whose numbers come through ``pipe``; send image counts, part results or an error.

    ``processes`` such processes share the cores of this machine. Ends when the other end is closed.
    """
    # Ctrl-C reaches every process of a terminal; this one is stopped by the process that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hear_termination()
    todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    threading.Thread(target=_receive_parts, args=(pipe, todo), daemon=True).start()
    with suppress(KeyboardInterrupt):
        try:
            if pick_device(device).type == "cpu":
                torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
            encoder = encoder_for(job, device, lambda step, note="": pipe.send(step))
            while (index := todo.get()) is not None:
                pipe.send(work_part(job, index, encoder))
        except Exception as error:
            pipe.send(broken(error))
        todo.get()  # wait until the other side closes: it has read everything then


def _receive_parts(pipe: Connection, todo: "queue.SimpleQueue[int | None]") -> None:
    with suppress(EOFError, OSError):
        while True:
            todo.put(pipe.recv())
    todo.put(None)
    _thread.interrupt_main(signal.SIGTERM)


STOP_SECONDS = 30.0
"""Time limit for a process to commit its chunks when it is stopped."""


@dataclass(frozen=True)
class Worker:
    """A process, its device, and this end of its pipe."""

    process: BaseProcess
    device: str
    pipe: Connection


def group_of(request: EngineRequest) -> WorkerGroup | None:
    """Return a group of the requested number of processes, else of one per GPU; None for one process."""
    processes = request.processes or max(1, len(gpus(request.device)))
    return WorkerGroup("local", processes, request.device, beside=processes) if processes > 1 else None


def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
    """Extract all parts with ``group.processes`` processes, as an ``Engine``. Raises LsnError on failure."""
    todo = list(range(job.plan.parts))
    processes = min(group.processes, len(todo))  # the others would have no part, and get no cores
    workers = [_start(job.divided(processes), device, processes) for device in devices(group)[:processes]]
    results: list[PartResult] = []
    try:
        busy = {worker.pipe: worker for worker in workers}
        for worker in workers:
            _assign(worker, todo.pop(0))
        while busy:
            for pipe in cast(list[Connection], wait(list(busy))):
                message = _receive(busy[pipe])
                if isinstance(message, int):
                    progress(message)
                    continue
                results.append(message)
                if todo:
                    _assign(busy[pipe], todo.pop(0))
                else:
                    del busy[pipe]
    finally:
        _stop(workers)
    return sorted(results, key=lambda part: part.index)


def devices(group: WorkerGroup) -> list[str]:
    """Return the device of each process: the GPUs in turn, unless the group names a device."""
    # An error message needs the device, not "auto".
    names = gpus(group.device) or [str(pick_device(group.device))]
    return list(islice(cycle(names), group.processes))


def _start(job: PartJob, device: str, processes: int) -> Worker:
    # A fork of a process that has used CUDA or threads is not safe.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(job, device, processes, theirs), daemon=True)
    process.start()
    theirs.close()  # otherwise its end stays open here, and its death goes unnoticed
    return Worker(process, device, ours)


def _assign(worker: Worker, index: int) -> None:
    with suppress(OSError):  # it has ended, which ``_receive`` reports
        worker.pipe.send(index)


def _receive(worker: Worker) -> int | PartResult:
    """Receive a count of images, or a part. Raises the worker's LsnError, or one if the worker has ended."""
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
