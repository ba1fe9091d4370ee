"""The nearest rows of a bank of training features, in tiles, on a CPU or a CUDA device; shared by scores."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli.device import pick_device
from lsncli.errors import LsnError
from lsncli.scores.common import check_features
from lsncli.scores.score import Scorer
from lsncli.types import Float64Array, FloatArray, unit

ROWS = 2048  # rows scored at a time, and
BANK = 4096  # rows of the bank they are compared with at a time: 64 MB of similarities

Reduce = Callable[[Float64Array, Float64Array, NDArray[np.intp]], Float64Array]
"""Unit rows (N, D), their k largest similarities (N, k) and the rows of the bank (N, k), to scores (N,)."""


def neighbour_scorer(
    bank: FloatArray, k: int, reduce: Reduce, device: str = "cpu", weights: Float64Array | None = None
) -> Scorer:
    """A scorer that hands ``reduce`` the ``k`` rows b of ``bank`` (M, D) nearest to each feature x.

    Similarities are weight * cos(x, b), in float64 on the CPU and on CUDA; they and their rows come in no
    order. ``weights`` (M,) are 1 unless given. On CUDA the bank is uploaded once, in its own precision; mps
    has no float64 and is answered with the CPU.
    """
    where = pick_device(device)
    resident = where.type == "cuda"
    tiles = [_tile(bank, start).to(where) for start in range(0, len(bank), BANK)] if resident else []

    def search(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The ``k`` largest similarities (N, k) of unit ``rows`` (N, D), and their rows in the bank."""
        best = rows.new_empty((len(rows), 0))
        places = torch.empty((len(rows), 0), dtype=torch.int64, device=rows.device)
        for start in range(0, len(bank), BANK):
            tile = _unit(tiles[start // BANK] if resident else _tile(bank, start))
            if weights is not None:
                tile *= torch.tensor(weights[start : start + BANK], device=rows.device)[:, None]
            similarity, found = _largest(rows @ tile.T, k)
            best, kept = _largest(torch.cat([best, similarity], dim=1), k)
            places = torch.cat([places, found + start], dim=1).gather(1, kept)
        return best, places

    def score(features: FloatArray) -> Float64Array:
        check_features(features, bank.shape[1])
        scores = np.empty(len(features))
        for start in range(0, len(features), ROWS):
            rows = unit(features[start : start + ROWS])
            best, places = search(torch.from_numpy(rows).to(where if resident else "cpu"))
            scores[start : start + ROWS] = reduce(rows, best.cpu().numpy(), places.cpu().numpy())
        return scores

    return score


def check_neighbours(name: str, k: int, rows: int) -> None:
    """LsnError if the score ``name`` looks for more neighbours than there are ``rows``."""
    if k > rows:
        raise LsnError(
            f"The score '{name}' looks for k = {k} neighbours among only {rows} training rows.",
            f"Set k to {rows} or less, or use more training rows.",
        )


def _tile(bank: FloatArray, start: int) -> torch.Tensor:
    """A copy, because torch warns about sharing an array that cannot be written to."""
    return torch.tensor(bank[start : start + BANK])


def _unit(rows: torch.Tensor) -> torch.Tensor:
    """``types.unit`` in torch."""
    wide = rows.to(torch.float64)
    norms = wide.norm(dim=1, keepdim=True)
    return wide / torch.where(norms == 0, 1.0, norms)


def _largest(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to ``k`` of the largest entries of each row, in no order, and their columns."""
    largest, columns = values.topk(min(k, values.shape[1]), dim=1, sorted=False)
    return largest, columns
