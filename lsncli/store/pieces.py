"""Pieces of an unfinished split on the disk: written whole, and believed only if they are sound."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsncli.errors import LsnError
from lsncli.store.container import attribute, reading, replacing, write_attribute
from lsncli.store.format import Checksum, Piece
from lsncli.store.plan import Plan
from lsncli.store.reader import failures_of
from lsncli.store.writer import fill_failures, fill_rows, rows_in_blocks
from lsncli.types import Failure

PIECE_NAME = re.compile(r"rows-(\d{12})-(\d{12})\.h5")


@dataclass(frozen=True)
class Committed:
    """A piece on the disk: items ``start`` to ``stop``, of which ``rows`` were encoded."""

    path: Path
    start: int
    stop: int
    rows: int
    failures: tuple[Failure, ...]


def write_piece(folder: Path, batches: Sequence[Piece], dim: int) -> Committed:
    """Bring consecutive batches to the disk as one piece. Raises LsnError if that is not possible."""
    whole = _joined(batches)
    rows = len(whole.labels)
    path = folder / f"rows-{whole.start:012d}-{whole.stop:012d}.h5"
    with replacing(path) as file:
        checksum = fill_rows(file, rows, dim, [(whole.features, whole.labels, whole.keys)])
        write_attribute(file, "checksum", checksum)
        fill_failures(file, whole.failures)
    return Committed(path, whole.start, whole.stop, rows, whole.failures)


def sound_pieces(folder: Path, plan: Plan) -> list[Committed]:
    """The sound pieces that follow one another from item 0; everything else in the folder is removed."""
    by_start: dict[int, list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        if match := PIECE_NAME.fullmatch(path.name):
            by_start.setdefault(int(match[1]), []).append((int(match[2]), path))
    pieces: list[Committed] = []
    at = 0
    while candidates := by_start.get(at):
        sound = (_read_piece(path, at, stop, plan) for stop, path in sorted(candidates, reverse=True))
        piece = next((one for one in sound if one is not None), None)
        if piece is None:
            break
        pieces.append(piece)
        at = piece.stop
    kept = {piece.path for piece in pieces} | {folder / "plan.json"}
    for path in folder.iterdir():
        if path not in kept:
            path.unlink()
    return pieces


def _read_piece(path: Path, start: int, stop: int, plan: Plan) -> Committed | None:
    """The piece at ``path``, None if it is torn or not one of this plan: then it is done again."""
    if not start < stop <= plan.items or (stop % plan.batch_size and stop != plan.items):
        return None
    try:
        with reading(path) as file:
            checksum = Checksum()
            rows = 0
            for chunk in rows_in_blocks(file):
                checksum.add(*chunk)
                rows += len(chunk[2])
            failures = failures_of(file)
            sound = checksum.hexdigest() == attribute(file, "checksum", str)
    except LsnError:
        return None
    if not sound or rows + len(failures) != stop - start:
        return None
    return Committed(path, start, stop, rows, failures)


def _joined(pieces: Sequence[Piece]) -> Piece:
    return Piece(
        pieces[0].start,
        pieces[-1].stop,
        np.concatenate([piece.features for piece in pieces]),
        np.concatenate([piece.labels for piece in pieces]),
        tuple(key for piece in pieces for key in piece.keys),
        tuple(failure for piece in pieces for failure in piece.failures),
    )
