"""Causal attention of packed prompts with a shared prefix, with an explicit gradient.

A query of class c attends to the start of text (a constant of the frozen tower), the shared prefix, and its
own class's rows up to itself. Classes with the same number of own rows form a bucket: a regular batch without
padding. Separating the heads takes a copy anyway; the same copy gathers the rows of each bucket. Only
queries, keys, values and attention weights are saved for the gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bucket:
    """A batch of n classes with R own rows each; the shared prefix is one, too, as a class of P rows."""

    prefix: int
    """Number of prefix rows before the own ones: P, but 0 in the bucket of the prefix."""
    rows: Tensor
    """(n, R) indices of the keys and values of each class among all T packed rows."""
    asking: Tensor
    """(n, Q) indices of its queries among the Tq given ones: one for every row, or only for the end."""
    mask: Tensor
    """(Q, 1 + prefix + R) additive: 0 where a query attends (start, prefix, own rows so far), else -inf."""


@dataclass(frozen=True)
class AttentionPlan:
    """The buckets of G groups of rows with H heads, and the permutations that sort rows by bucket and back.

    Sorted by bucket, queries are (G, H, n, Q) rows of width d = W / H, keys and values (2, G, H, n, R).
    B = G * H * n is the batch size of a bucket.
    """

    buckets: tuple[Bucket, ...]
    shared: tuple[int, int, int]
    """(2, G * H, P): keys and values of the prefix, the first sorted rows."""
    asking: tuple[tuple[int, int], ...]
    """(B, Q) of each bucket."""
    rows: tuple[tuple[int, int], ...]
    """(B, R) of each bucket, once for keys and once for values."""
    queries: Tensor
    """(G * H * Tq,) permutation that sorts the rows of (G, Tq, H) by bucket."""
    queries_back: Tensor
    """The inverse permutation."""
    keys: Tensor
    """(2 * G * H * T,) permutation for keys and values in (G, T, 2, H)."""
    keys_back: Tensor


def plan(buckets: Sequence[Bucket], groups: int, heads: int) -> AttentionPlan:
    """Plan the attention of ``buckets``, which contain each packed row once, that of the prefix first."""
    queries = _order([bucket.asking for bucket in buckets], groups, heads, parts=1)
    keys = _order([bucket.rows for bucket in buckets], groups, heads, parts=2)
    batches = [groups * heads * len(bucket.rows) for bucket in buckets]
    pairs = list(zip(batches, buckets, strict=True))
    return AttentionPlan(
        buckets=tuple(buckets),
        shared=(2, groups * heads, buckets[-1].prefix),
        asking=tuple((batch, bucket.asking.shape[1]) for batch, bucket in pairs),
        rows=tuple((batch, bucket.rows.shape[1]) for batch, bucket in pairs for _ in range(2)),
        queries=queries,
        queries_back=_inverse(queries),
        keys=keys,
        keys_back=_inverse(keys),
    )


def attend(q: Tensor, kv: Tensor, start: Tensor, plan: AttentionPlan) -> tuple[Tensor, list[Tensor]]:
    """Return the attention (G, Tq, W) of queries (G, Tq, W), and what ``attend_backward`` needs.

    Keys and values are ``kv`` (G, T, 2 W); ``start`` (2, H, 1, W / H) is the key and value of the start of
    text.
    """
    shape, width = q.shape, start.shape[-1]
    start = start.repeat(1, len(q), 1, 1)
    q, kv = _gather(q, plan.queries, width), _gather(kv, plan.keys, width)
    q *= width**-0.5
    shared = torch.cat([start, _of_prefix(kv, plan)], dim=2)  # (2, G * H, 1 + P, d)
    shared_k, shared_v = shared.unbind()
    out = torch.empty_like(q)
    saved = [shared]
    views = (_of_queries(q, plan), *_of_keys(kv, plan), _of_queries(out, plan))
    for bucket, x, k, v, own_out in zip(plan.buckets, *views, strict=True):
        scores = _products(x, shared_k[:, : 1 + bucket.prefix], k)
        weights = scores.add_(bucket.mask).softmax(-1)
        _sums(weights, shared_v[:, : 1 + bucket.prefix], v, out=own_out)
        saved += [x, k, v, weights]
    return out.index_select(0, plan.queries_back).view(shape), saved


def attend_backward(gradient: Tensor, saved: Sequence[Tensor], plan: AttentionPlan) -> tuple[Tensor, Tensor]:
    """Return the gradients in queries, and in keys and values, of a ``gradient`` in the attention."""
    shared, *of_buckets = saved
    groups, width = len(gradient), shared.shape[-1]
    shared_k, shared_v = shared.unbind()
    d_out = _gather(gradient, plan.queries, width)
    d_q, d_kv = torch.empty_like(d_out), d_out.new_empty(len(plan.keys), width)
    # The bucket of the prefix comes first and writes its own gradient; those of other buckets are added.
    d_prefix_k, d_prefix_v = _of_prefix(d_kv, plan).unbind()
    views = (
        *(of_buckets[i::4] for i in range(4)),
        _of_queries(d_out, plan),
        _of_queries(d_q, plan),
        *_of_keys(d_kv, plan),
    )
    for bucket, x, k, v, weights, d, d_x, d_k, d_v in zip(plan.buckets, *views, strict=True):
        # Softmax: dS = A (dA - sum dA A), the sum over everything that a query attends to.
        d_weights = _products(d, shared_v[:, : 1 + bucket.prefix], v)
        d_scores = d_weights.sub_((d_weights * weights).sum(-1, keepdim=True)).mul_(weights)
        _sums(d_scores, shared_k[:, : 1 + bucket.prefix], k, out=d_x)
        _transposed_sums(d_scores, x, bucket.prefix, d_prefix_k, out=d_k)
        _transposed_sums(weights, d, bucket.prefix, d_prefix_v, out=d_v)
    d_q *= width**-0.5
    d_q, d_kv = d_q.index_select(0, plan.queries_back), d_kv.index_select(0, plan.keys_back)
    return d_q.view_as(gradient), d_kv.view(groups, -1, 2 * gradient.shape[-1])


def _products(x: Tensor, shared: Tensor, own: Tensor) -> Tensor:
    """Products (B, Q, S + R) of queries (B, Q, d) with shared keys (G * H, S, d) and own keys (B, R, d).

    The shared keys take one product with the queries of all classes.
    """
    batch, asking, width = x.shape
    on_shared = torch.bmm(x.view(len(shared), -1, width), shared.mT).view(batch, asking, shared.shape[1])
    return torch.cat([on_shared, torch.bmm(x, own.mT)], dim=-1)


def _sums(weights: Tensor, shared: Tensor, own: Tensor, out: Tensor) -> None:
    """Write the weighted sums of shared (G * H, S, d) and own rows (B, R, d) into ``out`` (B, Q, d)."""
    on_shared, on_own = weights.split([shared.shape[1], own.shape[1]], dim=-1)
    together = out.view(len(shared), -1, out.shape[-1])
    torch.bmm(on_shared.reshape(*together.shape[:2], shared.shape[1]), shared, out=together)
    out.baddbmm_(on_own, own)


def _transposed_sums(weights: Tensor, x: Tensor, prefix: int, d_prefix: Tensor, out: Tensor) -> None:
    """Gradient of ``_sums`` in its rows: own ones (B, R, d) are written, those of the prefix added."""
    if prefix:  # the start of text is a constant
        on_prefix = weights[..., 1 : 1 + prefix].reshape(len(d_prefix), -1, prefix)
        d_prefix.baddbmm_(on_prefix.mT, x.view(len(d_prefix), -1, x.shape[-1]))
    torch.bmm(weights[..., 1 + prefix :].mT, x, out=out)


def _gather(x: Tensor, order: Tensor, width: int) -> Tensor:
    """Gather (G, rows, ...) into (len(order), d), heads separated."""
    return x.reshape(-1, width).index_select(0, order)


def _of_queries(x: Tensor, plan: AttentionPlan) -> list[Tensor]:
    """Views (B, Q, d) of sorted rows, one for each bucket."""
    return _views(x, plan.asking)


def _of_keys(x: Tensor, plan: AttentionPlan) -> tuple[list[Tensor], list[Tensor]]:
    """Views (B, R, d) of sorted keys and values, one of each for each bucket."""
    views = _views(x, plan.rows)
    return views[::2], views[1::2]


def _views(x: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    parts, width = x.split([batch * rows for batch, rows in shapes]), x.shape[-1]
    return [part.view(batch, rows, width) for part, (batch, rows) in zip(parts, shapes, strict=True)]


def _of_prefix(kv: Tensor, plan: AttentionPlan) -> Tensor:
    """View (2, G * H, P, d) of the keys and values of the prefix in sorted rows."""
    return kv[: prod(plan.shared)].view(*plan.shared, kv.shape[-1])


def _order(indices: Sequence[Tensor], groups: int, heads: int, parts: int) -> Tensor:
    """Permutation of the rows of (G, T, parts, H) into (parts, G, H, n, R), bucket after bucket."""
    total = sum(each.numel() for each in indices)
    numbers = torch.arange(groups * total * parts * heads, device=indices[0].device)
    numbers = numbers.view(groups, total, parts, heads).permute(2, 0, 3, 1)
    return torch.cat([numbers[..., each.flatten()].flatten() for each in indices])


def _inverse(order: Tensor) -> Tensor:
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return inverse
