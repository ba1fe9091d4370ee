"""A split that grows piece by piece, so that a killed extraction loses seconds and not hours.

``<store>.parts/<split>/`` holds the plan and pieces ``rows-<start>-<stop>.h5`` of items of the listing, each
committed by temp file, fsync and rename. The finished split depends on the pieces' content alone, not on
where they were cut: a run that was killed and resumed gives the very bytes of one that was not.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import numpy as np

from lsncli.errors import LsnError
from lsncli.store.container import BLOCK, attribute, reading, replacing, sync
from lsncli.store.format import Checksum, Piece, SplitInfo, check_split_name
from lsncli.store.lock import locked
from lsncli.store.reader import failures_of
from lsncli.store.writer import (
    CREATOR,
    Chunk,
    fill_failures,
    fill_rows,
    fill_split,
    put_split,
    rows_in_blocks,
)
from lsncli.types import Failure, Fingerprint

PIECE_NAME = re.compile(r"rows-(\d{12})-(\d{12})\.h5")
FINISH_WAIT = 60.0  # seconds to wait for another writer of the store: hours of work hang on it


@dataclass(frozen=True)
class Plan:
    """What an extraction set out to do. Pieces of one plan are never mixed with those of another."""

    listing: str  # digest
    fingerprint: str  # digest
    items: int
    dim: int
    batch_size: int
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Committed:
    """A piece on the disk: items ``start`` to ``stop``, of which ``rows`` were encoded."""

    path: Path
    start: int
    stop: int
    rows: int
    failures: tuple[Failure, ...]


class Parts:
    """An unfinished split. Make one with ``Parts.open``."""

    def __init__(
        self, store: Path, split: str, plan: Plan, pieces: list[Committed], commit_seconds: float
    ) -> None:
        self._store, self._split, self._plan = store, split, plan
        self._folder = parts_folder(store, split)
        self._pieces = pieces
        self._commit_seconds = commit_seconds
        self._buffer: list[Piece] = []
        self._last_commit = time.monotonic()

    @classmethod
    @contextmanager
    def open(
        cls, store: Path, split: str, plan: Plan, *, overwrite: bool = False, commit_seconds: float = 10.0
    ) -> Iterator["Parts"]:
        """Begin or resume ``split`` of ``store``; leaving the block, however, commits what was added.

        ``overwrite`` starts again, unless what is unfinished is this very plan begun with ``overwrite``.
        Raises LsnError if another plan is unfinished here, or another process works on this split.
        """
        check_split_name(split)
        folder = parts_folder(store, split)
        with locked(folder):
            if _must_restart(folder, plan, overwrite):
                remove_parts(store, split)
            if not (folder / "plan.json").exists():
                _write_plan(folder, plan, overwrite)
            parts = cls(store, split, plan, _scan(folder, plan), commit_seconds)
            try:
                yield parts
            finally:
                parts.commit()
        with suppress(OSError):  # other splits may be under way beside it
            folder.parent.rmdir()

    @property
    def done(self) -> int:
        """The index of the first item that is not committed; all before it are."""
        return self._pieces[-1].stop if self._pieces else 0

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The committed failures, in listing order."""
        return tuple(failure for piece in self._pieces for failure in piece.failures)

    def add(self, piece: Piece) -> None:
        """Take a batch that continues the last one; commits every ``commit_seconds`` or 65,536 rows.

        Raises LsnError if it does not continue it, or does not end at a border of batches.
        """
        expected = self._buffer[-1].stop if self._buffer else self.done
        at_border = piece.stop % self._plan.batch_size == 0 or piece.stop == self._plan.items
        if piece.start != expected or not at_border:
            raise LsnError(
                f"Split '{self._split}': expected the batch from item {expected}, "
                f"found items {piece.start} to {piece.stop}."
            )
        self._buffer.append(piece)
        full = sum(len(piece.labels) for piece in self._buffer) >= BLOCK
        if full or time.monotonic() - self._last_commit >= self._commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Bring everything added so far to the disk, as one piece."""
        if self._buffer:
            whole = _joined(self._buffer)
            path = self._folder / f"rows-{whole.start:012d}-{whole.stop:012d}.h5"
            with replacing(path) as file:
                _write_piece(file, whole, self._plan.dim)
            self._pieces.append(Committed(path, whole.start, whole.stop, len(whole.labels), whole.failures))
            self._buffer = []
        self._last_commit = time.monotonic()

    def finish(
        self,
        fingerprint: Fingerprint,
        *,
        classes: Sequence[str],
        problems: Sequence[Failure] = (),
        source: str = "",
        replace: bool = False,
    ) -> SplitInfo:
        """Write the split into the store, piece by piece, and remove the pieces.

        ``problems`` are failures of the listing itself; they come before those of its items. Raises
        LsnError if items are missing, and as ``write_split`` does; the pieces then stay.
        """
        self.commit()
        if self.done != self._plan.items:
            raise LsnError(f"Split '{self._split}': {self.done} of {self._plan.items} images are done.")
        info = SplitInfo(
            name=self._split,
            rows=sum(piece.rows for piece in self._pieces),
            dim=self._plan.dim,
            classes=tuple(classes),
            failures=(*problems, *self.failures),
            source=source,
            listing=self._plan.listing,
            created_by=CREATOR,
        )

        def fill(group: h5py.Group) -> None:
            fill_split(group, info, self._rows())

        put_split(self._store, self._split, fingerprint, fill, replace=replace, wait=FINISH_WAIT)
        remove_parts(self._store, self._split)
        return info

    def _rows(self) -> Iterator[Chunk]:
        for piece in self._pieces:
            with reading(piece.path) as file:
                chunks = list(rows_in_blocks(file))
            yield from chunks


def parts_folder(store: Path, split: str) -> Path:
    """Where the pieces of an unfinished split lie."""
    return store.with_name(store.name + ".parts") / split


def remove_parts(store: Path, split: str) -> None:
    """Forget whatever is unfinished for a split."""
    folder = parts_folder(store, split)
    try:
        # The plan goes first: pieces without one are never believed.
        (folder / "plan.json").unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise LsnError(f"{folder} could not be removed: {error.strerror}.") from error


def _must_restart(folder: Path, plan: Plan, overwrite: bool) -> bool:
    try:
        text = (folder / "plan.json").read_text(encoding="utf-8")
        stored = json.loads(text)
        began_with_overwrite = stored.pop("overwrite")
    except FileNotFoundError:
        return folder.exists()
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return True  # a plan that cannot be read belongs to nothing that could be resumed
    wanted = asdict(plan)
    differing = sorted(name for name in {*wanted, *stored} if wanted.get(name) != stored.get(name))
    if differing and not overwrite:
        changes = "; ".join(
            f"{name.replace('_', ' ')} was {_short(stored.get(name))}, is {_short(wanted.get(name))}"
            for name in differing
        )
        raise LsnError(
            f"An unfinished extraction of this split had other arguments: {changes} ({folder}).",
            "Finish it with the same arguments, or start again with --overwrite.",
        )
    return bool(differing) or (overwrite and not began_with_overwrite)


def _short(value: object) -> str:
    """A value of a plan for a message; the start of a sha256 is enough to see that it differs."""
    return re.sub(r"([0-9a-f]{12})[0-9a-f]{20,}", r"\1...", str(value))


def _write_plan(folder: Path, plan: Plan, overwrite: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temp = folder / "plan.json.tmp"
        temp.write_text(json.dumps({**asdict(plan), "overwrite": overwrite}, indent=1) + "\n", "utf-8")
        sync(temp)
        os.replace(temp, folder / "plan.json")
        sync(folder)
    except OSError as error:
        raise LsnError(f"{folder} could not be written: {error.strerror}.") from error


def _scan(folder: Path, plan: Plan) -> list[Committed]:
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


def _write_piece(file: h5py.File, piece: Piece, dim: int) -> None:
    rows = len(piece.labels)
    file.attrs["checksum"] = fill_rows(file, rows, dim, [(piece.features, piece.labels, piece.keys)])
    fill_failures(file, piece.failures)


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


def _joined(pieces: list[Piece]) -> Piece:
    return Piece(
        pieces[0].start,
        pieces[-1].stop,
        np.concatenate([piece.features for piece in pieces]),
        np.concatenate([piece.labels for piece in pieces]),
        tuple(key for piece in pieces for key in piece.keys),
        tuple(failure for piece in pieces for failure in piece.failures),
    )
