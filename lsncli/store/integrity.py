"""Verify that the content of a store is what was written. Rows are verified once, not by every command.

A split whose rows match their checksum is remembered by the identity of its files (device, inode, size,
modification times): in this process, and for large splits in ``<store>.checked`` next to the store.
"""

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from lsncli.errors import LsnError
from lsncli.files import write_own
from lsncli.store import NO_VERIFY
from lsncli.store.container import MAPPED, attribute, dataset_at, group_at
from lsncli.store.external_rows import has_external_rows, row_paths
from lsncli.store.format import (
    Checksum,
    Split,
    SplitInfo,
    digest_texts,
    joined_digest,
    metadata_checksum,
    text_checksum,
)
from lsncli.types import Fingerprint, FloatArray

CHANGED_ROWS = "the checksum does not match: the rows were changed after they were written"
CHANGED_ABOUT = "its description (classes, failures, source) was changed after it was written"
CHANGED_TEXT = "Text features: they were changed after they were written."
REPAIR = (
    "Restore the store from a copy, or extract or import the split again with --overwrite; "
    "`lsn --no-verify` reads it as it is."
)
SETTLED = 2_000_000_000
"""Nanoseconds after a change from which on another change gets another time, on any file system."""
BUFFER = 1 << 22
"""Bytes read and hashed at a time."""
MARK = 65
"""Bytes of a line in ``<store>.checked``."""
REMEMBERED = 64
"""Entries in ``<store>.checked``; the oldest are dropped. Each machine that shares a store has its own."""

_known: set[str] = set()


def is_verifying() -> bool:
    """Return whether content is verified when it is read."""
    return os.environ.get(NO_VERIFY, "").lower() in ("", "0", "false", "no")


def stored_about(group: h5py.Group) -> str:
    """Read the checksum ``about`` of a split or of text features; "" in a store of an older version."""
    return attribute(group, "about", str) if "about" in group.attrs else ""


def contents_checksum(file: h5py.File, fingerprint: str) -> str:
    """Return the checksum of a store's contents: fingerprint, names of the splits, presence of text features.

    Without it a damaged name would make a split, or the text features, disappear without an error.
    """
    return digest_texts(
        (fingerprint, *sorted(group_at(file, "splits")), *(["/text"] if "text" in file else []))
    )


def checksum_of_splits(splits: h5py.Group) -> str:
    """Return the checksum of the checksums of all splits."""
    names = sorted(splits)
    return digest_texts(
        text for name in names for text in (name, attribute(group_at(splits, name), "checksum", str))
    )


def index_problems(file: h5py.File) -> list[str]:
    """Verify the fingerprint and the list of splits: return a sentence for each problem."""
    stated = attribute(file, "fingerprint", str)
    problems = []
    if attribute(file, "digest", str) != Fingerprint.from_json(stated).digest:
        problems.append("The digest is not that of the fingerprint.")
    if "contents" in file.attrs and attribute(file, "contents", str) != contents_checksum(file, stated):
        problems.append("The model or the list of splits was changed after it was written.")
    return problems


def metadata_problems(group: h5py.Group, info: SplitInfo, fingerprint: Fingerprint) -> list[str]:
    """Verify the description of a split without its rows: return a sentence for each problem."""
    if info.dim != fingerprint.dim:
        return [f"features must be ({info.rows}, {fingerprint.dim}), found ({info.rows}, {info.dim})"]
    about = stored_about(group)
    return [CHANGED_ABOUT] if about and about != metadata_checksum(info, fingerprint) else []


def is_text_changed(group: h5py.Group, classes: Sequence[str], features: FloatArray) -> bool:
    """Return whether text features or their classes were changed after they were written."""
    about = stored_about(group)
    return bool(about) and about != text_checksum(classes, features)


def raise_first(where: str, problems: Iterable[str]) -> None:
    """Raise LsnError with the first of ``problems``, if any."""
    for problem in problems:
        raise LsnError(f"{where}: {problem.removesuffix('.')}.", REPAIR)


class SplitCheck:
    """The verification of one split's rows; ``due`` is whether it is still necessary.

    Create it before the rows are read: it records the identity of the files.
    """

    def __init__(self, group: h5py.Group, name: str) -> None:
        self._store = Path(group.file.filename)
        self._where = f"{self._store}, split '{name}'"
        self._checksum = attribute(group, "checksum", str)
        stats = [os.fstat(group.file.id.get_vfd_handle())]
        if has_external_rows(group):
            # Reading reports a missing file.
            stats += [os.stat(path) for path in row_paths(group) if path.exists()]
        numbers = (
            str(number)
            for status in stats
            for number in (
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
        )
        self._mark = digest_texts((name, self._checksum, *numbers))
        changed = max(max(status.st_mtime_ns, status.st_ctime_ns) for status in stats)
        self._settled = time.time_ns() - changed >= SETTLED
        self.due = is_verifying() and not self._is_known()

    def check(self, group: h5py.Group, split: Split) -> None:
        """Verify all rows against their checksum. Raises LsnError if they differ."""
        if self.due:
            if rows_checksum(group, split) != self._checksum:
                raise_first(self._where, [CHANGED_ROWS])
            self._remember(split.features.nbytes)

    def _is_known(self) -> bool:
        return self._mark in _known or self._mark in _read_marks(self._store)

    def _remember(self, size: int) -> None:
        if not self._settled:
            return
        _known.add(self._mark)
        if size >= MAPPED:  # smaller ones are read quickly
            marks = [*_read_marks(self._store), self._mark][-REMEMBERED:]
            with suppress(LsnError):  # a read-only folder only costs time
                write_own(_marks_path(self._store), "".join(f"{mark}\n" for mark in marks).encode())


def rows_checksum(group: h5py.Group, split: Split) -> str:
    """Return the checksum of a split's rows.

    Rows in the store are read again, block by block: hashing the memory-mapped array would load all of it
    into memory.
    """
    if has_external_rows(group):
        checksum = Checksum()
        checksum.add(split.features, split.labels, split.keys)
        return checksum.hexdigest()
    names = {"features": ("<f2", 2), "labels": ("<i4", 1), "keys": ("|u1", 1)}
    return joined_digest(_digest(dataset_at(group, name, *kind)) for name, kind in names.items())


def _digest(dataset: h5py.Dataset) -> bytes:
    digest = hashlib.sha256()
    if dataset.size:
        rows = max(1, BUFFER * len(dataset) // dataset.nbytes)
        buffer = np.empty((min(rows, len(dataset)), *dataset.shape[1:]), dataset.dtype)
        for start in range(0, len(dataset), rows):
            count = min(rows, len(dataset) - start)
            dataset.read_direct(buffer, np.s_[start : start + count], np.s_[:count])
            digest.update(buffer[:count].data)
    return digest.digest()


def _marks_path(store: Path) -> Path:
    store = Path(os.path.realpath(store))
    return store.with_name(store.name + ".checked")


def _read_marks(store: Path) -> list[str]:
    path = _marks_path(store)
    try:
        if not path.is_file():  # it may be a pipe or a device
            return []
        with path.open("rb") as file:
            return file.read(REMEMBERED * MARK).decode("ascii", "replace").split()
    except OSError:
        return []
