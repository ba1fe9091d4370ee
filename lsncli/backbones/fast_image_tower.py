"""The image tower of CLIP on a CPU: open_clip's transformer with fewer operations, exact up to rounding.

Against the model's own forward:

* linear layers are oneDNN's, with weights packed once; activation and residual sum happen before a product
  leaves the cache. By rule, not by a race: two runs of one extraction must give equal bytes;
* where the class token is the feature, the last block computes that token alone;
* a batch goes through a few images at a time, so that activations stay small and near the cache.

What is not exactly such a transformer runs as it is (``image_forward``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.trainable_image_tower import pooled
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

Forward = Callable[[Tensor], Tensor]
"""Pixels (B, 3, H, W) -> raw image features (B, D)."""


def image_forward(tower: nn.Module) -> Forward:
    """Return the fast forward of a frozen tower if it is supported and on a CPU in float32, else its own."""
    if is_known(tower) and kernels.works():
        return FastImageTower(tower)
    return lambda pixels: pooled(tower(pixels))


def is_known(tower: nn.Module) -> bool:
    """Return whether ``FastImageTower`` supports this module, by the exact class of every part."""
    parts: Any = tower
    if type(tower) is not VisionTransformer or parts.attn_pool is not None or parts.pool_type == "none":
        return False
    blocks = list(parts.transformer.resblocks)
    return (
        all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in parts.parameters())
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

    def __call__(self, x: Tensor, then: kernels.Then = "none") -> Tensor:
        return kernels.multiply(x, self.weight, self.bias, then)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the product with x, plus y."""
        return kernels.multiply_and_add(x, self.weight, self.bias, y)


@dataclass(frozen=True)
class ImageBlock:
    """x += out(attention(q, kv of norm1 x)); x += down(then(up(norm2 x)))."""

    norm1: nn.LayerNorm
    qkv: tuple[PackedLinear, ...]
    """One layer for queries, keys and values; in the last block two, with queries of the class token only."""
    out: PackedLinear
    norm2: nn.LayerNorm
    up: PackedLinear
    then: kernels.Then
    down: PackedLinear


class FastImageTower:
    """The image tower of this module.

    Weights are packed when the first pixels arrive, since commands that only encode texts do not need them.
    They are as large as the linear layers (ViT-B 324 MiB), in addition to the model's own, which gradients
    and fine-tuning need.
    """

    def __init__(self, tower: nn.Module) -> None:
        parts: Any = tower
        self._tower = parts
        self._one_token = parts.pool_type == "tok"
        self._heads: int = parts.transformer.resblocks[0].attn.num_heads
        self._at_once = max(1, ROWS // len(parts.positional_embedding))
        self._lock = Lock()
        self._blocks: tuple[ImageBlock, ...] = ()

    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, H, W) to features (B, D), not normalised; thread-safe."""
        blocks = self._packed()
        return torch.cat([self._features(some, blocks) for some in pixels.split(self._at_once)])

    def _packed(self) -> tuple[ImageBlock, ...]:
        with self._lock:
            if not self._blocks:
                *before, last = self._tower.transformer.resblocks
                self._blocks = (*(_block(block, False) for block in before), _block(last, self._one_token))
            return self._blocks

    def _features(self, pixels: Tensor, blocks: tuple[ImageBlock, ...]) -> Tensor:
        tower = self._tower
        x = self._tokens(pixels)
        for block in blocks:
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


def _block(block: Any, one_token: bool) -> ImageBlock:
    attention, mlp = block.attn, block.mlp
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    width, rows = weight.shape[1], len(weight)
    parts = (width, rows - width) if one_token else (rows,)
    then: kernels.Then = "silu"
    scale = QUICK  # QuickGELU is silu(1.702 x) / 1.702: the factors go into the layers around
    if isinstance(mlp.gelu, nn.GELU):
        then, scale = ("gelu" if mlp.gelu.approximate == "none" else "tanh_gelu"), 1.0
    return ImageBlock(
        norm1=block.ln_1,
        qkv=tuple(_pack(*pair) for pair in zip(weight.split(parts), bias.split(parts), strict=True)),
        out=_pack(attention.out_proj.weight, attention.out_proj.bias),
        norm2=block.ln_2,
        up=_pack(mlp.c_fc.weight * scale, None if mlp.c_fc.bias is None else mlp.c_fc.bias * scale),
        then=then,
        down=_pack(mlp.c_proj.weight / scale, mlp.c_proj.bias),
    )


def _pack(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    return PackedLinear(kernels.pack(weight.detach()), None if bias is None else bias.detach())


def _norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
