"""What is stored, used where it lies: a split of millions of rows takes no memory until it is looked at."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.store.container import dataset_at

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
