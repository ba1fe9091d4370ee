"""Causal attention of packed prompts that share their beginning, with its gradient written out.

Rows of all prompts lie packed in one matrix: the P rows of the shared prefix once, then every class's own
rows. A query of class c sees the start of text (a constant of the frozen tower), the prefix, and its own
class's rows up to itself; a prefix row sees the start of text and the prefix up to itself. What everyone
shares is one product over packed rows; only a class's own rows are padded to one length, and only here.
Queries, keys, values and attention weights are all that is kept for the gradient.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Maps:
    """Where the rows of C prompts lie among T packed rows, and whom each query may see."""

    prefix: int
    """P: packed rows 0 .. P - 1 are the shared prefix."""
    classes: int
    keys: Tensor
    """(C * R,) packed row of the r-th own row of class c; any row where class c has fewer."""
    keys_back: Tensor
    """(T - P,) for each packed own row its place in ``keys``."""
    queries: Tensor
    """(C * Q,) as ``keys``, for the rows that ask: all of them, or in the last layer only the ends."""
    queries_back: Tensor
    own_mask: Tensor
    """(C, Q, R) additive: 0 where a query may see a row of its own class, -inf elsewhere."""
    prefix_mask: Tensor
    """(P, 1 + P) additive; (0, 1) in the last layer, where no prefix row asks."""


def attend(q: Tensor, kv: Tensor, start_k: Tensor, start_v: Tensor, maps: Maps) -> Tensor:
    """Queries (G, Tq, W), keys and values (G, T, 2 W), start of text (H, 1, W / H) -> (G, Tq, W)."""
    out: Tensor = _Attention.apply(q, kv, start_k, start_v, maps)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    """All tensors have their heads apart, (G, H, rows, W / H); weights are (G, H, Tq, 1 + P + R)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, start_k: Tensor, start_v: Tensor, maps: Maps) -> Tensor:
        heads = len(start_k)
        q, k, v = (_apart(x, heads) for x in (q, *kv.chunk(2, dim=-1)))
        shared_k, shared_v = _shared(k, start_k, maps), _shared(v, start_v, maps)
        own_k, own_v = _own(k, maps), _own(v, maps)
        scale = q.shape[-1] ** -0.5
        shared = q @ shared_k.mT * scale
        shared[:, :, : len(maps.prefix_mask)] += maps.prefix_mask
        own = _asking(q, maps) @ own_k.mT * scale + maps.own_mask
        weights = torch.cat([shared, _rows(own, maps, fill=-torch.inf)], dim=-1).softmax(-1)
        shared, own = _split(weights, maps)
        out = shared @ shared_v + _rows(_asking(own, maps) @ own_v, maps, fill=0)
        ctx.save_for_backward(q, k, v, start_k, start_v, weights)
        ctx.maps = maps
        return _together(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        q, k, v, start_k, start_v, weights = ctx.saved_tensors
        maps: Maps = ctx.maps
        shared_k, shared_v = _shared(k, start_k, maps), _shared(v, start_v, maps)
        own_k, own_v = _own(k, maps), _own(v, maps)
        own_q = _asking(q, maps)
        d_out = _apart(gradients[0], len(start_k))
        d_own_out = _asking(d_out, maps)
        shared, own = _split(weights, maps)
        padded = _asking(own, maps).masked_fill(_absent(maps), 0)  # so that padding adds nothing below
        # Softmax: dS = A (dA - sum dA A), the sum running over everything a query sees.
        d_own = _rows(d_own_out @ own_v.mT, maps, fill=0)
        d_weights = torch.cat([d_out @ shared_v.mT, d_own], dim=-1)
        d_scores = weights * d_weights.sub_((d_weights * weights).sum(-1, keepdim=True))
        d_scores *= q.shape[-1] ** -0.5
        d_shared, d_own = _split(d_scores, maps)
        d_padded = _asking(d_own, maps).masked_fill(_absent(maps), 0)
        d_q = d_shared @ shared_k + _rows(d_padded @ own_k, maps, fill=0)
        d_k = _keys(d_shared.mT @ q, d_padded.mT @ own_q, maps)
        d_v = _keys(shared.mT @ d_out, padded.mT @ d_own_out, maps)
        return _together(d_q), torch.cat([_together(d_k), _together(d_v)], dim=-1), None, None, None


def _apart(x: Tensor, heads: int) -> Tensor:
    """(G, n, W) -> (G, H, n, W / H), copied once so that every product below reads it in order."""
    return torch.unflatten(x, -1, (heads, -1)).transpose(1, 2).contiguous()


def _together(x: Tensor) -> Tensor:
    """The inverse of ``_apart``."""
    return x.transpose(1, 2).flatten(2)


def _shared(x: Tensor, start: Tensor, maps: Maps) -> Tensor:
    """What everyone sees: the start of text and the prefix, (G, H, 1 + P, d)."""
    return torch.cat([start.expand(len(x), -1, -1, -1), x[:, :, : maps.prefix]], dim=2)


def _own(x: Tensor, maps: Maps) -> Tensor:
    """Each class's own keys or values, padded: (G, H, C, R, d)."""
    return torch.unflatten(x.index_select(2, maps.keys), 2, (maps.classes, -1))


def _asking(x: Tensor, maps: Maps) -> Tensor:
    """The rows of each class that ask, padded: (G, H, Tq, n) -> (G, H, C, Q, n)."""
    return torch.unflatten(x.index_select(2, maps.queries), 2, (maps.classes, -1))


def _rows(x: Tensor, maps: Maps, fill: float) -> Tensor:
    """The inverse of ``_asking``; rows of the prefix get ``fill``."""
    own = x.flatten(2, 3).index_select(2, maps.queries_back)
    return torch.nn.functional.pad(own, (0, 0, len(maps.prefix_mask), 0), value=fill)


def _keys(shared: Tensor, own: Tensor, maps: Maps) -> Tensor:
    """Gradients of shared keys (the start's is dropped) and of padded own ones, as packed rows (G, H, T,
    d)."""
    return torch.cat([shared[:, :, 1:], own.flatten(2, 3).index_select(2, maps.keys_back)], dim=2)


def _split(weights: Tensor, maps: Maps) -> tuple[Tensor, Tensor]:
    """(..., 1 + P + R) as the part on shared keys and the part on own ones."""
    shared, own = torch.split(weights, [1 + maps.prefix, maps.own_mask.shape[-1]], dim=-1)
    return shared, own


def _absent(maps: Maps) -> Tensor:
    """(C, Q, 1) true where a class has fewer asking rows than the longest."""
    there = torch.zeros(len(maps.queries), dtype=torch.bool, device=maps.queries.device)
    there[maps.queries_back] = True
    return ~there.view(maps.classes, -1, 1)
