"""Finish a split from its parts: all of them are there, whole and of this plan, or nothing is written.

Also says what is unfinished beside a store: how many parts are made, and which of them cannot be used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import h5py

from lsncli.errors import LsnError
from lsncli.files import place_whole, sync
from lsncli.store.container import attribute, group_at
from lsncli.store.external_rows import RowFile, has_external_rows, rows_folder, rows_in_blocks
from lsncli.store.format import Checksum, RowBatch, Split, SplitInfo, split_problems
from lsncli.store.part import CHUNK_NAME, CommittedChunk, chunk_path, chunk_rows, read_chunk, sound_chunks
from lsncli.store.reader import fingerprint_of, info_of, open_store
from lsncli.store.staging import (
    FINISH_WAIT,
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
    """The parts that are there, by name: whether they are sound shows when they are read.

    It takes as long as there are files, however many parts a plan that was altered speaks of.
    """
    try:
        names = [match for path in folder.iterdir() if (match := CHUNK_NAME.fullmatch(path.name))]
    except FileNotFoundError:
        return []
    indices = {(int(match[1]) // plan.part_rows, match[0]) for match in names}
    return sorted(index for index, name in indices if chunk_path(folder, *plan.borders(index)).name == name)


def has_all_parts(folder: Path, plan: ExtractionPlan) -> bool:
    """Whether every part is there, by name."""
    return len(existing_parts(folder, plan)) == plan.parts


def read_parts(folder: Path, plan: ExtractionPlan) -> list[CommittedChunk]:
    """Every part of ``plan``, rows unread. Raises LsnError, naming it, if one is missing, torn or foreign."""
    made = set(existing_parts(folder, plan))
    if missing := plan.parts - len(made):
        first = islice((index for index in range(plan.parts) if index not in made), 5)
        names = ", ".join(map(str, first)) + (", ..." if missing > 5 else "")
        raise LsnError(f"{missing} of {plan.parts} parts in {folder} are not made yet: {names}.", RERUN_HINT)
    return [read_part(folder, plan, index) for index in range(plan.parts)]


def read_part(folder: Path, plan: ExtractionPlan, index: int) -> CommittedChunk:
    """One part, rows unread. Raises LsnError, naming it, if it is torn or foreign."""
    start, stop = plan.borders(index)
    try:
        return read_chunk(chunk_path(folder, start, stop), start, stop, plan)
    except LsnError as error:
        raise LsnError(f"Part {index} of {plan.parts} cannot be used: {error.message}", RERUN_HINT) from error


def remove_unsound_parts(folder: Path, plan: ExtractionPlan, remark: Callable[[str], None]) -> bool:
    """Remove every part that cannot be used, so that it is made again; ``remark`` gets a sentence for each.
    Whether there was one."""
    for index in range(plan.parts):
        sound_chunks(folder, plan, *plan.borders(index), remark)
    return not has_all_parts(folder, plan)


def finished_info(
    split: str, plan: ExtractionPlan, about: SplitMetadata, parts: Sequence[CommittedChunk]
) -> SplitInfo:
    """The finished split, but for its rows. Problems of the listing come before failures of its items."""
    failures = [failure for part in parts for failure in part.failures]
    return SplitInfo(
        name=split,
        rows=sum(part.rows for part in parts),
        dim=plan.dim,
        classes=about.classes,
        failures=(*about.problems, *failures),
        source=about.source,
        listing=plan.listing,
        created_by=CREATOR,
    )


def finish_split(store: Path, split: str, plan: ExtractionPlan, about: SplitMetadata) -> SplitInfo:
    """Write the split into the store, part by part, and remove the parts; the caller has claimed it.

    Raises LsnError, naming it, if a part is missing, torn or foreign, and as ``write_split`` does; the parts
    then stay.
    """
    parts = read_parts(parts_folder(store, split), plan)
    info = finished_info(split, plan, about, parts)

    def fill(group: h5py.Group) -> None:
        fill_split(group, info, _rows(parts))

    put_split(store, split, about.fingerprint, fill, replace=about.replace, wait=FINISH_WAIT)
    remove_parts(store, split)
    return info


def finish_external_split(store: Path, split: str, plan: ExtractionPlan, about: SplitMetadata) -> SplitInfo:
    """The same, but the rows stay in the part files, which move beside the store: every row is read once, to
    check it, and none is written.

    The folder is named by the rows' checksum, so that part files of other rows never take their place.
    """
    parts = read_parts(parts_folder(store, split), plan)
    info = finished_info(split, plan, about, parts)
    checksum = Checksum()
    for block in _rows(parts):
        checksum.add(*block)
    total = checksum.hexdigest()
    folder = f"{split}-{total[:16]}"
    files = [RowFile(part.path.name, part.rows, part.checksum) for part in parts]

    def fill(group: h5py.Group) -> None:  # under the store's lock: nobody removes the folder as unused
        for part in parts:
            target = rows_folder(store) / folder / part.path.name
            place_whole(part.path, target, temporary=f"{target.name}.tmp")
        sync(rows_folder(store) / folder)
        fill_external_split(group, info, folder, files, total)

    put_split(store, split, about.fingerprint, fill, replace=about.replace, wait=FINISH_WAIT)
    remove_parts(store, split)
    return info


def gather_split(store: Path, split: str) -> SplitInfo:
    """Write a split that lies in part files into the store itself, as an extraction would have.

    Raises LsnError if it lies there already, or a file is missing or was changed.
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
    """A split in the making: ``made`` of its ``parts`` are there, with ``problems``, a sentence each."""

    split: str
    parts: int
    made: int
    problems: tuple[str, ...]


def unfinished_splits(store: Path) -> list[UnfinishedSplit]:
    """Every split in the making, sorted by name; the rows of every part are read and checked.

    Counts, checksums, and that each row is finite and not zero. Never raises for what is damaged.
    """
    folder = parts_folder(store, "x").parent
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [one for one in (_look(store, name) for name in names) if one is not None]


def _look(store: Path, split: str) -> UnfinishedSplit | None:
    folder = parts_folder(store, split)
    try:
        stored = read_plan(folder)
        if stored is None:
            return None  # removed a moment ago, or about to be planned
        plan, classes = stored.plan, read_metadata(folder).classes
    except LsnError as error:
        return UnfinishedSplit(split, 0, 0, (error.message,))
    made = existing_parts(folder, plan)
    problems = tuple(problem for index in made for problem in _of_part(folder, plan, index, classes))
    return UnfinishedSplit(split, plan.parts, len(made), problems)


def _of_part(folder: Path, plan: ExtractionPlan, index: int, classes: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    rows = 0
    try:
        part = read_part(folder, plan, index)
        for features, labels, keys in chunk_rows(part):
            rows += len(keys)
            problems = split_problems(Split("part", features, labels, tuple(keys), classes), plan.dim)
            found += [f"Part {index} of {plan.parts}: {problem}." for problem in problems]
    except LsnError as error:
        return [error.message]
    if rows != part.rows:
        found.append(f"Part {index} of {plan.parts}: expected {part.rows} rows, found {rows}.")
    return found
