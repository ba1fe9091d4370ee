"""A split whose rows lie in part files beside the store: what the store says of them, and how they are read.

They are plain files of rows in ``<store>.rows/<folder>/``, each named with its count and checksum. HDF5's own
virtual datasets would show fill values, and no error, where such a file is missing.
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
    """A part file by its name, with the count and the checksum of its rows."""

    name: str
    rows: int
    checksum: str


def has_external_rows(group: h5py.Group) -> bool:
    """Whether the rows of the split in ``group`` lie in part files."""
    return "files" in group


def rows_folder(store: Path) -> Path:
    """Where the part files of all splits of a store lie: beside it, and not beside a link to it."""
    store = Path(os.path.realpath(store))
    return store.with_name(store.name + ".rows")


def folder_of(group: h5py.Group) -> str:
    """The name of the folder of a split's part files. Raises LsnError for one that cannot be."""
    name: str = attribute(group, "folder", str)
    if not FOLDER.fullmatch(name):
        raise LsnError(f"{group.file.filename}, {group.name}: '{name}' is no name of a folder of rows.")
    return name


def row_files(group: h5py.Group) -> list[RowFile]:
    """The part files of a split in the order of their rows. Raises LsnError for a list that cannot be."""
    inside = group_at(group, "files")
    names, checksums = texts_at(inside, "names"), texts_at(inside, "checksums")
    rows = dataset_at(inside, "rows", "<i4", 1)[()].tolist()
    plain = all(FILE.fullmatch(name) for name in names)
    if not len(names) == len(checksums) == len(rows) or not plain or min(rows, default=0) < 0:
        raise LsnError(f"{group.file.filename}, {inside.name} is damaged: it names no part files.")
    return [RowFile(*one) for one in zip(names, rows, checksums, strict=True)]


def fill_row_files(group: h5py.Group, folder: str, dim: int, files: Sequence[RowFile]) -> None:
    """Write down the part files of a split."""
    inside = group.create_group("files")
    write_texts(inside, "names", [one.name for one in files])
    inside.create_dataset("rows", data=np.array([one.rows for one in files], dtype="<i4"))
    write_texts(inside, "checksums", [one.checksum for one in files])
    write_attribute(group, "folder", folder)
    group.attrs["dim"] = np.int64(dim)


def rows_in_blocks(group: h5py.Group) -> Iterator[RowBatch]:
    """The rows of a split or chunk, at most BLOCK at a time, wherever they lie."""
    return read_external_rows(group) if has_external_rows(group) else inline_rows(group)


def row_paths(group: h5py.Group) -> list[Path]:
    """The part files of a split by their paths, in the order of their rows."""
    folder = rows_folder(Path(group.file.filename)) / folder_of(group)
    return [folder / file.name for file in row_files(group)]


def read_external_rows(group: h5py.Group, *, check: bool = True) -> Iterator[RowBatch]:
    """The rows of a split in part files, each file's once they match its checksum (unless not to ``check``).

    Raises LsnError, naming it, for a file that is missing, torn or not the one the store was made with.
    """
    dim = attribute(group, "dim", int)
    for path, file in zip(row_paths(group), row_files(group), strict=True):
        for block in read_row_file(path, file.rows, file.checksum if check else None):
            if block[0].shape[1] != dim:
                raise LsnError(f"{path}: expected features of {dim}, found {block[0].shape[1]}.")
            yield block


def read_row_file(path: Path, rows: int, checksum: str | None) -> list[RowBatch]:
    """The rows of one file. Raises LsnError unless they are so many and match ``checksum`` (None: any do)."""
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
    """The rows that lie in ``group`` itself, at most BLOCK at a time (the keys are read at once)."""
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
