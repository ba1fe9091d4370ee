"""Multiplying by a frozen matrix with oneDNN, its weights packed once into the layout that it computes in.

The operators are torch's own, used by its compiler, but not a public interface: ``works`` tries them before
anything relies on them.
"""

from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

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
