"""Which stored images are most like given features: the training images that explain a verdict."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsncli.app.scored_sets import ScoredSet
from lsncli.scores.common import CHUNK, check_features
from lsncli.store.format import Split
from lsncli.types import UNLABELLED, Float64s, Floats, unit

ROWS = 256
"""Features compared at a time with ``CHUNK`` stored rows: 16 MB of cosines."""


@dataclass(frozen=True)
class Neighbour:
    """A stored image: its key, which comes from anywhere and is not to be shown as it is; its class, empty if
    it has none; and its cosine with the image asked about."""

    key: str
    class_name: str
    cosine: float


def nearest(split: Split, features: Floats, count: int) -> list[tuple[Neighbour, ...]]:
    """The ``count`` images of ``split``, or all if there are fewer, with the largest cosine, largest first,
    for each row of raw ``features`` (N, D).

    Exact and in float64, in some 100 MB beside the split whatever its size. Raises LsnError for features of
    another width, and for rows that are not finite.
    """
    width, kept = split.features.shape[1], max(0, min(count, len(split.labels)))
    check_features(features, width)
    queries = unit(features)
    best = np.full((len(queries), kept), -np.inf)
    rows = np.zeros((len(queries), kept), dtype=np.int64)
    for start in range(0, len(split.labels) if kept else 0, CHUNK):
        part = split.features[start : start + CHUNK]
        check_features(part, width)
        bank = unit(part)
        for at in range(0, len(queries), ROWS):
            block = slice(at, at + ROWS)
            best[block], rows[block] = _merged(best[block], rows[block], queries[block] @ bank.T, start)
    order = np.argsort(-best, axis=1, kind="stable")
    return [
        tuple(_neighbour(split, int(rows[at, place]), float(best[at, place])) for place in order[at])
        for at in range(len(queries))
    ]


def nearest_of(
    sets: Sequence[ScoredSet], shown: Sequence[Collection[int]], split: Split, count: int
) -> tuple[Mapping[int, tuple[Neighbour, ...]], ...]:
    """The ``count`` nearest images of ``split`` by row, for the ``shown`` rows of each set that has features.

    An image of ``split`` is not its own neighbour.
    """
    found: list[Mapping[int, tuple[Neighbour, ...]]] = []
    for one, chosen in zip(sets, shown, strict=True):
        rows = sorted(chosen)
        if one.features is None or not rows:
            found.append({})
            continue
        own = {row: one.names[row] for row in rows} if one.names and one.name == split.name else {}
        made = nearest(split, one.features[rows], count + bool(own))
        others = (
            [each for each in like if each.key != own.get(row)] for row, like in zip(rows, made, strict=True)
        )
        found.append({row: tuple(like[:count]) for row, like in zip(rows, others, strict=True)})
    return tuple(found)


def _merged(
    best: Float64s, rows: NDArray[np.int64], cosines: Float64s, start: int
) -> tuple[Float64s, NDArray[np.int64]]:
    """The k largest of ``best`` (N, k), of ``rows``, and of ``cosines`` (N, M), from row ``start`` on."""
    kept = best.shape[1]
    everything = np.concatenate([best, cosines], axis=1)
    place = np.argpartition(-everything, kept - 1, axis=1)[:, :kept]
    before = np.take_along_axis(rows, np.minimum(place, kept - 1), 1)
    found = np.where(place < kept, before, place - kept + start)
    return np.take_along_axis(everything, place, 1), found


def _neighbour(split: Split, row: int, cosine: float) -> Neighbour:
    label = int(split.labels[row])
    return Neighbour(split.keys[row], "" if label == UNLABELLED else split.classes[label], cosine)
