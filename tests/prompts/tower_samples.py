"""A text tower of random weights, small enough to check by hand, and the plain way through it."""

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, normalize

from lsncli.prompts.fast_tower import FastTower, fast_tower
from lsncli.prompts.layout import PromptLayout, Vocabulary
from lsncli.prompts.packing import Linear, Norm, TextBlock, Weights

WIDTH, DIM, HEADS, LONGEST = 8, 6, 2, 20
START, END, STOP = 28, 29, 27
CLASSES = ("ox", "hen", "beaver")


def tokenize(text: str) -> list[int]:
    """A token a letter: a = 1 ... z = 26, and the full stop. Spaces have none."""
    return [STOP if c == "." else ord(c) - 96 for c in text if c != " "]


def random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


VOCABULARY = Vocabulary(tokenize, (START,), (END,), random(30, WIDTH, seed=1).float(), LONGEST)


def weights(dtype: torch.dtype = torch.float32, layers: int = 2) -> Weights:
    """Biases, gains and shifts included, everything is off its usual first value."""

    def some(seed: int, *shape: int, scale: float = 0.4) -> Tensor:
        return random(*shape, seed=seed, scale=scale).to(dtype)

    def norm(seed: int) -> Norm:
        return Norm(1 + some(seed, WIDTH), some(seed + 1, WIDTH))

    def dense(seed: int, out: int, width: int = WIDTH) -> Linear:
        return Linear(some(seed, out, width), some(seed + 1, out))

    blocks = tuple(
        TextBlock(
            norm1=norm(at),
            qkv=dense(at + 2, 3 * WIDTH),
            out=dense(at + 4, WIDTH),
            norm2=norm(at + 6),
            up=dense(at + 8, 4 * WIDTH),
            down=dense(at + 10, WIDTH, 4 * WIDTH),
        )
        for at in range(100, 100 + 20 * layers, 20)
    )
    return Weights(
        positions=some(2, LONGEST, WIDTH),
        blocks=blocks,
        heads=HEADS,
        activation="gelu",
        final=norm(3),
        projection=dense(5, DIM),
    )


def tower(dtype: torch.dtype = torch.float32, kernel: str = "torch") -> FastTower:
    return fast_tower(VOCABULARY, weights(dtype), kernel)


def plain_features(model: Weights, layout: PromptLayout, contexts: Tensor) -> Tensor:
    """One prompt at a time through every layer with a causal mask: unit text features (G, C, D)."""
    groups = []
    for group in contexts:
        each = [group[c] if layout.specific else group for c in range(len(layout.prompts))]
        groups.append([_one(model, *pair) for pair in zip(layout.prompts, each, strict=True)])
    return torch.stack([torch.stack(features) for features in groups])


def _one(model: Weights, prompt: tuple[int, ...], context: Tensor) -> Tensor:
    dtype = model.positions.dtype
    rows = [context[~token] if token < 0 else VOCABULARY.embedding[token] for token in prompt]
    x = torch.stack([row.to(dtype) for row in rows]) + model.positions[: len(prompt)]
    later = torch.full((len(prompt), len(prompt)), -math.inf, dtype=dtype).triu(1)
    for block in model.blocks:
        qkv = linear(_norm(x, block.norm1), block.qkv.weight, block.qkv.bias).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (model.heads, -1)).transpose(0, 1) for part in qkv)
        seen = (q @ k.mT / math.sqrt(q.shape[-1]) + later).softmax(-1) @ v
        x = x + linear(seen.transpose(0, 1).flatten(1), block.out.weight, block.out.bias)
        wide = gelu(linear(_norm(x, block.norm2), block.up.weight, block.up.bias))
        x = x + linear(wide, block.down.weight, block.down.bias)
    end = _norm(x[-1], model.final)
    assert model.projection is not None
    return normalize(linear(end, model.projection.weight, model.projection.bias).float(), dim=-1)


def _norm(x: Tensor, norm: Norm) -> Tensor:
    return layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)
