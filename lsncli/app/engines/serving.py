"""What a process of the engine ``local`` does: one part after the other, until it is told to stop."""

import _thread
import os
import queue
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from lsncli.app.job import Job, encoder_for, work_part
from lsncli.device import pick_device
from lsncli.errors import LsnError
from lsncli.interrupts import hear_termination


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


def serve(job: Job, device: str, processes: int, pipe: Connection) -> None:
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
