"""Find images that are stored twice, in one split or in two, by their features.

Rows with the same bytes are *exact* duplicates. *Near* duplicates are what a re-encoded, resized or slightly
cropped copy gives: pairs that are close for these images and much closer than any other image is
(docs/decisions/0037-duplicates.md has the measurements). Rows are read and compared in tiles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsncli.console import ProgressCallback, silent
from lsncli.scores.common import check_features
from lsncli.store.format import Split
from lsncli.types import Float64Array, FloatArray, unit

TILE = 2048
"""Rows of each side of a tile: 16 MB of cosines."""
SPACING = 0.2
"""Largest distance (1 - cosine) of near duplicates, in mean distances of two images of a split."""
CLOSER = 1 / 3
"""Largest distance of near duplicates, in distances to the nearest image that is none."""
NEAREST = 16
"""Most candidates that a row keeps from a tile, the nearest ones."""
ROUNDING = 1e-5
"""Cosines are compared in float32 first, with this margin; those of near duplicates are float64."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Duplicates: row ``first[i]`` of a split, ``second[i]`` of another, or of the same, and their cosine.

    Identical rows are ``exact``, each paired with the first of them.
    """

    first: Rows
    second: Rows
    cosines: Float64Array
    exact: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def at(self, where: NDArray[np.bool_]) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(self.first[where], self.second[where], self.cosines[where], self.exact[where])


@dataclass(frozen=True, eq=False)
class _Side:
    """The distinct rows of a split: their indices, and how far two of them are apart on average."""

    features: FloatArray
    rows: Rows
    total: Float64Array
    """The sum of the unit rows (D,)."""

    def tiles(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the start of each tile and its unit rows."""
        for start in range(0, len(self.rows), TILE):
            yield start, unit(self.features[self.rows[start : start + TILE]]).astype(np.float32)


def find_duplicates(
    split: Split,
    other: Split | None = None,
    *,
    near: bool = True,
    cosine: float | None = None,
    progress: ProgressCallback = silent,
) -> Pairs:
    """Return the duplicates within ``split``, or those of its rows among the rows of ``other``.

    ``near`` looks for near duplicates, too, by the rule of this module, or by a smallest ``cosine``.
    ``progress`` counts the tiles of ``tiles_of``. Rows of zeros are no duplicates. Memory does not grow with
    the number of rows, but for some hundred bytes a row. Raises LsnError for rows that are not finite.
    """
    digests = row_digests(split.features)
    others = digests if other is None else row_digests(other.features)
    exact = _identical(digests, None if other is None else others)
    if not near:
        return exact
    first = _side(split.features, digests)
    second = first if other is None else _side(other.features, others)
    found = _near(first, second, cosine, progress)
    same = (digests[found.first] == others[found.second]).all(axis=1)
    return _joined(exact, found.at(~same))


def tiles_of(rows: int, others: int | None = None) -> int:
    """Return the most tiles in which ``rows`` are compared with ``others``, or with one another."""
    first = ceil(rows / TILE)
    return first * (first + 1) // 2 if others is None else first * ceil(others / TILE)


def row_digests(features: FloatArray) -> NDArray[np.uint64]:
    """Return a digest of each row (N, D) as two numbers (N, 2); (0, 0) for a row of zeros."""
    digests = np.zeros((len(features), 2), np.uint64)
    for start in range(0, len(features), TILE):
        part = np.ascontiguousarray(features[start : start + TILE])
        joined = b"".join(blake2b(row, digest_size=16).digest() if row.any() else bytes(16) for row in part)
        digests[start : start + TILE] = np.frombuffer(joined, np.uint64).reshape(-1, 2)
    return digests


def _identical(digests: NDArray[np.uint64], others: NDArray[np.uint64] | None) -> Pairs:
    """Return the pairs of equal digests: each row with the first one, or with the first of ``others``."""
    before = digests if others is None else others
    both = digests if others is None else np.concatenate([others, digests])
    _, index, inverse = np.unique(both, axis=0, return_index=True, return_inverse=True)
    firsts = index[inverse.reshape(-1)][len(both) - len(digests) :]
    rows = np.arange(len(digests))
    twice = digests.any(axis=1) & (firsts < (rows if others is None else len(before)))
    pair = (firsts[twice], rows[twice]) if others is None else (rows[twice], firsts[twice])
    count = int(twice.sum())
    return Pairs(*pair, np.ones(count), np.ones(count, bool))


def _side(features: FloatArray, digests: NDArray[np.uint64]) -> _Side:
    _, rows = np.unique(digests, axis=0, return_index=True)
    rows = np.sort(rows[digests[rows].any(axis=1)]).astype(np.int64)
    total = np.zeros(features.shape[1])
    for start in range(0, len(rows), TILE):
        part = features[rows[start : start + TILE]]
        check_features(part, features.shape[1])
        total += unit(part).sum(axis=0)
    return _Side(features, rows, total)


def mean_distance(sides: Sequence[_Side]) -> float:
    """Return the mean of 1 - cosine over all pairs of rows of the same side; 0 without such pairs."""
    pairs = sum(max(len(side.rows) - 1, 0) for side in sides)
    spread = sum(
        len(side.rows) - float(side.total @ side.total) / len(side.rows) for side in sides if len(side.rows)
    )
    return max(spread, 0.0) / pairs if pairs else 0.0


def _near(first: _Side, second: _Side, cosine: float | None, progress: ProgressCallback) -> Pairs:
    """Return the near duplicates of two sides, or of one with itself."""
    within = first is second
    lowest = 1 - SPACING * mean_distance([first] if within else [first, second]) if cosine is None else cosine
    others = np.full(len(first.rows), -np.inf, np.float32)
    others_of_second = others if within else np.full(len(second.rows), -np.inf, np.float32)
    blocks: list[_Candidates] = []
    for start, rows in first.tiles():
        found: list[_Candidates] = []
        for at, bank in second.tiles():
            if within and at < start:
                continue
            cosines = rows @ bank.T
            if within and at == start:
                cosines[np.tril_indices(len(rows))] = -np.inf  # each pair once, and no row with itself
            close = cosines >= lowest - ROUNDING
            if close.any():
                one, two = np.nonzero(close)
                found.append(_nearest_of(_Candidates(one + start, two + at, cosines[close])))
                cosines[close] = -np.inf
            below, above = others[start : start + TILE], others_of_second[at : at + TILE]
            np.maximum(below, cosines.max(axis=1), out=below)
            np.maximum(above, cosines.max(axis=0), out=above)
            progress(1)
        blocks.append(_nearest_of(_together(found)))
    one, two, _ = _together(blocks)
    exactly = _cosines(first, one, second, two)
    keep = exactly >= lowest
    if cosine is None:
        nearest = np.maximum(others[one], others_of_second[two])
        keep &= 1 - exactly <= CLOSER * (1 - nearest)
    return Pairs(first.rows[one], second.rows[two], exactly, np.zeros(len(one), bool)).at(keep)


class _Candidates(NamedTuple):
    """Pairs that may be near duplicates: positions in both sides, and cosines in float32."""

    one: Rows
    two: Rows
    cosines: NDArray[np.float32]


NONE = _Candidates(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def _together(parts: Sequence[_Candidates]) -> _Candidates:
    one, two, cosines = zip(NONE, *parts, strict=True)
    return _Candidates(np.concatenate(one), np.concatenate(two), np.concatenate(cosines))


def _nearest_of(candidates: _Candidates) -> _Candidates:
    """Return the ``NEAREST`` candidates of each row ``one``: a crowd of copies needs no more memory."""
    order = np.lexsort((candidates.two, -candidates.cosines, candidates.one))
    one, two, cosines = candidates.one[order], candidates.two[order], candidates.cosines[order]
    starts = np.flatnonzero(np.diff(one, prepend=-1))
    place = np.arange(len(one)) - np.repeat(starts, np.diff(starts, append=len(one)))
    keep = place < NEAREST
    return _Candidates(one[keep], two[keep], cosines[keep])


def _cosines(first: _Side, one: Rows, second: _Side, two: Rows) -> Float64Array:
    """Return the cosines of pairs in float64."""
    cosines = np.empty(len(one))
    for start in range(0, len(one), TILE):
        block = slice(start, start + TILE)
        rows = unit(first.features[first.rows[one[block]]])
        cosines[block] = (rows * unit(second.features[second.rows[two[block]]])).sum(axis=1)
    return np.minimum(cosines, 1.0)


def _joined(exact: Pairs, near: Pairs) -> Pairs:
    return Pairs(
        np.concatenate([exact.first, near.first]),
        np.concatenate([exact.second, near.second]),
        np.concatenate([exact.cosines, near.cosines]),
        np.concatenate([exact.exact, near.exact]),
    )
