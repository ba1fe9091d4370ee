"""The causal CLIP text transformer without redundant computation. Exact up to rounding.

Learned prompts only need the tower's gradient with respect to a few input vectors. So, compared with running
all 77 positions of every class's prompt through the model:

* the start of text attends only to itself: its keys and values in every layer are constants of the tower;
* tokens at the start of all prompts (a shared context) are computed once, and every class uses their keys;
* nothing after the end of a text is computed, and texts are packed, not padded, in the linear layers;
* in the first layer, queries, keys and values of frozen tokens are constants, too;
* in the last layer only the end of each text has a query.

The number of operations falls to a twentieth for a shared context and to a quarter for class-specific ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, normalize

from lsncli.prompts.attention import plan
from lsncli.prompts.kernels import linear_map, pick_kernel
from lsncli.prompts.layers import Constants, Layer, run
from lsncli.prompts.layout import Encoder, PromptLayout, Vocabulary
from lsncli.prompts.packing import Linear, Norm, Packing, Weights, pack, packed_rows

QUICK = 1.702

SAVED_WIDTHS = 15
"""Memory of a packed row in a layer at the peak of a step, in multiples of the width, as measured: residual
stream, queries, keys, values, the wide activation (4), attention weights, and allocator overhead."""


@dataclass(frozen=True)
class FastTower:
    """The text tower of this module. Create it with ``fast_tower``."""

    vocabulary: Vocabulary
    weights: Weights
    kernel: str
    layers: tuple[Layer, ...]

    @property
    def path(self) -> str:
        """``fast`` and the linear kernel."""
        return f"fast ({self.kernel})"

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.weights.positions.device

    def encoder(self, layout: PromptLayout, *, raw: bool = False) -> Encoder:
        """Return the function from contexts to text features; see ``layout.TextTower``."""
        positions = self.weights.positions
        packing = pack(layout, self.device, positions.dtype)
        prefix_positions = positions[1 : 1 + len(packing.prefix)]
        learned_positions = positions[packing.learned_positions]
        with torch.no_grad():
            embedding = self.vocabulary.embedding.to(positions.dtype)
            frozen = embedding[packing.frozen] + positions[packing.frozen_positions]
            frozen_q, frozen_kv = self.layers[0].queries_and_keys(frozen)
            words = embedding[[max(token, 0) for token in packing.prefix]]

        @cache  # most passes have one group
        def constants(groups: int) -> Constants:
            heads = self.weights.heads
            return Constants(
                layers=self.layers,
                frozen=frozen,
                frozen_q=frozen_q,
                frozen_kv=frozen_kv,
                all_rows=plan(packing.all_rows, groups, heads),
                ends_only=plan(packing.ends_only, groups, heads),
                ends=packing.ends,
            )

        def encode(contexts: Tensor) -> Tensor:
            contexts = contexts.to(positions.dtype)
            prefix = _prefix(packing.prefix, words, contexts) + prefix_positions
            own = _own_vectors(packing, contexts) + learned_positions
            ends = run(torch.cat([prefix, own], dim=1), constants(len(contexts)))
            features = self._project(_norm(ends, self.weights.final)).float()
            return features if raw else normalize(features, dim=-1)

        return encode

    def activation_bytes(self, layout: PromptLayout) -> int:
        """Estimate the bytes that one context of ``layout`` saves for its gradient."""
        floats = packed_rows(layout) * len(self.layers) * SAVED_WIDTHS * self.vocabulary.width
        return floats * self.weights.positions.element_size()

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
    """Bind the layers; the start of text (1, 1, W) attends only to itself, so attention returns its value."""
    layers = []
    for block in weights.blocks:
        inside = _norm(start, block.norm1)
        q, kv = _parts(block.qkv, len(block.qkv.weight) // 3)
        kv_map = linear_map(kv, kernel)
        key_and_value = kv_map(inside)[0, 0].view(2, weights.heads, 1, -1)
        up, down = block.up, block.down
        if weights.activation == "quick_gelu":
            up, down = _silu_form(up, down)
        layer = Layer(
            norm1=block.norm1,
            q=linear_map(q, kernel),
            kv=kv_map,
            out=linear_map(block.out, kernel),
            norm2=block.norm2,
            up=linear_map(up, kernel),
            activation=weights.activation,
            down=linear_map(down, kernel),
            start=key_and_value,
        )
        start, _ = layer.after_attention(start, key_and_value[1].view(1, 1, -1))
        layers.append(layer)
    return tuple(layers)


def _parts(layer: Linear, first: int) -> tuple[Linear, Linear]:
    """Split the outputs of a layer in two."""
    biases = (None, None) if layer.bias is None else (layer.bias[:first], layer.bias[first:])
    return Linear(layer.weight[:first], biases[0]), Linear(layer.weight[first:], biases[1])


def _silu_form(up: Linear, down: Linear) -> tuple[Linear, Linear]:
    """Fold the factors of QuickGELU, x sigmoid(1.702 x) = silu(1.702 x) / 1.702, into the adjacent layers.

    torch computes silu and its gradient in one pass over memory.
    """
    bias = None if up.bias is None else QUICK * up.bias
    return Linear(QUICK * up.weight, bias), Linear(down.weight / QUICK, down.bias)


def _prefix(tokens: Sequence[int], words: Tensor, contexts: Tensor) -> Tensor:
    """Return the shared rows (G, P, W): frozen words, or vectors of a shared context."""
    if not any(token < 0 for token in tokens):
        return words.expand(len(contexts), -1, -1)
    rows = [
        contexts[:, ~token] if token < 0 else word.expand(len(contexts), -1)
        for token, word in zip(tokens, words, strict=True)
    ]
    return torch.stack(rows, dim=1)


def _own_vectors(packing: Packing, contexts: Tensor) -> Tensor:
    """Return the vectors (G, n, W) of the learned own rows.

    A shared context is repeated for every class instead of selected: on CUDA, the gradient of selecting a
    vector several times is summed in an order that changes from run to run.
    """
    once = contexts.flatten(1, -2).index_select(1, packing.learned[: packing.period])
    return once.repeat(1, len(packing.learned) // max(1, packing.period), 1)


def _norm(x: Tensor, norm: Norm) -> Tensor:
    return layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)
