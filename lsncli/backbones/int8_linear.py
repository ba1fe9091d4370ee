"""A linear layer in 8-bit integers, by oneDNN: ``--precision int8`` of the image tower on a CPU.

A weight w of output o becomes round(w / s_o), s_o = max |w| / 127. Each row x of the input has a scale s of
its own, so that the features of an image do not depend on the others of its batch: x becomes round(x / s) + z
in 0 .. 127. That is seven bits, because processors without VNNI instructions add pairs of products in 16
bits, which eight bits overflow. Sums are 32-bit integers; they are scaled back, and bias, activation and
residual sum are float32.

The operators are those of torch's quantised graphs, not a public interface: ``works`` tests them before use.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from lsncli.prompts import kernels

WEIGHT_LEVELS, INPUT_LEVELS = 127, 127
ZERO = 64
"""The integer z of zero, for inputs of both signs."""
ACTIVATED_ZERO = 8
"""The same after GELU or QuickGELU, whose values are above -0.28: more levels are left for positive ones."""


@dataclass(frozen=True)
class Int8Linear:
    """y = x A^T + b with A (out, in) in int8; ``zero`` is the integer of a zero in x."""

    packed: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor | None
    zero: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, *, activated: bool = False) -> "Int8Linear":
        """Quantise A (out, in), float32 on the CPU; ``activated`` inputs are those of GELU or QuickGELU."""
        scales = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / WEIGHT_LEVELS
        integers = (weight / scales[:, None]).round().to(torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(integers, None)
        zeros = torch.zeros(len(scales), dtype=torch.int32)
        return cls(packed, scales, zeros, bias, ACTIVATED_ZERO if activated else ZERO)

    def __call__(self, x: Tensor, then: kernels.Then = "none") -> Tensor:
        """Return then(x A^T + b) of (..., in)."""
        y, scale = self._product(x)
        y = y.mul_(scale) if self.bias is None else torch.addcmul(self.bias, y, scale)
        if then == "silu":
            return silu(y, inplace=True)
        return y if then == "none" else gelu(y, approximate="tanh" if then == "tanh_gelu" else "none")

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x A^T + b + y."""
        product, scale = self._product(x)
        return torch.addcmul(y if self.bias is None else y + self.bias, product, scale)

    def _product(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the product of integers, scaled by the weights' scales, and the scale of each row."""
        integers, scale = quantise(x, self.zero)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(integers, 1.0, self.zero, self.packed, self.scales, self.zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        return product, scale


def quantise(x: Tensor, zero: int) -> tuple[Tensor, Tensor]:
    """Return x (..., in) as uint8 and the scale s (..., 1) of each row: x is about s (integer - zero)."""
    high, low = x.amax(dim=-1, keepdim=True), x.amin(dim=-1, keepdim=True)
    scale = torch.maximum(high / (INPUT_LEVELS - zero), low / -zero).clamp_min_(torch.finfo(x.dtype).tiny)
    # Adding a half and cutting off rounds, because nothing here is negative.
    return (x / scale).add_(zero + 0.5).to(torch.uint8), scale


@cache
def works() -> bool:
    """Return whether the operators exist and multiply integers exactly."""
    weight = torch.arange(-60, 60, dtype=torch.float32).view(5, 24)
    weight[:, 0] = WEIGHT_LEVELS
    x = torch.arange(-36, 36, dtype=torch.float32).view(3, 24)
    x[:, 0] = INPUT_LEVELS - ZERO
    try:
        found = Int8Linear.of(weight, None)(x)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    return torch.allclose(found, x @ weight.T, rtol=1e-5, atol=1e-2)
