"""Kernels for the product with a frozen matrix: torch's linear layer or oneDNN with packed weights.

Only the input of a frozen layer needs a gradient. On CPUs where torch's BLAS is slow (Intel MKL on AMD
processors) oneDNN with packed weights is up to twice as fast; elsewhere the two are level. So a short
benchmark decides, unless a kernel is named. The two differ in the last bits of a sum, and equal seeds should
give equal prompts: so it requires a lead, its result is kept for this machine (``lsncli.machine``), and the
kernel is recorded in the artefact.

The oneDNN operators are those of torch's compiler, not a public interface: ``works`` tests them before use.
"""

import statistics
import time
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, silu

from lsncli.device import NARROW
from lsncli.errors import Unavailable, UsageError
from lsncli.machine import keep_measured, measured, measurement_key, versions
from lsncli.prompts.packing import Linear

Then = Literal["none", "gelu", "tanh_gelu", "silu"]
"""The function that is fused with a product."""

_THEN: dict[Then, tuple[str, str]] = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "tanh_gelu": ("gelu", "tanh"),
    "silu": ("swish", ""),
}


def pack(weight: Tensor) -> Tensor:
    """Pack a matrix (out, in), float32 on the CPU, for ``multiply``: a copy as large as the matrix."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None, then: Then = "none") -> Tensor:
    """Return then(x A^T + b) (..., out) of x (..., in)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(
        x.contiguous(), packed, bias, _THEN[then][0], [], _THEN[then][1]
    )
    return y


def multiply_and_add(x: Tensor, packed: Tensor, bias: Tensor | None, y: Tensor) -> Tensor:
    """Return x A^T + b + y."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
        x.contiguous(), y.contiguous(), packed, bias, "add"
    )
    return out


@cache
def works() -> bool:
    """Return whether the operators exist and compute correctly."""
    x, weight = torch.linspace(-1, 1, 3 * 8).view(3, 8), torch.linspace(-1, 2, 5 * 8).view(5, 8)
    bias, product = weight[:, 0].contiguous(), x @ weight.T
    expected: dict[Then, Tensor] = {
        "none": product + bias,
        "gelu": gelu(product + bias),
        "tanh_gelu": gelu(product + bias, approximate="tanh"),
        "silu": silu(product + bias),
    }
    try:
        packed = pack(weight)
        results = [multiply(x, packed, None), multiply_and_add(x, packed, bias, product)]
        results += [multiply(x, packed, bias, then) for then in expected]
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    correct = [product, product + bias + product, *expected.values()]
    return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(results, correct, strict=True))


KERNELS = ("auto", "torch", "onednn")

LEAD = 1.1
"""How many times faster oneDNN must be in the benchmark to be used."""


def pick_kernel(name: str, width: int, device: torch.device, dtype: torch.dtype) -> str:
    """Return ``torch`` or ``onednn`` for a tower of this width; ``auto`` measures both.

    Raises UsageError for an unknown name, Unavailable if ``onednn`` does not support this device and
    precision.
    """
    if name not in KERNELS:
        raise UsageError(f"--kernel: expected one of {', '.join(KERNELS)}, found '{name}'.")
    supported = device.type == "cpu" and dtype == torch.float32 and works()
    if name == "onednn" and not supported:
        raise Unavailable(
            f"The kernel 'onednn' does not work here: it needs a CPU, float32 and torch with oneDNN; "
            f"found {device.type}, {str(dtype).removeprefix('torch.')}.",
            "Use --kernel auto.",
        )
    if name == "auto":
        worth = supported and width >= NARROW  # small matrices are equally fast with both
        return "onednn" if worth and _onednn_leads(width, torch.get_num_threads()) else "torch"
    return name


@dataclass(frozen=True)
class LinearMap:
    """A frozen layer (..., in) -> (..., out), computed by a kernel; make one with ``linear_map``."""

    layer: Linear
    packed: tuple[Tensor, Tensor] | None
    """The matrix and its transpose in oneDNN's layout; None for torch's kernel."""

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return linear(x, self.layer.weight, self.layer.bias)
        return multiply(x, self.packed[0], self.layer.bias)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient in the input of a gradient in the output."""
        if self.packed is None:
            return gradient @ self.layer.weight
        return multiply(gradient, self.packed[1], None)


def linear_map(layer: Linear, kernel: str) -> LinearMap:
    """Return the layer as a function of its input, computed by ``kernel``."""
    if kernel == "torch":
        return LinearMap(layer, None)
    return LinearMap(layer, (pack(layer.weight), pack(layer.weight.T.contiguous())))


def _onednn_leads(width: int, threads: int) -> bool:
    """Return whether oneDNN is faster for a tower of this width, as measured here once."""
    key = measurement_key(versions("torch", "lsncli"), threads=threads, kernel_of_width=width)
    known = measured(key)
    if not isinstance(known, bool):
        known = _measure_lead(width)
        keep_measured(key, known)
    return known


def _measure_lead(width: int, rows: int = 400, rounds: int = 31) -> bool:
    """Benchmark the widest layer of a tower: return whether oneDNN leads, by medians."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4 * width, width, generator=generator)
    x = torch.randn(rows, width, generator=generator)
    kernels = {name: linear_map(Linear(weight), name) for name in ("torch", "onednn")}
    seconds: dict[str, list[float]] = {name: [] for name in kernels}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for name, run in kernels.items():
                start = time.perf_counter()
                run(x)
                seconds[name].append(time.perf_counter() - start)
    torch_time, onednn_time = (statistics.median(times[1:]) for times in seconds.values())
    return torch_time > LEAD * onednn_time
