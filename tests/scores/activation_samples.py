"""A text head and a linear head, signed features, and the textbook forms by plain Python loops."""

import math

import numpy as np

from lsncli.types import Head, Rows, unit

CLASSES, DIM = 7, 12
RNG = np.random.default_rng(21)
NAMES = tuple("abcdefg")
TEXT = Head(NAMES, unit(RNG.normal(size=(CLASSES, DIM)) + 0.3))
LINEAR = Head(NAMES, 4 * RNG.normal(size=(CLASSES, DIM)), scale=1.0, bias=RNG.normal(size=CLASSES))
HEADS = [TEXT, LINEAR]
FEATURES = (5 * RNG.normal(size=(30, DIM)) - 0.5).astype(np.float16)
TRAIN = Rows(RNG.normal(size=(90, DIM)).astype(np.float16), (np.arange(90) % CLASSES).astype(np.int32))


def naive_unit(features):
    rows = np.asarray(features, dtype=float).tolist()
    return [[value / math.sqrt(math.fsum(v * v for v in row)) for value in row] for row in rows]


def naive_layer(head):
    """W as lists, and b."""
    weights = [[head.scale * w for w in row] for row in head.weights.tolist()]
    return weights, ([0.0] * len(weights) if head.bias is None else head.bias.tolist())


def naive_logits(weights, bias, x):
    return [
        math.fsum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(weights, bias, strict=True)
    ]


def naive_energy(weights, bias, x):
    logits = naive_logits(weights, bias, x)
    top = max(logits)
    return top + math.log(math.fsum(math.exp(value - top) for value in logits))


def naive_percentile(numbers, percent):
    """Linear interpolation between the two entries around rank percent / 100 (n - 1), counted from 0."""
    ordered = sorted(numbers)
    rank = percent / 100 * (len(ordered) - 1)
    low = math.floor(rank)
    return ordered[low] + (rank - low) * (ordered[math.ceil(rank)] - ordered[low])
