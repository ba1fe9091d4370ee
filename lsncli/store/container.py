"""Read and write HDF5 files safely.

Only plain groups, contiguous arrays and short attributes are read, files are replaced atomically, and every
error is one sentence. Large datasets are memory-mapped.

Texts are bytes in a dataset, each text followed by NUL. HDF5's own strings of variable length lie in a
"global heap", and HDF5 2.0 was seen to loop for ever on a damaged one. This is also smaller and faster.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.files import open_atomic
from lsncli.signals import held_back
from lsncli.store import check_exists
from lsncli.store.format import to_bytes

SIGNATURE = b"\x89HDF\r\n\x1a\n"
ALIGNED = {"alignment_threshold": 65536, "alignment_interval": 64}
"""Large datasets are aligned, so that they can be memory-mapped."""
BLOCK = 65536  # rows read or written at a time
READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError)  # what h5py raises on broken files
WRITE_ERRORS = (OSError, RuntimeError)


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises LsnError for a file that is missing, damaged or no HDF5 file.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(len(SIGNATURE))
    except FileNotFoundError:
        check_exists(path)
        raise  # it exists now
    except OSError as error:
        raise LsnError(f"The feature store {path} cannot be read: {error.strerror}.") from error
    if head != SIGNATURE:
        what = "is empty" if not head else "is not an HDF5 file"
        raise LsnError(f"{path} {what}, so it is no feature store.", "Is it the right file?")
    try:
        # HDF5's own locks fail on some file systems; a store is never changed in place and needs none.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except READ_ERRORS as error:
        raise damaged_error(path, error) from error


def damaged_error(path: Path | str, error: Exception) -> LsnError:
    """Return the LsnError for an error that h5py raised while reading."""
    cut = "its end is missing" if "truncated file" in str(error) else " ".join(str(error).split())
    return LsnError(
        f"The feature store {path} is damaged: {cut}.", "Restore it from a copy, or extract again."
    )


def write_error(path: Path, error: Exception) -> LsnError:
    """Return the LsnError for an error that h5py or the system raised while writing.

    HDF5's messages are about file descriptors and buffers; only the system's reason is taken from them.
    """
    reason = re.search(r"error message = '([^']+)'", str(error))
    text = reason[1] if reason else getattr(error, "strerror", None) or " ".join(str(error).split())
    return LsnError(f"{path} could not be written: {text}.", "Is the disk full or read-only?")


@contextmanager
def replacing(path: Path) -> Iterator[h5py.File]:
    """Write an HDF5 file that replaces ``path`` atomically when the block succeeds.

    Temporary file in the same folder, fsync, rename, fsync of the folder: after a crash either the old file
    or the new one exists. The caller holds a lock, so one temporary name is enough and a leftover is
    overwritten. Ctrl-C is deferred: HDF5 calls ``_FileWriter``, and an interrupt raised there, or the write
    itself, would be lost. Raises LsnError if the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    with held_back():
        try:
            with open_atomic(path, mode="w+b", buffering=0, temporary=f"{path.name}.tmp") as opened:
                writer = _FileWriter(cast(FileIO, opened))
                try:
                    with h5py.File(writer, "w", **ALIGNED) as file:
                        yield file
                finally:
                    writer.check()
        except WRITE_ERRORS as error:
            raise write_error(path, error) from error


class _FileWriter:
    """File object through which HDF5 writes, so that no failed write goes unnoticed.

    HDF5 writes some data when an object is deallocated, where h5py cannot report an error: on a full disk
    a torn file looked complete. So no method raises. The first error is kept, later writes are ignored, and
    ``check`` raises it.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._error: OSError | None = None
        self.read, self.readinto, self.seek, self.tell = file.read, file.readinto, file.seek, file.tell

    def __repr__(self) -> str:  # h5py uses it as the name of the file
        return str(self._file.name)

    def write(self, data: memoryview) -> int:
        size, start = len(data), 0
        while start < size and self._error is None:
            try:
                start += self._file.write(data[start:])
            except OSError as error:
                self._error = error
        return size

    def truncate(self, size: int) -> int:
        if self._error is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self._error = error
        return size

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def check(self) -> None:
        """Raise OSError if a write has failed."""
        if self._error is not None:
            raise self._error


def group_at(parent: h5py.Group, name: str) -> h5py.Group:
    """Return the group ``name`` directly in ``parent``. Raises LsnError for a soft or external link."""
    child = _child(parent, name)
    if not isinstance(child, h5py.Group):
        raise LsnError(f"{_where(parent, name)} is not a group.")
    return child


def dataset_at(parent: h5py.Group, name: str, dtype: str, ndim: int) -> h5py.Dataset:
    """Return a contiguous dataset of exactly ``dtype`` ('<f2', '<f4', '<i4' or '|u1') with ``ndim`` axes.

    Raises LsnError for anything else, and for a dataset whose values are not in the file.
    """
    dataset = _child(parent, name)
    where = _where(parent, name)
    if not isinstance(dataset, h5py.Dataset):
        raise LsnError(f"{where} is not a dataset.")
    plist = dataset.id.get_create_plist()
    if plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_external_count():
        raise LsnError(f"{where} is virtual, external, chunked or compressed; expected contiguous data.")
    if dataset.dtype != np.dtype(dtype) or dataset.ndim != ndim:
        raise LsnError(
            f"{where}: expected {ndim}-dimensional {dtype}, found {dataset.ndim}-dimensional {dataset.dtype}."
        )
    # A shape is only a claim: without its bytes in the file it could ask for any amount of memory.
    if dataset.size and dataset.id.get_storage_size() != dataset.size * dataset.dtype.itemsize:
        raise LsnError(f"{where} claims {dataset.shape} values that are not in the file.")
    return dataset


def texts_at(parent: h5py.Group, name: str) -> tuple[str, ...]:
    """Read a dataset of texts; bytes that are not UTF-8 become surrogates, as in file names."""
    stored = dataset_at(parent, name, "|u1", 1)[()].tobytes()
    if stored and not stored.endswith(b"\0"):
        raise LsnError(f"{_where(parent, name)}: the last text has no end.")
    return tuple(stored.decode("utf-8", "surrogateescape").split("\0")[:-1])


def write_texts(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    """Write texts in UTF-8, each followed by NUL. Raises LsnError for a text that contains NUL."""
    joined = b"".join(to_bytes(value) + b"\0" for value in values)
    if joined.count(b"\0") != len(values):
        raise LsnError(f"{_where(group, name)}: a text holds a NUL character.")
    group.create_dataset(name, data=np.frombuffer(joined, dtype=np.uint8))


def attribute(group: h5py.Group | h5py.File, name: str, kind: type[Any]) -> Any:
    """Read a text (``str``) or integer (``int``) attribute. Raises LsnError if there is none of this type."""
    if name not in group.attrs:
        raise LsnError(f"{group.file.filename}, {group.name}: the attribute '{name}' is missing.")
    stored = group.attrs.get_id(name)
    expected = "S" if kind is str else "i"
    if stored.dtype.kind != expected or stored.shape != ():
        raise LsnError(
            f"{group.file.filename}, {group.name}: the attribute '{name}' is not of the type {kind.__name__}."
        )
    value = group.attrs[name]
    return value.decode("utf-8", "surrogateescape") if kind is str else int(value)


def write_attribute(group: h5py.Group | h5py.File, name: str, text: str) -> None:
    """Write a text of less than 64 KiB as an attribute of its own length."""
    encoded = to_bytes(text)
    dtype = h5py.string_dtype("utf-8", max(1, len(encoded)))
    group.attrs.create(name, np.bytes_(encoded), dtype=dtype)


def _child(parent: h5py.Group, name: str) -> Any:
    link = parent.get(name, getlink=True)
    if link is None:
        raise LsnError(f"{_where(parent, name)} is missing.")
    if not isinstance(link, h5py.HardLink):
        raise LsnError(f"{_where(parent, name)} is a link to somewhere else; links are never followed.")
    return parent[name]


def _where(parent: h5py.Group, name: str) -> str:
    return f"{parent.file.filename}, {parent.name.rstrip('/')}/{name}"


MAPPED = 1 << 26
"""Datasets of at least this many bytes are memory-mapped."""


def read_or_map(dataset: h5py.Dataset) -> NDArray[Any]:
    """Return all values of a contiguous dataset: read into memory, or memory-mapped if it is large.

    A mapped array takes no memory of its own: the system reads pages on access and drops them under memory
    pressure. Writing to it changes nothing on the disk (copy on write). This is safe because a store is
    never changed in place: when it is replaced, the old file stays valid for processes that have it open.
    """
    offset = dataset.id.get_offset()
    if dataset.nbytes < MAPPED or offset is None or offset % dataset.dtype.itemsize:
        return np.asarray(dataset[()])
    with open(dataset.file.filename, "rb") as file:
        if not os.path.samestat(os.fstat(file.fileno()), os.fstat(dataset.file.id.get_vfd_handle())):
            return np.asarray(dataset[()])  # replaced just now
        return np.asarray(np.memmap(file, dataset.dtype, "c", offset, dataset.shape))


class LazyTexts(Sequence[str]):
    """A tuple of texts that is decoded on first access from ``data``: the texts, each followed by NUL."""

    def __init__(self, data: NDArray[np.uint8], count: int) -> None:
        self._data, self._count = data, count

    @cached_property
    def _all(self) -> tuple[str, ...]:
        return tuple(self._data.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __getitem__(self, where: Any) -> Any:
        return self._all[where]

    def __eq__(self, other: object) -> bool:
        return self._all == (other._all if isinstance(other, LazyTexts) else other)

    def __hash__(self) -> int:
        return hash(self._all)


def lazy_texts_at(parent: h5py.Group, name: str) -> LazyTexts:
    """Return a dataset of texts like ``texts_at``, decoded on first access; only their number is read."""
    data = read_or_map(dataset_at(parent, name, "|u1", 1))
    if len(data) and data[-1]:
        raise LsnError(f"{parent.file.filename}, {parent.name.rstrip('/')}/{name}: the last text has no end.")
    return LazyTexts(data, int(np.count_nonzero(data == 0)))
