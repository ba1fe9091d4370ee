"""Parts of an unfinished split, committed in chunks, so that a killed process loses seconds and not hours.

A process that works on a part holds its lock. Chunks ``rows-<start>-<stop>.h5`` are committed by temporary
file, fsync and rename, and used only if they are valid. The chunks of a complete part are merged into one,
whose content does not depend on their borders.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lsncli.errors import LsnError
from lsncli.locks import locked
from lsncli.signals import held_back
from lsncli.store.container import BLOCK, attribute, reading, replacing, write_attribute
from lsncli.store.external_rows import inline_rows
from lsncli.store.format import Checksum, Chunk, RowBatch, digest_texts
from lsncli.store.reader import failures_of
from lsncli.store.staging import ExtractionPlan, check_plan
from lsncli.store.writer import fill_failures, fill_rows
from lsncli.types import Failure, Seconds
from lsncli.validation import parse_json, validate

CHUNK_NAME = re.compile(r"rows-(\d{12})-(\d{12})\.h5(?:\.tmp)?")


@dataclass(frozen=True)
class CommittedChunk:
    """A chunk on the disk: items ``start`` to ``stop``, of which ``rows`` were encoded, in ``seconds``."""

    path: Path
    start: int
    stop: int
    rows: int
    failures: tuple[Failure, ...]
    checksum: str
    seconds: Seconds


def chunk_path(folder: Path, start: int, stop: int) -> Path:
    """Return the path of the chunk of the items ``start`` to ``stop``."""
    return folder / f"rows-{start:012d}-{stop:012d}.h5"


def write_chunk(
    folder: Path, batches: Sequence[Chunk], plan: ExtractionPlan, seconds: Seconds
) -> CommittedChunk:
    """Write consecutive batches as one chunk. Raises LsnError if that is not possible."""
    rows = [(batch.features, batch.labels, batch.keys) for batch in batches]
    if len(rows) > 1:  # many small writes of half-precision numbers are slow
        features, labels, keys = zip(*rows, strict=True)
        all_keys = tuple(key for part in keys for key in part)
        rows = [(np.concatenate(features), np.concatenate(labels), all_keys)]
    failures = tuple(failure for batch in batches for failure in batch.failures)
    count = sum(len(batch.labels) for batch in batches)
    return _write(folder, batches[0].start, batches[-1].stop, count, rows, failures, plan, seconds)


def join_chunks(
    folder: Path, chunks: Sequence[CommittedChunk], plan: ExtractionPlan, seconds: Seconds
) -> CommittedChunk:
    """Merge consecutive chunks into a new one; the old ones stay. Raises LsnError if one is damaged."""
    failures = tuple(failure for chunk in chunks for failure in chunk.failures)
    count = sum(chunk.rows for chunk in chunks)
    blocks = (block for chunk in chunks for block in chunk_rows(chunk))
    return _write(folder, chunks[0].start, chunks[-1].stop, count, blocks, failures, plan, seconds)


def chunk_rows(chunk: CommittedChunk) -> Iterator[RowBatch]:
    """Yield the rows of a chunk after verifying them. Raises LsnError if they differ from their checksum."""
    checksum = Checksum()
    with reading(chunk.path) as file:
        blocks = list(inline_rows(file))
    for block in blocks:
        checksum.add(*block)
    if checksum.hexdigest() != chunk.checksum:
        raise LsnError(
            f"{chunk.path} was changed after it was written: its rows do not match its checksum.",
            "Run the same `lsn extract` again: it makes that part anew.",
        )
    yield from blocks


def sound_chunks(
    folder: Path, plan: ExtractionPlan, start: int, stop: int, remark: Callable[[str], None]
) -> list[CommittedChunk]:
    """Return the valid chunks that continue one another from item ``start`` to at most ``stop``.

    Every other chunk that begins between them is removed; ``remark`` is called with a sentence for each
    damaged one.
    """
    by_start: dict[int, list[tuple[int, Path]]] = {}
    paths = []
    for path in folder.iterdir():
        match = CHUNK_NAME.fullmatch(path.name)
        if match and start <= int(match[1]) < stop:
            paths.append(path)
            if path.suffix == ".h5":
                by_start.setdefault(int(match[1]), []).append((int(match[2]), path))
    chunks: list[CommittedChunk] = []
    at = start
    while candidates := by_start.get(at):
        fitting = [(end, path) for end, path in sorted(candidates, reverse=True) if end <= stop]
        sound = (_sound_chunk(path, at, end, plan, remark) for end, path in fitting)
        chunk = next((chunk for chunk in sound if chunk is not None), None)
        if chunk is None:
            break
        chunks.append(chunk)
        at = chunk.stop
    kept = {chunk.path for chunk in chunks}
    for path in paths:
        if path not in kept:
            path.unlink()
    return chunks


def read_chunk(path: Path, start: int, stop: int, plan: ExtractionPlan) -> CommittedChunk:
    """Read a chunk without its rows. Raises LsnError unless it is complete and of this plan."""
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
    return CommittedChunk(path, start, stop, rows, failures, checksum, seconds)


def _sound_chunk(
    path: Path, start: int, stop: int, plan: ExtractionPlan, remark: Callable[[str], None]
) -> CommittedChunk | None:
    """Read and verify a chunk; None if it is torn or of another plan: its items are then encoded again."""
    try:
        chunk = read_chunk(path, start, stop, plan)
        rows = sum(len(labels) for _, labels, _ in chunk_rows(chunk))
        if rows != chunk.rows:
            raise LsnError(
                f"{path} was changed after it was written: expected {chunk.rows} rows, found {rows}."
            )
    except LsnError as error:
        remark(f"Warning: {error.message} Its images are encoded again.")
        return None
    return chunk


def _write(
    folder: Path,
    start: int,
    stop: int,
    rows: int,
    blocks: Iterable[RowBatch],
    failures: Sequence[Failure],
    plan: ExtractionPlan,
    seconds: Seconds,
) -> CommittedChunk:
    path = chunk_path(folder, start, stop)
    with replacing(path) as file:
        checksum = fill_rows(file, rows, plan.dim, blocks)
        fill_failures(file, failures)
        file.attrs["rows_committed"] = np.int64(rows)
        write_attribute(file, "checksum", checksum)
        write_attribute(file, "plan", plan.digest)
        stated = json.dumps(asdict(seconds))
        write_attribute(file, "seconds", stated)
        write_attribute(file, "about", _about(plan, start, stop, rows, failures, checksum, stated))
    return CommittedChunk(path, start, stop, rows, tuple(failures), checksum, seconds)


def _about(
    plan: ExtractionPlan,
    start: int,
    stop: int,
    rows: int,
    failures: Sequence[Failure],
    checksum: str,
    seconds: str,
) -> str:
    """Return the checksum of a chunk's metadata, including its range of the listing."""
    numbers = (str(start), str(stop), str(rows))
    texts = (text for failure in failures for text in (failure.key, failure.reason))
    return digest_texts((plan.digest, *numbers, checksum, seconds, *texts))


def _seconds(text: str) -> Seconds:
    try:
        return validate(Seconds, parse_json(text), "seconds")
    except (ValueError, TypeError) as error:
        raise LsnError("The seconds of a chunk are damaged.") from error


COMMIT_SECONDS = 10.0
NO_TIME = Seconds()


class Part:
    """A part in progress, used by one thread at a time. Create it with ``Part.open``."""

    def __init__(self, folder: Path, plan: ExtractionPlan, index: int, commit_seconds: float) -> None:
        self._folder, self._plan, self._index = folder, plan, index
        self._commit_seconds = commit_seconds
        self.start, self.stop = plan.borders(index)
        self.damaged: list[str] = []
        """A sentence for every damaged chunk, whose items are encoded again."""
        self._chunks = sound_chunks(folder, plan, self.start, self.stop, self.damaged.append)
        self._buffer: list[Chunk] = []
        self._buffered = Seconds()
        self.wrote = 0.0
        """Seconds spent writing since the part was opened."""
        self.unrecorded = 0.0
        """The seconds of writing that no chunk records: a chunk cannot record its own write."""
        self._last_commit = time.monotonic()

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        plan: ExtractionPlan,
        index: int,
        *,
        commit_seconds: float = COMMIT_SECONDS,
        wait: float = 0.0,
    ) -> Iterator["Part"]:
        """Begin or resume part ``index`` of the ``plan`` in ``folder``; leaving the block commits it.

        Raises LsnError if another process works on this part for ``wait`` seconds, or the folder now belongs
        to another plan.
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
    def next_item(self) -> int:
        """The first item that is not committed; all items of the part before it are."""
        return self._chunks[-1].stop if self._chunks else self.start

    @property
    def complete(self) -> bool:
        """Whether every item of the part is committed."""
        return self.next_item == self.stop

    @property
    def chunks(self) -> tuple[CommittedChunk, ...]:
        """The committed chunks; a single one after a complete part is closed."""
        return tuple(self._chunks)

    def add(self, chunk: Chunk, seconds: Seconds = NO_TIME) -> None:
        """Add the next batch, with its ``seconds`` by stage; commits every ``commit_seconds`` or 65,536 rows.

        Raises LsnError if the batch does not continue the last one, or does not end at a batch border.
        """
        expected = self._buffer[-1].stop if self._buffer else self.next_item
        at_border = chunk.stop % self._plan.batch_size == 0 or chunk.stop == self._plan.items
        if chunk.start != expected or chunk.stop > self.stop or not at_border:
            raise LsnError(
                f"Part {self._index}: expected the batch from item {expected}, "
                f"found items {chunk.start} to {chunk.stop}."
            )
        self._buffer.append(chunk)
        self._buffered += seconds
        full = sum(len(chunk.labels) for chunk in self._buffer) >= BLOCK
        if full or time.monotonic() - self._last_commit >= self._commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Write everything added so far as one chunk; the chunks of a complete part are merged.

        Ctrl-C is deferred meanwhile, so that the files and this object stay consistent.
        """
        with held_back():
            self._commit()

    def _commit(self) -> None:
        if self._buffer:
            with self._writing():
                self._chunks.append(write_chunk(self._folder, self._buffer, self._plan, self._buffered))
            self._buffer, self._buffered = [], Seconds()
        if self.complete and len(self._chunks) > 1:
            seconds = sum((chunk.seconds for chunk in self._chunks), Seconds(write=self.unrecorded))
            self.unrecorded = 0.0
            with self._writing():
                merged = join_chunks(self._folder, self._chunks, self._plan, seconds)
                old, self._chunks = self._chunks, [merged]
                for chunk in old:
                    chunk.path.unlink()
        self._last_commit = time.monotonic()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Measure a write. Raises LsnError before it if the folder belongs to another plan."""
        check_plan(self._folder, self._plan)
        began = time.monotonic()
        yield
        self.wrote += time.monotonic() - began
        self.unrecorded += time.monotonic() - began
