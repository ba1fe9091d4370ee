"""Splits with external rows: their rows are in part files next to the store.

The part files are in ``<store>.rows/<folder>/``; the store has the name, row count and checksum of each.
HDF5's virtual datasets would give fill values, and no error, where such a file is missing.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from lsncli.errors import LsnError
from lsncli.store.container import (
    BLOCK,
    READ_ERRORS,
    attribute,
    damaged_error,
    dataset_at,
    group_at,
    reading,
    texts_at,
    write_attribute,
    write_texts,
)
from lsncli.store.format import Checksum, RowBatch

FOLDER = re.compile(r"[A-Za-z0-9_.\-]{1,64}-[0-9a-f]{16}")
FILE = re.compile(r"rows-\d{12}-\d{12}\.h5")
LOST_HINT = "Bring back the folder that belongs to the store, or extract the split again with --overwrite."


@dataclass(frozen=True)
class RowFile:
    """A part file: its name, its number of rows and their checksum."""

    name: str
    rows: int
    checksum: str


def has_external_rows(group: h5py.Group) -> bool:
    """Return whether the rows of the split in ``group`` are in part files."""
    return "files" in group


def rows_folder(store: Path) -> Path:
    """Return the folder of the part files of all splits of a store, next to the target of any link to it."""
    store = Path(os.path.realpath(store))
    return store.with_name(store.name + ".rows")


def folder_of(group: h5py.Group) -> str:
    """Read the name of the folder of a split's part files. Raises LsnError for an invalid name."""
    name: str = attribute(group, "folder", str)
    if not FOLDER.fullmatch(name):
        raise LsnError(f"{group.file.filename}, {group.name}: '{name}' is no name of a folder of rows.")
    return name


def row_files(group: h5py.Group) -> list[RowFile]:
    """Read the list of a split's part files, in row order. Raises LsnError for an invalid list."""
    inside = group_at(group, "files")
    names, checksums = texts_at(inside, "names"), texts_at(inside, "checksums")
    rows = dataset_at(inside, "rows", "<i4", 1)[()].tolist()
    plain = all(FILE.fullmatch(name) for name in names)
    if not len(names) == len(checksums) == len(rows) or not plain or min(rows, default=0) < 0:
        raise LsnError(f"{group.file.filename}, {inside.name} is damaged: it names no part files.")
    return [RowFile(*entry) for entry in zip(names, rows, checksums, strict=True)]


def fill_row_files(group: h5py.Group, folder: str, dim: int, files: Sequence[RowFile]) -> None:
    """Write the list of a split's part files."""
    inside = group.create_group("files")
    write_texts(inside, "names", [file.name for file in files])
    inside.create_dataset("rows", data=np.array([file.rows for file in files], dtype="<i4"))
    write_texts(inside, "checksums", [file.checksum for file in files])
    write_attribute(group, "folder", folder)
    group.attrs["dim"] = np.int64(dim)


def rows_in_blocks(group: h5py.Group) -> Iterator[RowBatch]:
    """Yield the rows of a split or chunk, external or not, at most BLOCK at a time."""
    return read_external_rows(group) if has_external_rows(group) else inline_rows(group)


def row_paths(group: h5py.Group) -> list[Path]:
    """Return the paths of a split's part files, in the order of their rows."""
    folder = rows_folder(Path(group.file.filename)) / folder_of(group)
    return [folder / file.name for file in row_files(group)]


def read_external_rows(group: h5py.Group, *, check: bool = True) -> Iterator[RowBatch]:
    """Yield the external rows of a split, verified against their checksums unless ``check`` is False.

    Raises LsnError, naming the file, if one is missing, torn or not the one the store refers to.
    """
    dim = attribute(group, "dim", int)
    for path, file in zip(row_paths(group), row_files(group), strict=True):
        for block in read_row_file(path, file.rows, file.checksum if check else None):
            if block[0].shape[1] != dim:
                raise LsnError(f"{path}: expected features of {dim}, found {block[0].shape[1]}.")
            yield block


def read_row_file(path: Path, rows: int, checksum: str | None) -> list[RowBatch]:
    """Read one part file. Raises LsnError unless it has ``rows`` rows with the ``checksum``, if given."""
    if not path.is_file():
        raise LsnError(f"{path}, which holds {rows} rows of a split, is missing.", LOST_HINT)
    with reading(path) as file:
        blocks = list(inline_rows(file))
    actual = Checksum()
    for block in blocks if checksum is not None else ():
        actual.add(*block)
    matches = checksum is None or actual.hexdigest() == checksum
    if sum(len(block[2]) for block in blocks) != rows or not matches:
        raise LsnError(
            f"{path} was changed after it was written: its rows do not match their checksum.", LOST_HINT
        )
    return blocks


def inline_rows(group: h5py.Group) -> Iterator[RowBatch]:
    """Yield the rows that are in ``group`` itself, at most BLOCK at a time (all keys are read at once)."""
    features, labels = dataset_at(group, "features", "<f2", 2), dataset_at(group, "labels", "<i4", 1)
    keys = texts_at(group, "keys")
    if not len(features) == len(labels) == len(keys):
        raise LsnError(
            f"{group.file.filename}, {group.name}: features, labels and keys must be equally many, "
            f"found {len(features)}, {len(labels)} and {len(keys)}."
        )
    for start in range(0, len(keys), BLOCK):
        where = slice(start, start + BLOCK)
        try:
            block = (features[where], labels[where], keys[where])
        except READ_ERRORS as error:
            raise damaged_error(group.file.filename, error) from error
        yield block
