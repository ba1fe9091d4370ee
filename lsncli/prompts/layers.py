"""The layers of a tower, forward and backward, on packed rows.

Both passes are written out, as one operation of autograd. The weights are frozen, so only the gradient of a
few rows is wanted; and where a step works on few rows, as CoCoOp's with one image, autograd's own bookkeeping
took a tenth of the time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from lsncli.prompts.attention import AttentionPlan, attend, attend_backward
from lsncli.prompts.kernels import LinearMap
from lsncli.prompts.packing import Activation, Norm


@dataclass(frozen=True)
class Layer:
    """A block whose linear layers are bound to a kernel, with its constants of the start of text."""

    norm1: Norm
    q: LinearMap
    kv: LinearMap
    out: LinearMap
    norm2: Norm
    up: LinearMap
    activation: Activation
    """``quick_gelu`` is computed as silu; see ``fast_tower``."""
    down: LinearMap
    start: Tensor
    """(2, H, 1, W / H): key and value."""

    def queries_and_keys(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (..., W), and keys and values (..., 2 W), of rows (..., W)."""
        inside, _, _ = normalised(rows, self.norm1)
        return self.q(inside), self.kv(inside)

    def activated(self, wide: Tensor) -> Tensor:
        """Return the activation of the wide layer."""
        return gelu(wide) if self.activation == "gelu" else silu(wide)

    def activated_backward(self, gradient: Tensor, wide: Tensor) -> Tensor:
        """Return the gradient in ``wide``."""
        aten = torch.ops.aten
        backward = aten.gelu_backward if self.activation == "gelu" else aten.silu_backward
        in_wide: Tensor = backward(gradient, wide)
        return in_wide

    def after_attention(self, x: Tensor, attended: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the output of the block, and what ``after_attention_backward`` needs."""
        x = self.out(attended).add_(x)
        inside, mean, scale = normalised(x, self.norm2)
        wide = self.up(inside)
        return self.down(self.activated(wide)).add_(x), [x, mean, scale, wide]

    def after_attention_backward(
        self, gradient: Tensor, x: Tensor, mean: Tensor, scale: Tensor, wide: Tensor
    ) -> Tensor:
        """Return the gradient in the input of ``after_attention`` of a gradient in its output."""
        inside = self.up.backward(self.activated_backward(self.down.backward(gradient), wide))
        return normalised_backward(inside, x, mean, scale, self.norm2).add_(gradient)


@dataclass(frozen=True)
class Constants:
    """What a pass of G groups of rows depends on besides its moving rows (G, M, W), which come first."""

    layers: tuple[Layer, ...]
    frozen: Tensor
    """The other rows (F, W), with their queries (F, W) and keys and values (F, 2 W) of the first layer."""
    frozen_q: Tensor
    frozen_kv: Tensor
    all_rows: AttentionPlan
    """The attention of all layers but the last."""
    ends_only: AttentionPlan
    """The attention of the last layer, in which only the ends of texts have queries."""
    ends: Tensor
    """(C,) the rows of the ends of texts, all different."""


def run(moving: Tensor, constants: Constants) -> Tensor:
    """Return the ends of texts (G, C, W) after the last layer."""
    if torch.is_grad_enabled() and moving.requires_grad:
        ends: Tensor = _Run.apply(moving, constants)  # type: ignore[no-untyped-call]
        return ends
    return _forward(moving, constants, None)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, moving: Tensor, constants: Constants) -> Tensor:
        saved: list[list[Tensor]] = []
        ends = _forward(moving, constants, saved)
        ctx.constants, ctx.count = constants, moving.shape[1]
        ctx.sizes = [len(of_layer) for of_layer in saved]
        ctx.save_for_backward(*(tensor for of_layer in saved for tensor in of_layer))
        return ends

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        flat = iter(ctx.saved_tensors)
        saved = [[next(flat) for _ in range(size)] for size in ctx.sizes]
        return _backward(gradients[0], ctx.constants, saved, ctx.count), None


SAVED = 7
"""Tensors that a layer saves besides those of its attention: three of the first half, four of the second."""


def _forward(moving: Tensor, constants: Constants, saved: list[list[Tensor]] | None) -> Tensor:
    """Run the layers; append what the gradient needs to ``saved``, a list for each layer."""
    groups, ends = len(moving), constants.ends
    x = torch.cat([moving, constants.frozen.expand(groups, -1, -1)], dim=1)
    for number, layer in enumerate(constants.layers):
        is_last = number == len(constants.layers) - 1
        rows = x if number else moving
        inside, mean, scale = normalised(rows, layer.norm1)
        q, kv = layer.q(inside.index_select(1, ends) if number and is_last else inside), layer.kv(inside)
        if not number:
            q = torch.cat([q, constants.frozen_q.expand(groups, -1, -1)], dim=1)
            kv = torch.cat([kv, constants.frozen_kv.expand(groups, -1, -1)], dim=1)
            q = q.index_select(1, ends) if is_last else q
        attended, attention = attend(
            q, kv, layer.start, constants.ends_only if is_last else constants.all_rows
        )
        x, after = layer.after_attention(x.index_select(1, ends) if is_last else x, attended)
        if saved is not None:
            saved.append([rows, mean, scale, *after, *attention])
    return x


def _backward(gradient: Tensor, constants: Constants, saved: list[list[Tensor]], count: int) -> Tensor:
    """Return the gradient in the ``count`` moving rows of a ``gradient`` (G, C, W) in the result."""
    ends = constants.ends
    for number in reversed(range(len(constants.layers))):
        layer, is_last = constants.layers[number], number == len(constants.layers) - 1
        rows, mean, scale, *after = saved[number][:SAVED]
        gradient = layer.after_attention_backward(gradient, *after)
        plan = constants.ends_only if is_last else constants.all_rows
        d_q, d_kv = attend_backward(layer.out.backward(gradient), saved[number][SAVED:], plan)
        if is_last:  # from the ends to all rows
            every = gradient.new_zeros(len(gradient), d_kv.shape[1], gradient.shape[2])
            d_q, gradient = every.index_add(1, ends, d_q), every.index_add_(1, ends, gradient)
        if not number:
            d_q, d_kv, gradient = d_q[:, :count], d_kv[:, :count], gradient[:, :count]
        inside = layer.kv.backward(d_kv).add_(layer.q.backward(d_q))
        gradient = normalised_backward(inside, rows, mean, scale, layer.norm1).add_(gradient)
    return gradient


def normalised(x: Tensor, norm: Norm) -> tuple[Tensor, Tensor, Tensor]:
    """Return layer normalisation of x (..., W), with the mean and the inverse deviation of each row."""
    return torch.native_layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def normalised_backward(gradient: Tensor, x: Tensor, mean: Tensor, scale: Tensor, norm: Norm) -> Tensor:
    """Return the gradient in x of a gradient in ``normalised``."""
    in_x: Tensor = torch.ops.aten.native_layer_norm_backward(
        gradient, x, norm.weight.shape, mean, scale, norm.weight, norm.bias, [True, False, False]
    )[0]
    return in_x
