"""Merge the parts of a split into the store: all parts exist and are valid, or nothing is written.

Also lists the unfinished splits of a store: how many of their parts exist, and which of them are unusable.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import h5py

from lsncli.errors import LsnError
from lsncli.files import place_atomic, sync
from lsncli.store.container import attribute, group_at
from lsncli.store.external_rows import RowFile, has_external_rows, rows_folder, rows_in_blocks
from lsncli.store.format import Checksum, RowBatch, Split, SplitInfo, split_problems
from lsncli.store.part import CHUNK_NAME, CommittedChunk, chunk_path, chunk_rows, read_chunk, sound_chunks
from lsncli.store.reader import fingerprint_of, info_of, open_store
from lsncli.store.staging import (
    FINISH_WAIT,
    RUNTIME,
    ExtractionPlan,
    SplitMetadata,
    parts_folder,
    read_metadata,
    read_plan,
    remove_parts,
)
from lsncli.store.writer import CREATOR, fill_external_split, fill_split, put_split

RERUN_HINT = "Run the same `lsn extract` again: it makes what is missing."


def existing_parts(folder: Path, plan: ExtractionPlan) -> list[int]:
    """Return the indices of the parts that exist, by file name; their content is not read.

    The time depends on the number of files, not on the number of parts in a plan that may have been altered.
    """
    try:
        names = [match for path in folder.iterdir() if (match := CHUNK_NAME.fullmatch(path.name))]
    except FileNotFoundError:
        return []
    indices = {(int(match[1]) // plan.part_rows, match[0]) for match in names}
    return sorted(index for index, name in indices if chunk_path(folder, *plan.borders(index)).name == name)


def has_all_parts(folder: Path, plan: ExtractionPlan) -> bool:
    """Return whether every part exists, by file name."""
    return len(existing_parts(folder, plan)) == plan.parts


def read_parts(folder: Path, plan: ExtractionPlan) -> list[CommittedChunk]:
    """Read every part of ``plan`` without its rows.

    Raises LsnError, naming the part, if one is missing, torn or of another plan.
    """
    existing = set(existing_parts(folder, plan))
    if missing := plan.parts - len(existing):
        first = islice((index for index in range(plan.parts) if index not in existing), 5)
        names = ", ".join(map(str, first)) + (", ..." if missing > 5 else "")
        raise LsnError(f"{missing} of {plan.parts} parts in {folder} are not made yet: {names}.", RERUN_HINT)
    return [read_part(folder, plan, index) for index in range(plan.parts)]


def read_part(folder: Path, plan: ExtractionPlan, index: int) -> CommittedChunk:
    """Read one part without its rows. Raises LsnError, naming it, if it is torn or of another plan."""
    start, stop = plan.borders(index)
    try:
        return read_chunk(chunk_path(folder, start, stop), start, stop, plan)
    except LsnError as error:
        raise LsnError(f"Part {index} of {plan.parts} cannot be used: {error.message}", RERUN_HINT) from error


def remove_unsound_parts(folder: Path, plan: ExtractionPlan, remark: Callable[[str], None]) -> bool:
    """Remove every unusable part; return whether parts are missing now.

    ``remark`` is called with a sentence for each damaged file.
    """
    for index in range(plan.parts):
        sound_chunks(folder, plan, *plan.borders(index), remark)
    return not has_all_parts(folder, plan)


def finished_info(
    split: str, plan: ExtractionPlan, metadata: SplitMetadata, parts: Sequence[CommittedChunk]
) -> SplitInfo:
    """Return the description of the finished split. Listing problems come before failures of its items."""
    failures = [failure for part in parts for failure in part.failures]
    runtime = plan.options.get(RUNTIME)
    return SplitInfo(
        name=split,
        rows=sum(part.rows for part in parts),
        dim=plan.dim,
        classes=metadata.classes,
        failures=(*metadata.problems, *failures),
        source=metadata.source,
        listing=plan.listing,
        created_by=f"{CREATOR}, runtime {runtime}" if runtime else CREATOR,
    )


def finish_split(store: Path, split: str, plan: ExtractionPlan, metadata: SplitMetadata) -> SplitInfo:
    """Write the split into the store, part by part, and remove the parts; the caller holds ``split_lock``.

    Raises LsnError, naming the part, if one is missing, torn or of another plan, and as ``write_split``; the
    parts then stay.
    """
    parts = read_parts(parts_folder(store, split), plan)
    info = finished_info(split, plan, metadata, parts)

    def fill(group: h5py.Group) -> None:
        fill_split(group, info, _rows(parts))

    put_split(store, split, metadata.fingerprint, fill, replace=metadata.replace, wait=FINISH_WAIT)
    remove_parts(store, split)
    return info


def finish_external_split(
    store: Path, split: str, plan: ExtractionPlan, metadata: SplitMetadata
) -> SplitInfo:
    """Finish the split with external rows: as ``finish_split``, but its part files move next to the store.

    Every row is read once, to verify it, and none is written. The folder is named by the checksum of the
    rows, so that part files of other rows never replace them.
    """
    parts = read_parts(parts_folder(store, split), plan)
    info = finished_info(split, plan, metadata, parts)
    checksum = Checksum()
    for block in _rows(parts):
        checksum.add(*block)
    total = checksum.hexdigest()
    folder = f"{split}-{total[:16]}"
    files = [RowFile(part.path.name, part.rows, part.checksum) for part in parts]

    def fill(
        group: h5py.Group,
    ) -> None:  # under the store's lock, so that the folder is not removed as unused
        for part in parts:
            target = rows_folder(store) / folder / part.path.name
            place_atomic(part.path, target, temporary=f"{target.name}.tmp")
        sync(rows_folder(store) / folder)
        fill_external_split(group, info, folder, files, total)

    put_split(store, split, metadata.fingerprint, fill, replace=metadata.replace, wait=FINISH_WAIT)
    remove_parts(store, split)
    return info


def gather_split(store: Path, split: str) -> SplitInfo:
    """Move the external rows of a split into the store; the bytes are those of a direct extraction.

    Raises LsnError if the rows are in the store already, or a file is missing or was changed.
    """
    with open_store(store) as file:
        fingerprint, group = fingerprint_of(file), group_at(group_at(file, "splits"), split)
        if not has_external_rows(group):
            raise LsnError(f"The split '{split}' lies in {store} already.", "There is nothing to merge.")
        info, checksum = info_of(group, split), attribute(group, "checksum", str)

        def fill(new: h5py.Group) -> None:
            fill_split(new, info, rows_in_blocks(group), checksum)

        put_split(store, split, fingerprint, fill, replace=True, wait=FINISH_WAIT)
    return info


def _rows(parts: Sequence[CommittedChunk]) -> Iterator[RowBatch]:
    for part in parts:
        yield from chunk_rows(part)


@dataclass(frozen=True)
class UnfinishedSplit:
    """An unfinished split: ``made`` of its ``parts`` exist, with ``problems``, a sentence each."""

    split: str
    parts: int
    made: int
    problems: tuple[str, ...]


def unfinished_splits(store: Path) -> list[UnfinishedSplit]:
    """Return every unfinished split, sorted by name, after reading and verifying all rows of its parts.

    Verifies counts, checksums, and that each row is finite and not zero. Damage is reported, never raised.
    """
    folder = parts_folder(store, "x").parent
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    splits = (_unfinished(store, name) for name in names)
    return [split for split in splits if split is not None]


def _unfinished(store: Path, split: str) -> UnfinishedSplit | None:
    folder = parts_folder(store, split)
    try:
        stored = read_plan(folder)
        if stored is None:
            return None  # just removed, or not planned yet
        plan, classes = stored.plan, read_metadata(folder).classes
    except LsnError as error:
        return UnfinishedSplit(split, 0, 0, (error.message,))
    made = existing_parts(folder, plan)
    problems = tuple(problem for index in made for problem in _part_problems(folder, plan, index, classes))
    return UnfinishedSplit(split, plan.parts, len(made), problems)


def _part_problems(folder: Path, plan: ExtractionPlan, index: int, classes: tuple[str, ...]) -> list[str]:
    problems: list[str] = []
    rows = 0
    try:
        part = read_part(folder, plan, index)
        for features, labels, keys in chunk_rows(part):
            rows += len(keys)
            split = Split("part", features, labels, tuple(keys), classes)
            problems += [
                f"Part {index} of {plan.parts}: {problem}." for problem in split_problems(split, plan.dim)
            ]
    except LsnError as error:
        return [error.message]
    if rows != part.rows:
        problems.append(f"Part {index} of {plan.parts}: expected {part.rows} rows, found {rows}.")
    return problems
