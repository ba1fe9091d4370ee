"""One part of an unfinished split, growing by pieces, so that a killed worker loses seconds and not hours.

Whoever works on a part holds its lock. Pieces ``rows-<start>-<stop>.h5`` are committed by temp file, fsync
and rename; when the part is whole they become one. What it holds does not depend on where they were cut.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsncli.errors import LsnError
from lsncli.locks import locked
from lsncli.signals import held_back
from lsncli.store.container import BLOCK
from lsncli.store.format import Piece
from lsncli.store.pieces import Committed, join_pieces, sound_pieces, write_piece
from lsncli.store.plan import Plan, check_plan
from lsncli.types import Seconds

COMMIT_SECONDS = 10.0
NO_TIME = Seconds()


class Part:
    """A part being made, by one thread at a time. Make one with ``Part.open``."""

    def __init__(self, folder: Path, plan: Plan, index: int, commit_seconds: float) -> None:
        self._folder, self._plan, self._index = folder, plan, index
        self._commit_seconds = commit_seconds
        self.start, self.stop = plan.borders(index)
        self.damaged: list[str] = []
        """A sentence for every piece that was found damaged, and is made again."""
        self._pieces = sound_pieces(folder, plan, self.start, self.stop, self.damaged.append)
        self._buffer: list[Piece] = []
        self._buffered = Seconds()
        self.wrote = 0.0
        """Seconds of writing since the part was opened."""
        self.unrecorded = 0.0
        """Those of them that no piece tells of: a piece cannot know how long it will take to write."""
        self._last_commit = time.monotonic()

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        plan: Plan,
        index: int,
        *,
        commit_seconds: float = COMMIT_SECONDS,
        wait: float = 0.0,
    ) -> Iterator["Part"]:
        """Begin or resume part ``index`` of ``plan``, which lies in ``folder``; leaving the block, however,
        commits what was added.

        Raises LsnError if another process works on this part for ``wait`` seconds, or the folder is no longer
        of this plan.
        """
        check_plan(folder, plan)
        with locked(folder / f"part-{index:06d}", wait=wait):
            check_plan(folder, plan)
            part = cls(folder, plan, index, commit_seconds)
            try:
                yield part
            finally:
                part.commit()

    @property
    def done(self) -> int:
        """The index of the first item that is not committed; all of the part before it are."""
        return self._pieces[-1].stop if self._pieces else self.start

    @property
    def complete(self) -> bool:
        """Whether every item of the part is committed."""
        return self.done == self.stop

    @property
    def pieces(self) -> tuple[Committed, ...]:
        """What is committed: one piece once the part is complete and the block is left."""
        return tuple(self._pieces)

    def add(self, piece: Piece, seconds: Seconds = NO_TIME) -> None:
        """Take a batch that continues the last one, and what it cost by stage; commits every
        ``commit_seconds`` or 65,536 rows.

        Raises LsnError if it does not continue it, or does not end at a border of batches.
        """
        expected = self._buffer[-1].stop if self._buffer else self.done
        at_border = piece.stop % self._plan.batch_size == 0 or piece.stop == self._plan.items
        if piece.start != expected or piece.stop > self.stop or not at_border:
            raise LsnError(
                f"Part {self._index}: expected the batch from item {expected}, "
                f"found items {piece.start} to {piece.stop}."
            )
        self._buffer.append(piece)
        self._buffered += seconds
        full = sum(len(piece.labels) for piece in self._buffer) >= BLOCK
        if full or time.monotonic() - self._last_commit >= self._commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Bring everything added so far to the disk, as one piece; a whole part is made one piece.

        Ctrl-C waits for its end: what is on the disk and what is noted here must not part.
        """
        with held_back():
            self._commit()

    def _commit(self) -> None:
        if self._buffer:
            with self._writing():
                self._pieces.append(write_piece(self._folder, self._buffer, self._plan, self._buffered))
            self._buffer, self._buffered = [], Seconds()
        if self.complete and len(self._pieces) > 1:
            seconds = sum((piece.seconds for piece in self._pieces), Seconds(write=self.unrecorded))
            self.unrecorded = 0.0
            with self._writing():
                whole = join_pieces(self._folder, self._pieces, self._plan, seconds)
                joined, self._pieces = self._pieces, [whole]
                for piece in joined:
                    piece.path.unlink()
        self._last_commit = time.monotonic()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Measure a write; it does not begin unless the folder is still ours."""
        check_plan(self._folder, self._plan)
        began = time.monotonic()
        yield
        self.wrote += time.monotonic() - began
        self.unrecorded += time.monotonic() - began
