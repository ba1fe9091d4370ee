"""Devices, precisions, seeds and threads of the model. torch is imported on first use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsncli.errors import LsnError, Unavailable, UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "fp16", "bf16")


def pick_device(name: str) -> "torch.device":
    """Return the torch device of a name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is cuda if there is one, else mps, else cpu. Raises Unavailable if this machine lacks the device,
    UsageError for another name.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device: expected auto, cpu, cuda, cuda:N or mps, found '{name}'.")
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise Unavailable(f"The device '{name}' is not available here.", "Use --device auto or --device cpu.")
    return device


@dataclass
class _Forks:
    """Whether this process has computed, and whether it was forked from one that had."""

    computes: bool = False
    forked: bool = False

    def after(self) -> None:
        self.forked = self.computes


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forks.after)


def computes() -> None:
    """Record that this process computes with a model from now on.

    Raises LsnError in a process that was forked from one that had computed: torch's threads are not copied by
    a fork, and work that waits for them never ends.
    """
    if _forks.forked:
        raise LsnError(
            "This process was forked from one in which a model had computed; torch does not work in it.",
            "Start processes with multiprocessing.get_context('spawn'), or fork before anything is scored.",
        )
    _forks.computes = True


def check_sizes(*, batch_size: int = 1, workers: int = 1, least: int = 1) -> None:
    """Raise UsageError for a number below ``least``: 1, or 0 where 0 chooses the number automatically."""
    for option, value in (("--batch-size", batch_size), ("--workers", workers)):
        if value < least:
            raise UsageError(f"{option}: expected {least} or more, found {value}.")


def threads(workers: int) -> int:
    """Return ``workers``, or one thread per core for 0. Raises UsageError for a negative number."""
    check_sizes(workers=workers, least=0)
    return workers or os.cpu_count() or 1


def images_at_once(batch_size: int, device: str) -> int:
    """Return ``batch_size``, or what suits the device for 0. Raises UsageError for a negative number.

    On a CPU the activations of 16 images stay near the cache: twice as fast as 64 with the mini model.
    """
    check_sizes(batch_size=batch_size, least=0)
    return batch_size or (16 if pick_device(device).type == "cpu" else 128)


def pick_dtype(precision: str) -> "torch.dtype":
    """Return the torch dtype of ``fp32``, ``fp16`` or ``bf16``.

    The whole model is cast to it, without autocast: autocast to bfloat16 on a CPU was measured at a third of
    the speed of plain float32.
    """
    import torch

    table = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision not in table:
        raise UsageError(f"--precision: expected one of {', '.join(PRECISIONS)}, found '{precision}'.")
    return table[precision]


def seeded(seed: int) -> "torch.Generator":
    """Return a new CPU random generator; the global random state does not change."""
    import torch

    return torch.Generator().manual_seed(seed)


NARROW = 384
"""Below this width the matrices of a text tower are too small to split among threads."""


@contextmanager
def threads_for(width: int) -> Iterator[None]:
    """Use one CPU thread for a tower narrower than ``NARROW``, and the usual number otherwise.

    Splitting such small work gains nothing on idle cores (15 ms per step with one thread, 27 ms with two, for
    10 classes at width 192), and on busy cores the threads wait for each other (1 s per step was measured). A
    fixed rule is used, not a measurement, because the number of threads changes the last bits of a sum, and
    equal seeds must give equal prompts.
    """
    import torch

    before = torch.get_num_threads()
    if width < NARROW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
