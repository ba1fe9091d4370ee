"""The causal CLIP text transformer with everything done once that can be done once. Exact to rounding.

Learned prompts need the tower's gradient with respect to a few input vectors, nothing else. So, against
running all 77 positions of every class's prompt through the model:

* the start of text sees only itself: its keys and values in every layer are constants of the tower;
* tokens that all prompts share in front (a shared context) are computed once, and every class reads their
  keys;
* nothing behind the end of a text is computed, and texts are packed, not padded, in the linear layers;
* in the first layer, queries, keys and values of frozen tokens are constants, too;
* in the last layer only the end of each text asks and passes on.

The arithmetic falls to a twentieth for a shared context and to a quarter for class-specific ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, normalize

from lsncli.prompts.attention import Maps, attend
from lsncli.prompts.kernels import LinearMap, linear_map, pick_kernel
from lsncli.prompts.layout import Layout, Vocabulary
from lsncli.prompts.packing import pack
from lsncli.prompts.tower import Encoder
from lsncli.prompts.weights import Block, Norm, Weights

SAVED_WIDTHS = 15
"""What a packed row costs in a layer at the peak of a step, in multiples of the width, as measured: residual
stream, queries, keys, values, the wide activation (4), attention weights, and what the allocator adds."""


@dataclass(frozen=True)
class Layer:
    """A block whose linear layers are bound to a kernel, and what the start of text has in it."""

    norm1: Norm
    qkv: LinearMap
    out: LinearMap
    norm2: Norm
    up: LinearMap
    down: LinearMap
    start_k: Tensor
    """(H, 1, W / H)."""
    start_v: Tensor


@dataclass(frozen=True)
class FastTower:
    """See the module. Make one with ``fast_tower``."""

    vocabulary: Vocabulary
    weights: Weights
    kernel: str
    layers: tuple[Layer, ...]

    @property
    def path(self) -> str:
        return f"fast ({self.kernel})"

    @property
    def device(self) -> torch.device:
        return self.weights.positions.device

    def encoder(self, layout: Layout) -> Encoder:
        """Contexts -> unit text features; see ``tower.Encoder``."""
        positions = self.weights.positions
        packing = pack(layout, self.device, positions.dtype)
        prefix_positions = positions[1 : 1 + len(packing.prefix)]
        learned_positions = positions[packing.learned_positions]
        with torch.no_grad():
            embedding = self.vocabulary.embedding.to(positions.dtype)
            frozen = embedding[packing.frozen] + positions[packing.frozen_positions]
            frozen_qkv = self.layers[0].qkv(_norm(frozen, self.layers[0].norm1))
            words = embedding[[max(token, 0) for token in packing.prefix]]

        def encode(contexts: Tensor) -> Tensor:
            contexts = contexts.to(positions.dtype)
            groups = len(contexts)
            prefix = _prefix(packing.prefix, words, contexts) + prefix_positions
            own = contexts.flatten(1, -2).index_select(1, packing.learned) + learned_positions
            moving = torch.cat([prefix, own], dim=1)
            x = torch.cat([moving, frozen.expand(groups, -1, -1)], dim=1)
            moving_qkv = self.layers[0].qkv(_norm(moving, self.layers[0].norm1))
            qkv = torch.cat([moving_qkv, frozen_qkv.expand(groups, -1, -1)], dim=1)
            for i, layer in enumerate(self.layers):
                if i:
                    qkv = layer.qkv(_norm(x, layer.norm1))
                q, kv = torch.split(qkv, [x.shape[-1], 2 * x.shape[-1]], dim=-1)
                maps = packing.all_rows
                if i == len(self.layers) - 1:
                    x, q = x.index_select(1, packing.ends), q.index_select(1, packing.ends)
                    maps = packing.ends_only
                x = self._block(layer, x, q, kv, maps)
            return normalize(self._project(_norm(x, self.weights.final)).float(), dim=-1)

        return encode

    def activation_bytes(self, layout: Layout) -> int:
        """About how many bytes one context of ``layout`` keeps for its gradient."""
        packing = pack(layout, self.device)
        rows = len(packing.prefix) + len(packing.learned) + len(packing.frozen)
        floats = rows * len(self.layers) * SAVED_WIDTHS * self.vocabulary.width
        return floats * self.weights.positions.element_size()

    def _block(self, layer: Layer, x: Tensor, q: Tensor, kv: Tensor, maps: Maps) -> Tensor:
        x = x + layer.out(attend(q, kv, layer.start_k, layer.start_v, maps))
        wide = layer.up(_norm(x, layer.norm2))
        return x + layer.down(self._activation(wide))

    def _activation(self, x: Tensor) -> Tensor:
        if self.weights.activation == "gelu":
            return gelu(x)
        quick: Tensor = _QuickGelu.apply(x)  # type: ignore[no-untyped-call]
        return quick

    def _project(self, x: Tensor) -> Tensor:
        projection = self.weights.projection
        return x if projection is None else linear_map(projection, "torch")(x)


def fast_tower(vocabulary: Vocabulary, weights: Weights, kernel: str = "auto") -> FastTower:
    """Bind a tower's weights to a linear kernel (``kernels.pick_kernel``) and compute its constants."""
    device, dtype = weights.positions.device, weights.positions.dtype
    kernel = pick_kernel(kernel, vocabulary.width, device, dtype)
    first = vocabulary.embed(vocabulary.start).to(dtype)[None] + weights.positions[:1]
    return FastTower(vocabulary, weights, kernel, _layers(weights, kernel, first))


@torch.no_grad()
def _layers(weights: Weights, kernel: str, start: Tensor) -> tuple[Layer, ...]:
    """The start of text (1, 1, W) attends to itself alone, so attention hands on its value."""
    layers = []
    for block in weights.blocks:
        layer = _bound(block, kernel, start, weights.heads)
        value = layer.start_v.transpose(0, 1).flatten(1)[None]
        start = start + layer.out(value)
        wide = layer.up(_norm(start, layer.norm2))
        active = gelu(wide) if weights.activation == "gelu" else wide * torch.sigmoid(QUICK * wide)
        start = start + layer.down(active)
        layers.append(layer)
    return tuple(layers)


def _bound(block: Block, kernel: str, start: Tensor, heads: int) -> Layer:
    qkv = linear_map(block.qkv, kernel)
    _, k, v = (
        torch.unflatten(x[0], -1, (heads, -1)).transpose(0, 1)
        for x in qkv(_norm(start, block.norm1)).chunk(3, -1)
    )
    return Layer(
        norm1=block.norm1,
        qkv=qkv,
        out=linear_map(block.out, kernel),
        norm2=block.norm2,
        up=linear_map(block.up, kernel),
        down=linear_map(block.down, kernel),
        start_k=k.contiguous(),
        start_v=v.contiguous(),
    )


def _prefix(tokens: Sequence[int], words: Tensor, contexts: Tensor) -> Tensor:
    """The shared rows (G, P, W): frozen words, or vectors of a shared context."""
    if not any(token < 0 for token in tokens):
        return words.expand(len(contexts), -1, -1)
    rows = [
        contexts[:, ~token] if token < 0 else word.expand(len(contexts), -1)
        for token, word in zip(tokens, words, strict=True)
    ]
    return torch.stack(rows, dim=1)


def _norm(x: Tensor, norm: Norm) -> Tensor:
    return layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


QUICK = 1.702


class _QuickGelu(torch.autograd.Function):
    """x sigmoid(1.702 x), OpenAI's activation; keeps only x for the gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(QUICK * x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        s = torch.sigmoid(QUICK * x)
        return gradients[0] * (s + QUICK * x * s * (1 - s))
