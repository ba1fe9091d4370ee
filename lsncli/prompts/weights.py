"""The weights of a causal CLIP text transformer, as plain tensors."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Activation = Literal["gelu", "quick_gelu"]


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over W: scale and shift (W,)."""

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5


@dataclass(frozen=True)
class Linear:
    """y = x A^T + b with A (out, in) and b (out,)."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class Block:
    """x += out(attention(qkv(norm1 x))); x += down(activation(up(norm2 x)))."""

    norm1: Norm
    qkv: Linear
    """(3 W, W): queries, keys, values."""
    out: Linear
    norm2: Norm
    up: Linear
    down: Linear


@dataclass(frozen=True)
class Weights:
    """A whole tower: positions are added to token embeddings, the answer is read at the end of text."""

    positions: Tensor
    """(longest prompt, W)."""
    blocks: tuple[Block, ...]
    heads: int
    activation: Activation
    final: Norm
    projection: Linear | None
    """(D, W); None where D = W and nothing is projected."""
