"""A split that grows piece by piece, so that a killed extraction loses seconds and not hours.

``<store>.parts/<split>/`` holds the plan and pieces ``rows-<start>-<stop>.h5`` of items of the listing, each
committed by temp file, fsync and rename. The finished split depends on the pieces' content alone, not on
where they were cut: a run that was killed and resumed gives the very bytes of one that was not.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from lsncli.errors import LsnError
from lsncli.store.container import BLOCK, reading
from lsncli.store.format import Piece, SplitInfo, check_split_name
from lsncli.store.lock import locked
from lsncli.store.pieces import Committed, sound_pieces, write_piece
from lsncli.store.plan import Plan, must_restart, write_plan
from lsncli.store.writer import CREATOR, Chunk, fill_split, put_split, rows_in_blocks
from lsncli.types import Failure, Fingerprint

__all__ = ["Parts", "Plan", "claimed", "parts_folder", "remove_parts"]

FINISH_WAIT = 60.0  # seconds to wait for another writer of the store: hours of work hang on it


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
        with claimed(store, split) as folder:
            if must_restart(folder, plan, overwrite):
                remove_parts(store, split)
            if not (folder / "plan.json").exists():
                write_plan(folder, plan, overwrite)
            parts = cls(store, split, plan, sound_pieces(folder, plan), commit_seconds)
            try:
                yield parts
            finally:
                parts.commit()

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
            self._pieces.append(write_piece(self._folder, self._buffer, self._plan.dim))
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


@contextmanager
def claimed(store: Path, split: str) -> Iterator[Path]:
    """Keep other extractions off a split; gives its folder of pieces. Raises LsnError if one is under way."""
    folder = parts_folder(store, split)
    try:
        with locked(folder):
            yield folder
    finally:
        with suppress(OSError):  # unless something is unfinished, here or for another split
            folder.parent.rmdir()


def remove_parts(store: Path, split: str) -> None:
    """Forget whatever is unfinished for a split; the caller has claimed it."""
    folder = parts_folder(store, split)
    try:
        # The plan goes first: pieces without one are never believed.
        (folder / "plan.json").unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise LsnError(f"{folder} could not be removed: {error.strerror}.") from error
