"""Nearest-neighbour search in a bank of training features, in tiles, on the CPU or a CUDA device."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli.device import pick_device
from lsncli.errors import LsnError
from lsncli.memory import with_less
from lsncli.scores.common import check_features
from lsncli.scores.score import Scorer
from lsncli.types import Float64Array, FloatArray, unit

ROWS = 2048  # query rows of a tile
BANK = 4096  # bank rows of a tile: 64 MB of similarities

Reduce = Callable[[Float64Array, Float64Array, NDArray[np.intp]], Float64Array]
"""Function from unit rows (N, D), their k largest similarities and those bank rows (N, k) to scores (N,)."""


def neighbour_scorer(
    bank: FloatArray, k: int, reduce: Reduce, device: str = "cpu", weights: Float64Array | None = None
) -> Scorer:
    """Return a scorer that calls ``reduce`` with the ``k`` rows b of ``bank`` (M, D) nearest to a feature x.

    Similarities are weight * cos(x, b), in float64 on the CPU and on CUDA; they and their rows are unsorted.
    ``weights`` (M,) default to 1. On CUDA the bank is uploaded once, in its own precision, if it fits.
    For mps, which has no float64, the search runs on the CPU.
    """
    target = pick_device(device)
    place = target if target.type == "cuda" else torch.device("cpu")
    tiles: list[torch.Tensor] = []
    keep = place.type == "cuda"

    def less() -> bool:
        """Send the bank for every search."""
        nonlocal keep
        tiles.clear()
        kept, keep = keep, False
        return kept

    def search(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ``k`` largest similarities (N, k) of unit ``rows`` (N, D), and their bank rows."""
        rows = rows.to(place)
        if keep and not tiles:
            tiles.extend([_tile(bank, start).to(place) for start in range(0, len(bank), BANK)])
        best = rows.new_empty((len(rows), 0))
        indices = torch.empty((len(rows), 0), dtype=torch.int64, device=rows.device)
        for start in range(0, len(bank), BANK):
            tile = unit_rows(tiles[start // BANK] if tiles else _tile(bank, start).to(place))
            if weights is not None:
                tile *= torch.tensor(weights[start : start + BANK], device=rows.device)[:, None]
            similarity, columns = _largest(rows @ tile.T, k)
            best, largest = _largest(torch.cat([best, similarity], dim=1), k)
            indices = torch.cat([indices, columns + start], dim=1).gather(1, largest)
        return best, indices

    def score(features: FloatArray) -> Float64Array:
        check_features(features, bank.shape[1])
        scores = np.empty(len(features))
        for start in range(0, len(features), ROWS):
            rows = unit(features[start : start + ROWS])
            best, indices = with_less(partial(search, torch.from_numpy(rows)), less)
            scores[start : start + ROWS] = reduce(rows, best.cpu().numpy(), indices.cpu().numpy())
        return scores

    return score


def check_neighbours(name: str, k: int, rows: int) -> None:
    """Raise LsnError if the score ``name`` needs more neighbours than there are ``rows``."""
    if k > rows:
        raise LsnError(
            f"The score '{name}' looks for k = {k} neighbours among only {rows} training rows.",
            f"Set k to {rows} or less, or use more training rows.",
        )


def _tile(bank: FloatArray, start: int) -> torch.Tensor:
    """Copy a tile of the bank; torch warns if a tensor shares a read-only array."""
    return torch.tensor(bank[start : start + BANK])


def unit_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return unit rows in float64, as ``types.unit`` does."""
    wide = rows.to(torch.float64)
    norms = wide.norm(dim=1, keepdim=True)
    return wide / torch.where(norms == 0, 1.0, norms)


def _largest(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return up to ``k`` largest entries of each row, unsorted, and their columns."""
    largest, columns = values.topk(min(k, values.shape[1]), dim=1, sorted=False)
    return largest, columns
