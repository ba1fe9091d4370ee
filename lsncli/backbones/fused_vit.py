"""A vision transformer of open_clip on a CPU with fewer operations: the runtime "fused".

Against the model's own forward:

* linear layers are oneDNN's, with weights packed once; activation and residual sum happen before a product
  leaves the cache (with ``int8`` layers: in integers, see ``int8_linear``);
* where the class token is the feature, the last block computes that token alone;
* a batch goes through a few images at a time, so that activations stay small and near the cache.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from lsncli.backbones.int8_linear import Int8Linear
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.trainable_image_tower import on_cpu_in_float32
from lsncli.prompts import kernels
from lsncli.prompts.fast_tower import QUICK

ensure_torchvision()
from open_clip.transformer import (  # noqa: E402  (needs a torchvision that imports)
    QuickGELU,
    ResidualAttentionBlock,
    VisionTransformer,
)

ROWS = 1600
"""Tokens per batch: more are not faster, and activations grow with them."""


class FrozenLinear(Protocol):
    """y = x A^T + b with a frozen A (out, in)."""

    def __call__(self, x: Tensor, then: kernels.Then = "none") -> Tensor:
        """Return then(x A^T + b) of (..., in)."""

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x A^T + b + y."""


def is_known(tower: nn.Module) -> bool:
    """Return whether ``FusedVit`` supports this module, by the exact class of every part."""
    parts: Any = tower
    if type(tower) is not VisionTransformer or parts.attn_pool is not None or parts.pool_type == "none":
        return False
    blocks = list(parts.transformer.resblocks)
    return (
        kernels.works()
        and on_cpu_in_float32(tower)
        and not tower.training
        and not parts.output_tokens
        and isinstance(parts.ln_pre, nn.LayerNorm | nn.Identity)
        and isinstance(parts.ln_post, nn.LayerNorm)
        and bool(blocks)
        and all(_is_known_block(block) for block in blocks)
    )


def _is_known_block(block: Any) -> bool:
    attention = block.attn
    return (
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and isinstance(block.ls_1, nn.Identity)
        and isinstance(block.ls_2, nn.Identity)
        and isinstance(block.ln_1, nn.LayerNorm)
        and isinstance(block.ln_2, nn.LayerNorm)
        and type(attention) is nn.MultiheadAttention
        and attention.in_proj_weight is not None
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and type(block.mlp.c_fc) is nn.Linear
        and type(block.mlp.c_proj) is nn.Linear
        and type(block.mlp.gelu) in (nn.GELU, QuickGELU)
    )


@dataclass(frozen=True)
class PackedLinear:
    """y = x A^T + b with A (out, in) in oneDNN's layout."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> "PackedLinear":
        """Pack A (out, in), float32 on the CPU."""
        return cls(kernels.pack(weight), bias)

    def __call__(self, x: Tensor, then: kernels.Then = "none") -> Tensor:
        return kernels.multiply(x, self.weight, self.bias, then)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the product with x, plus y."""
        return kernels.multiply_and_add(x, self.weight, self.bias, y)


@dataclass(frozen=True)
class ImageBlock:
    """x += out(attention(q, kv of norm1 x)); x += down(then(up(norm2 x)))."""

    norm1: nn.LayerNorm
    qkv: tuple[FrozenLinear, ...]
    """One layer for queries, keys and values; in the last block two, with queries of the class token only."""
    out: FrozenLinear
    norm2: nn.LayerNorm
    up: FrozenLinear
    then: kernels.Then
    down: FrozenLinear


class FusedVit:
    """The forward of a tower for which ``is_known`` holds; ``int8`` has its linear layers in integers.

    The packed weights are as large as the linear layers (ViT-B 324 MiB, a quarter of that in int8), in
    addition to the model's own, which gradients and fine-tuning need.
    """

    def __init__(self, tower: nn.Module, *, int8: bool = False) -> None:
        parts: Any = tower
        self._tower = parts
        self._heads: int = parts.transformer.resblocks[0].attn.num_heads
        self._at_once = max(1, ROWS // len(parts.positional_embedding))
        *before, last = parts.transformer.resblocks
        one_token = parts.pool_type == "tok"
        self._blocks = (*(_block(block, False, int8) for block in before), _block(last, one_token, int8))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, H, W) to features (B, D), not normalised; thread-safe."""
        return torch.cat([self._features(some) for some in pixels.split(self._at_once)])

    def _features(self, pixels: Tensor) -> Tensor:
        tower = self._tower
        x = self._tokens(pixels)
        for block in self._blocks:
            attended = self._attended(block, _norm(x, block.norm1))
            x = block.out.add(attended, x[:, : attended.shape[1]])
            x = block.down.add(block.up(_norm(x, block.norm2), block.then), x)
        if tower.pool_type == "tok":
            x = _norm(x[:, 0], tower.ln_post)
        elif tower.final_ln_after_pool:
            x = _norm(x[:, 1:].mean(dim=1), tower.ln_post)
        else:
            x = _norm(x[:, 1:], tower.ln_post).mean(dim=1)
        return x if tower.proj is None else x @ tower.proj

    def _tokens(self, pixels: Tensor) -> Tensor:
        """Return class token and patches with position embeddings, (B, 1 + patches, W)."""
        tower = self._tower
        patches = tower.conv1(pixels).flatten(2).mT
        x = torch.cat([tower.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        x += tower.positional_embedding
        return x if isinstance(tower.ln_pre, nn.Identity) else _norm(x, tower.ln_pre)

    def _attended(self, block: ImageBlock, x: Tensor) -> Tensor:
        """Return attention outputs (B, T, W), or (B, 1, W) if only the class token has a query."""
        first, *others = block.qkv
        if others:
            queries = [first(x[:, :1])]
            rest = others[0](x).chunk(2, dim=-1)
        else:
            queries, rest = [], first(x).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self._heads, -1)).transpose(1, 2) for part in (*queries, *rest))
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _block(block: Any, one_token: bool, int8: bool) -> ImageBlock:
    attention, mlp = block.attn, block.mlp
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    width, rows = weight.shape[1], len(weight)
    parts = (width, rows - width) if one_token else (rows,)
    then: kernels.Then = "silu"
    scale = QUICK  # QuickGELU is silu(1.702 x) / 1.702: the factors go into the layers around
    if isinstance(mlp.gelu, nn.GELU):
        then, scale = ("gelu" if mlp.gelu.approximate == "none" else "tanh_gelu"), 1.0
    down = mlp.c_proj.weight / scale
    return ImageBlock(
        norm1=block.ln_1,
        qkv=tuple(_linear(*pair, int8) for pair in zip(weight.split(parts), bias.split(parts), strict=True)),
        out=_linear(attention.out_proj.weight, attention.out_proj.bias, int8),
        norm2=block.ln_2,
        up=_linear(mlp.c_fc.weight * scale, None if mlp.c_fc.bias is None else mlp.c_fc.bias * scale, int8),
        then=then,
        down=Int8Linear.of(down, mlp.c_proj.bias, activated=True) if int8 else _linear(down, mlp.c_proj.bias),
    )


def _linear(weight: Tensor, bias: Tensor | None, int8: bool = False) -> FrozenLinear:
    make = Int8Linear.of if int8 else PackedLinear.of
    return make(weight.detach(), None if bias is None else bias.detach())


def _norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
