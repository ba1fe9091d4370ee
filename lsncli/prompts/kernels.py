"""Which routine multiplies by a frozen matrix: torch's own linear layer or oneDNN's.

Only the input of a frozen layer needs a gradient. On CPUs where torch's BLAS runs below what the processor
can do (Intel MKL on AMD's) oneDNN with packed weights is up to twice as fast; elsewhere the two are level.
So a short self-test decides, unless a kernel is named. It asks for a clear lead, because the two differ in
the last bits of a sum and equal seeds should give equal prompts; the kernel is written into the artefact.

Multiplying by a frozen matrix with oneDNN, its weights packed once into the layout that it computes in.

The operators are torch's own, used by its compiler, but not a public interface: ``works`` tries them before
anything relies on them.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, silu

from lsncli.device import NARROW
from lsncli.errors import Unavailable, UsageError
from lsncli.prompts.packing import Linear

Then = Literal["none", "gelu", "tanh_gelu", "silu"]
"""What is applied to a product before it leaves the cache."""

_THEN: dict[Then, tuple[str, str]] = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "tanh_gelu": ("gelu", "tanh"),
    "silu": ("swish", ""),
}


def pack(weight: Tensor) -> Tensor:
    """A matrix (out, in), float32 on the CPU, as ``multiply`` wants it: a copy as large as the matrix."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None, then: Then = "none") -> Tensor:
    """then(x A^T + b) of (..., in)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(
        x.contiguous(), packed, bias, _THEN[then][0], [], _THEN[then][1]
    )
    return y


def multiply_and_add(x: Tensor, packed: Tensor, bias: Tensor | None, y: Tensor) -> Tensor:
    """x A^T + b + y."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
        x.contiguous(), y.contiguous(), packed, bias, "add"
    )
    return out


@cache
def works() -> bool:
    """Whether the operators are there and right."""
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
        found = [multiply(x, packed, None), multiply_and_add(x, packed, bias, product)]
        found += [multiply(x, packed, bias, then) for then in expected]
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    right = [product, product + bias + product, *expected.values()]
    return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, right, strict=True))


KERNELS = ("auto", "torch", "onednn")

LinearMap = Callable[[Tensor], Tensor]
"""(..., in) -> (..., out), differentiable in its input alone."""

LEAD = 1.25
"""How many times faster oneDNN must be in the self-test to be taken."""


def pick_kernel(name: str, width: int, device: torch.device, dtype: torch.dtype) -> str:
    """``torch`` or ``onednn`` for a tower of this width; ``auto`` measures.

    Raises UsageError for an unknown name, Unavailable if oneDNN is asked for but cannot serve this device and
    precision.
    """
    if name not in KERNELS:
        raise UsageError(f"--kernel: expected one of {', '.join(KERNELS)}, found '{name}'.")
    able = device.type == "cpu" and dtype == torch.float32 and works()
    if name == "onednn" and not able:
        raise Unavailable(
            f"The kernel 'onednn' does not work here: it needs a CPU, float32 and torch with oneDNN; "
            f"found {device.type}, {str(dtype).removeprefix('torch.')}.",
            "Use --kernel auto.",
        )
    if name == "auto":
        worth = able and width >= NARROW  # small matrices are level, and a race among equals decides nothing
        return "onednn" if worth and _onednn_leads(width, torch.get_num_threads()) else "torch"
    return name


def linear_map(layer: Linear, kernel: str) -> LinearMap:
    """The layer as a function of its input."""
    if kernel == "torch":
        return lambda x: linear(x, layer.weight, layer.bias)
    forward, backward = pack(layer.weight), pack(layer.weight.T.contiguous())

    def apply(x: Tensor) -> Tensor:
        y: Tensor = _OneDnn.apply(x, forward, backward, layer.bias)  # type: ignore[no-untyped-call]
        return y

    return apply


class _OneDnn(torch.autograd.Function):
    """y = x A^T + b and dx = dy A, both with weights in oneDNN's own layout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, packed_back: Tensor, bias: Tensor | None) -> Tensor:
        ctx.packed_back = packed_back
        return multiply(x, packed, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return multiply(gradients[0], ctx.packed_back, None), None, None, None


@cache
def _onednn_leads(width: int, _threads: int, rows: int = 400, rounds: int = 9) -> bool:
    """Whether oneDNN is clearly faster on the widest layer of a tower: medians of alternating runs."""
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
