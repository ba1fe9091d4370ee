"""HDF5 with care: nothing but plain groups, contiguous numbers and short attributes is ever read, a file is
replaced whole or not at all, and every error is one sentence.

Texts are bytes in a dataset, each text ended by NUL, and not HDF5's strings of variable length: those lie in
a "global heap", and HDF5 2.0 was seen to loop for ever on a damaged one. This is also smaller and faster.
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
from lsncli.files import whole
from lsncli.signals import held_back
from lsncli.store.format import to_bytes

SIGNATURE = b"\x89HDF\r\n\x1a\n"
ALIGNED = {"alignment_threshold": 65536, "alignment_interval": 64}
"""Large datasets begin where any processor likes to find numbers, so that they can be used where they lie."""
BLOCK = 65536  # rows read or written at a time
READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError)  # what h5py raises on broken files
WRITE_ERRORS = (OSError, RuntimeError)


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open a file of ours to read. Raises LsnError for a file that is missing, foreign or damaged, also
    when the damage only shows while it is read."""
    try:
        with open(path, "rb") as file:
            head = file.read(len(SIGNATURE))
    except FileNotFoundError as error:
        raise LsnError(
            f"There is no feature store at {path}.", "Make one with `lsn extract FOLDER`, or give --work."
        ) from error
    except OSError as error:
        raise LsnError(f"The feature store {path} cannot be read: {error.strerror}.") from error
    if head != SIGNATURE:
        what = "is empty" if not head else "is not an HDF5 file"
        raise LsnError(f"{path} {what}, so it is no feature store.", "Is it the right file?")
    try:
        # A store is never changed in place, so HDF5's own locks (which fail on some file systems) are moot.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except READ_ERRORS as error:
        raise damaged_error(path, error) from error


def damaged_error(path: Path | str, error: Exception) -> LsnError:
    """The sentence for an error that h5py met while reading."""
    cut = "its end is missing" if "truncated file" in str(error) else " ".join(str(error).split())
    return LsnError(
        f"The feature store {path} is damaged: {cut}.", "Restore it from a copy, or extract again."
    )


def write_error(path: Path, error: Exception) -> LsnError:
    """The sentence for an error that h5py or the system met while writing.

    Of HDF5's own sentences, which tell of file descriptors and buffers, only what the system said is kept.
    """
    said = re.search(r"error message = '([^']+)'", str(error))
    text = said[1] if said else getattr(error, "strerror", None) or " ".join(str(error).split())
    return LsnError(f"{path} could not be written: {text}.", "Is the disk full or read-only?")


@contextmanager
def replacing(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that takes the place of ``path`` when the block ends well, and never exists otherwise.

    Temp file in the same folder, fsync, rename, fsync of the folder: after a crash there is the old file
    or the new one. The caller holds a lock, so one temp name is enough and a leftover is overwritten.
    Ctrl-C is held back: HDF5 calls ``_Written``, and an interrupt raised there would be lost, or worse, the
    write that it was to do.
    """
    path = Path(os.path.realpath(path))
    with held_back():
        try:
            with whole(path, mode="w+b", buffering=0, temporary=f"{path.name}.tmp") as opened:
                written = _Written(cast(FileIO, opened))
                try:
                    with h5py.File(written, "w", **ALIGNED) as file:
                        yield file
                finally:
                    written.check()
        except WRITE_ERRORS as error:
            raise write_error(path, error) from error


class _Written:
    """A new file that HDF5 writes through, so that no failed write goes unnoticed.

    HDF5 writes some data when an object is let go, where h5py can tell nobody that it failed: on a full disk
    a torn file looked finished. So nothing fails here. The first error is kept, what comes after it is
    dropped, and ``check`` raises it.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._error: OSError | None = None
        self.read, self.readinto, self.seek, self.tell = file.read, file.readinto, file.seek, file.tell

    def __repr__(self) -> str:  # what h5py takes for the name of the file
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
        """There is no buffer."""

    def check(self) -> None:
        """Raise OSError if a write has failed."""
        if self._error is not None:
            raise self._error


def group_at(parent: h5py.Group, name: str) -> h5py.Group:
    """The group ``name`` lying directly in ``parent``; no soft or external link is followed."""
    found = _child(parent, name)
    if not isinstance(found, h5py.Group):
        raise LsnError(f"{_where(parent, name)} is not a group.")
    return found


def dataset_at(parent: h5py.Group, name: str, dtype: str, ndim: int) -> h5py.Dataset:
    """A contiguous dataset of exactly ``dtype`` ('<f2', '<f4', '<i4' or '|u1') with ``ndim`` axes."""
    found = _child(parent, name)
    where = _where(parent, name)
    if not isinstance(found, h5py.Dataset):
        raise LsnError(f"{where} is not a dataset.")
    plist = found.id.get_create_plist()
    if plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_external_count():
        raise LsnError(f"{where} is virtual, external, chunked or compressed; expected contiguous data.")
    if found.dtype != np.dtype(dtype) or found.ndim != ndim:
        raise LsnError(
            f"{where}: expected {ndim}-dimensional {dtype}, found {found.ndim}-dimensional {found.dtype}."
        )
    # A shape is only a claim: without its bytes in the file it could ask for any amount of memory.
    if found.size and found.id.get_storage_size() != found.size * found.dtype.itemsize:
        raise LsnError(f"{where} claims {found.shape} values that are not in the file.")
    return found


def texts_at(parent: h5py.Group, name: str) -> tuple[str, ...]:
    """A dataset of texts; bytes that are not UTF-8 come back as surrogates, as in file names."""
    stored = dataset_at(parent, name, "|u1", 1)[()].tobytes()
    if stored and not stored.endswith(b"\0"):
        raise LsnError(f"{_where(parent, name)}: the last text has no end.")
    return tuple(stored.decode("utf-8", "surrogateescape").split("\0")[:-1])


def write_texts(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    """Store texts, in UTF-8, each ended by NUL. Raises LsnError for a text that holds one itself."""
    joined = b"".join(to_bytes(value) + b"\0" for value in values)
    if joined.count(b"\0") != len(values):
        raise LsnError(f"{_where(group, name)}: a text holds a NUL character.")
    group.create_dataset(name, data=np.frombuffer(joined, dtype=np.uint8))


def attribute(group: h5py.Group | h5py.File, name: str, kind: type[Any]) -> Any:
    """A text (``str``) or a whole number (``int``) that is stored in the group itself."""
    if name not in group.attrs:
        raise LsnError(f"{group.file.filename}, {group.name}: the attribute '{name}' is missing.")
    stored = group.attrs.get_id(name)
    wanted = "S" if kind is str else "i"
    if stored.dtype.kind != wanted or stored.shape != ():
        raise LsnError(
            f"{group.file.filename}, {group.name}: the attribute '{name}' is not of the type {kind.__name__}."
        )
    value = group.attrs[name]
    return value.decode("utf-8", "surrogateescape") if kind is str else int(value)


def write_attribute(group: h5py.Group | h5py.File, name: str, text: str) -> None:
    """Store a text of less than 64 KiB, at its own length, in the group itself."""
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
"""Datasets of more bytes than these are not read into memory."""


def read_or_map(dataset: h5py.Dataset) -> NDArray[Any]:
    """All values of a contiguous dataset: in memory, or where they lie on the disk if they are many.

    Those that are mapped take no memory of their own: the system reads what is looked at and forgets it when
    it needs the room. Writing to them changes nothing on the disk. That works because a store is never
    changed in place: when it is replaced, the old file lives on for those who have it open.
    """
    offset = dataset.id.get_offset()
    if dataset.nbytes < MAPPED or offset is None or offset % dataset.dtype.itemsize:
        return np.asarray(dataset[()])
    with open(dataset.file.filename, "rb") as file:
        if not os.path.samestat(os.fstat(file.fileno()), os.fstat(dataset.file.id.get_vfd_handle())):
            return np.asarray(dataset[()])  # replaced just now
        return np.asarray(np.memmap(file, dataset.dtype, "c", offset, dataset.shape))


class LazyTexts(Sequence[str]):
    """A tuple of texts that are read when they are asked for: ``data`` holds each of them, ended by NUL."""

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
    """As ``texts_at``, but only their number is looked at."""
    data = read_or_map(dataset_at(parent, name, "|u1", 1))
    if len(data) and data[-1]:
        raise LsnError(f"{parent.file.filename}, {parent.name.rstrip('/')}/{name}: the last text has no end.")
    return LazyTexts(data, int(np.count_nonzero(data == 0)))
