"""Pieces of an unfinished split on the disk: written whole, and believed only if they are sound."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lsncli.errors import LsnError
from lsncli.store.container import attribute, reading, replacing, write_attribute
from lsncli.store.fill import fill_failures, fill_rows
from lsncli.store.format import Checksum, Chunk, Piece, digest_of
from lsncli.store.plan import Plan
from lsncli.store.reader import failures_of
from lsncli.store.spread import plain_rows
from lsncli.types import Failure, Seconds
from lsncli.validation import parsed, typed

PIECE_NAME = re.compile(r"rows-(\d{12})-(\d{12})\.h5(?:\.tmp)?")


@dataclass(frozen=True)
class Committed:
    """A piece on the disk: items ``start`` to ``stop``, of which ``rows`` were encoded, in ``seconds``."""

    path: Path
    start: int
    stop: int
    rows: int
    failures: tuple[Failure, ...]
    checksum: str
    seconds: Seconds


def piece_path(folder: Path, start: int, stop: int) -> Path:
    """Where the items ``start`` to ``stop`` lie."""
    return folder / f"rows-{start:012d}-{stop:012d}.h5"


def write_piece(folder: Path, batches: Sequence[Piece], plan: Plan, seconds: Seconds) -> Committed:
    """Bring consecutive batches to the disk as one piece. Raises LsnError if that is not possible."""
    rows = [(one.features, one.labels, one.keys) for one in batches]
    if len(rows) > 1:  # small writes, and half-precision ones, are slow one by one
        features, labels, keys = zip(*rows, strict=True)
        joined = tuple(key for some in keys for key in some)
        rows = [(np.concatenate(features), np.concatenate(labels), joined)]
    failures = tuple(failure for one in batches for failure in one.failures)
    count = sum(len(one.labels) for one in batches)
    return _write(folder, batches[0].start, batches[-1].stop, count, rows, failures, plan, seconds)


def join_pieces(folder: Path, pieces: Sequence[Committed], plan: Plan, seconds: Seconds) -> Committed:
    """Make one piece of consecutive ones, which stay. Raises LsnError if one is no longer sound."""
    failures = tuple(failure for one in pieces for failure in one.failures)
    count = sum(one.rows for one in pieces)
    chunks = (chunk for one in pieces for chunk in rows_of(one))
    return _write(folder, pieces[0].start, pieces[-1].stop, count, chunks, failures, plan, seconds)


def rows_of(piece: Committed) -> Iterator[Chunk]:
    """The rows of a piece, once all of them match its checksum. Raises LsnError if they do not."""
    checksum = Checksum()
    with reading(piece.path) as file:
        chunks = list(plain_rows(file))
    for chunk in chunks:
        checksum.add(*chunk)
    if checksum.hexdigest() != piece.checksum:
        raise LsnError(
            f"{piece.path} was changed after it was written: its rows do not match its checksum.",
            "Run the same `lsn extract` again: it makes that part anew.",
        )
    yield from chunks


def sound_pieces(
    folder: Path, plan: Plan, start: int, stop: int, remark: Callable[[str], None]
) -> list[Committed]:
    """The sound pieces that follow one another from item ``start`` to at most ``stop``; every other piece
    that begins between them is removed, and ``remark`` gets a sentence for each that is damaged."""
    by_start: dict[int, list[tuple[int, Path]]] = {}
    there = []
    for path in folder.iterdir():
        match = PIECE_NAME.fullmatch(path.name)
        if match and start <= int(match[1]) < stop:
            there.append(path)
            if path.suffix == ".h5":
                by_start.setdefault(int(match[1]), []).append((int(match[2]), path))
    pieces: list[Committed] = []
    at = start
    while candidates := by_start.get(at):
        fitting = [(end, path) for end, path in sorted(candidates, reverse=True) if end <= stop]
        sound = (_sound_piece(path, at, end, plan, remark) for end, path in fitting)
        piece = next((one for one in sound if one is not None), None)
        if piece is None:
            break
        pieces.append(piece)
        at = piece.stop
    kept = {piece.path for piece in pieces}
    for path in there:
        if path not in kept:
            path.unlink()
    return pieces


def read_piece(path: Path, start: int, stop: int, plan: Plan) -> Committed:
    """The piece at ``path``, its rows unread. Raises LsnError unless it is whole and of this plan."""
    with reading(path) as file:
        if attribute(file, "plan", str) != plan.digest:
            raise LsnError(f"{path} is of another extraction.", "Run the same `lsn extract` again.")
        if not start < stop <= plan.items or (stop % plan.batch_size and stop != plan.items):
            raise LsnError(f"{path}: items {start} to {stop} are not of this extraction.")
        failures, rows = failures_of(file), attribute(file, "rows_committed", int)
        checksum, stated = attribute(file, "checksum", str), attribute(file, "seconds", str)
        if attribute(file, "about", str) != _about(plan, start, stop, rows, failures, checksum, stated):
            raise LsnError(
                f"{path} was changed after it was written, or holds other items than its name says."
            )
        if rows + len(failures) != stop - start:
            raise LsnError(f"{path}: {rows} rows and {len(failures)} failures are not {stop - start} items.")
        seconds = _seconds(stated)
    return Committed(path, start, stop, rows, failures, checksum, seconds)


def _sound_piece(
    path: Path, start: int, stop: int, plan: Plan, remark: Callable[[str], None]
) -> Committed | None:
    """The piece at ``path``, None if it is torn or not one of this plan: then it is done again."""
    try:
        piece = read_piece(path, start, stop, plan)
        rows = sum(len(labels) for _, labels, _ in rows_of(piece))
        if rows != piece.rows:
            raise LsnError(
                f"{path} was changed after it was written: expected {piece.rows} rows, found {rows}."
            )
    except LsnError as error:
        remark(f"Warning: {error.message} Its images are encoded again.")
        return None
    return piece


def _write(
    folder: Path,
    start: int,
    stop: int,
    rows: int,
    chunks: Iterable[Chunk],
    failures: Sequence[Failure],
    plan: Plan,
    seconds: Seconds,
) -> Committed:
    path = piece_path(folder, start, stop)
    with replacing(path) as file:
        checksum = fill_rows(file, rows, plan.dim, chunks)
        fill_failures(file, failures)
        file.attrs["rows_committed"] = np.int64(rows)
        write_attribute(file, "checksum", checksum)
        write_attribute(file, "plan", plan.digest)
        stated = json.dumps(asdict(seconds))
        write_attribute(file, "seconds", stated)
        write_attribute(file, "about", _about(plan, start, stop, rows, failures, checksum, stated))
    return Committed(path, start, stop, rows, tuple(failures), checksum, seconds)


def _about(
    plan: Plan, start: int, stop: int, rows: int, failures: Sequence[Failure], checksum: str, seconds: str
) -> str:
    """The checksum of all that a piece says besides its rows, its place in the listing among it."""
    numbers = (str(start), str(stop), str(rows))
    texts = (text for one in failures for text in (one.key, one.reason))
    return digest_of((plan.digest, *numbers, checksum, seconds, *texts))


def _seconds(text: str) -> Seconds:
    try:
        return typed(Seconds, parsed(text), "seconds")
    except (ValueError, TypeError) as error:
        raise LsnError("The seconds of a piece are damaged.") from error
