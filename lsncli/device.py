"""Devices, precisions, seeds and threads of the model. torch is imported on first use."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lsncli.errors import LsnError, Unavailable, UsageError, first_sentence
from lsncli.machine import processor

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
INT8 = "int8"
"""Precision of the linear layers of an open_clip image tower on a CPU; its other layers are float32."""


class DeviceWarning(UserWarning):
    """Another device is used than the best one of this machine."""


def pick_device(name: str) -> "torch.device":
    """Return the torch device of a name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is the first GPU that works with the installed torch and driver, else mps, else cpu; a
    DeviceWarning says why a GPU cannot be used. Raises Unavailable, with the reason, if this machine lacks
    the device, UsageError for another name.
    """
    import torch

    if name == "auto":
        if works := working_gpus():
            return torch.device("cuda", works[0]) if works[0] else torch.device("cuda")
        if torch.cuda.device_count():
            _warn_unused(cuda_problem(0))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device: expected auto, cpu, cuda, cuda:N or mps, found '{name}'.")
    problem = ""
    if device.type == "cuda":
        problem = cuda_problem(device.index or 0)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        problem = "torch finds no Metal device."
    if problem:
        raise Unavailable(
            f"The device '{name}' is not available here: {problem}", "Use --device auto or --device cpu."
        )
    return device


def working_gpus() -> list[int]:
    """Return the indices of the CUDA devices that ``cuda_problem`` finds no fault with."""
    import torch

    return [index for index in range(torch.cuda.device_count()) if not cuda_problem(index)]


def gpus(name: str) -> list[str]:
    """Return the GPUs to distribute work over: all that work for ``auto`` and ``cuda``, else none."""
    return [f"cuda:{index}" for index in working_gpus()] if name in ("auto", "cuda") else []


def memory_for(device: "torch.device", usual: int, share: float) -> int:
    """Return the bytes that a computation may use: ``usual``, or on CUDA a ``share`` of the card's memory.

    A share of all of it, not of what is free: the size of chunks changes the last bits of a result, which
    should be the same every time.
    """
    import torch

    if device.type != "cuda":
        return usual
    return int(share * torch.cuda.get_device_properties(device).total_memory)


@cache
def cuda_problem(index: int) -> str:
    """Return why CUDA device ``index`` cannot be used, as a sentence; "" if it can.

    torch counts cards that its driver or its kernels cannot use. This initialises CUDA, but occupies no
    memory of the card: in exclusive mode that would keep other processes from it. Float32 products are exact
    from then on, which torch's default is not for convolutions.
    """
    import torch

    if not torch.backends.cuda.is_built():
        return "this torch was built without CUDA."
    count = torch.cuda.device_count()
    if index >= count:
        return f"torch finds {count or 'no'} GPU{'s' * (count != 1)}."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they say again what is returned here
            torch.cuda.init()
            capability, kernels = torch.cuda.get_device_capability(index), torch.cuda.get_arch_list()
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        return first_sentence(error)
    if torch.version.hip is None and kernels and not _runs(capability, kernels):
        has = ".".join(map(str, capability))
        return (
            f"GPU {index} has compute capability {has}, and this torch has kernels for {', '.join(kernels)}."
        )
    _round_factors(False)
    return ""


def _runs(capability: tuple[int, int], kernels: Sequence[str]) -> bool:
    """Whether one of ``kernels``, such as sm_86 (binary) or compute_90 (source), runs on the card."""
    for kernel in kernels:
        kind, _, digits = kernel.partition("_")
        number = int("".join(filter(str.isdigit, digits)) or 0)
        needed = number // 10, number % 10
        if needed <= capability and (kind == "compute" or needed[0] == capability[0]):
            return True
    return False


@cache
def _warn_unused(problem: str) -> None:
    warnings.warn(f"The GPU is not used: {problem}", DeviceWarning, stacklevel=3)


def apply_precision(precision: str, device: "torch.device") -> None:
    """Let a CUDA device round the factors of float32 products to TF32 if ``precision`` is "tf32", else not.

    torch has one setting for the whole process. Raises Unavailable for "tf32" on another device.
    """
    if device.type == "cuda":
        _round_factors(precision == "tf32")
    elif precision == "tf32":
        raise Unavailable(
            f"--precision tf32 needs a CUDA device, found '{device}'.", "Elsewhere, use --precision fp32."
        )


def _round_factors(allowed: bool) -> None:
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


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
    """Return the torch dtype of ``fp32``, ``tf32``, ``fp16`` or ``bf16``.

    The whole model is cast to it, without autocast: autocast to bfloat16 on a CPU was measured at a third of
    the speed of plain float32.
    """
    import torch

    table = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision not in table:
        raise UsageError(
            f"--precision: expected one of {', '.join(PRECISIONS)}, found '{precision}'.",
            f"{INT8} is for open_clip's vision transformers on a CPU." if precision == INT8 else "",
        )
    return table[precision]


NATIVE_FLAGS = {"bf16": {"avx512_bf16", "amx_bf16", "bf16"}, "fp16": {"avx512_fp16", "amx_fp16", "fphp"}}
"""Instruction sets of processors (x86, then ARM) that multiply in half precision."""


def check_native(precision: str, device: str) -> None:
    """Raise UsageError for a half precision that the CPU has no instructions for.

    It would be several times slower than fp32. A system that does not list its instruction sets passes.
    """
    import torch

    if precision not in NATIVE_FLAGS or pick_device(device).type != "cpu":
        return
    flags = processor().instruction_sets
    limited = "avx512f" in flags and "AVX512" not in torch.backends.cpu.get_cpu_capability()
    if flags and (limited or not NATIVE_FLAGS[precision] & flags):
        raise UsageError(
            f"--precision {precision}: this processor has no instructions for it, and is far slower with it "
            "than with fp32.",
            f"Use --precision fp32, or {INT8} with a vision transformer of open_clip.",
        )


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
