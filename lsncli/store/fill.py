"""What goes into the group of a split or a piece, and in which order."""

from collections.abc import Iterable, Sequence

import h5py
import numpy as np

from lsncli import signals
from lsncli.errors import LsnError
from lsncli.store.container import write_attribute, write_texts
from lsncli.store.format import Checksum, Chunk, SplitInfo
from lsncli.store.spread import RowFile, fill_row_files
from lsncli.types import Failure


def fill_split(group: h5py.Group, info: SplitInfo, chunks: Iterable[Chunk], checksum: str = "") -> None:
    """Write a split whose rows come in ``chunks``, with its own checksum unless one is given."""
    computed = fill_rows(group, info.rows, info.dim, chunks)
    fill_about(group, info, checksum or computed)


def fill_spread(
    group: h5py.Group, info: SplitInfo, folder: str, files: Sequence[RowFile], checksum: str
) -> None:
    """Write a split whose rows lie in part files."""
    fill_row_files(group, folder, info.dim, files)
    fill_about(group, info, checksum)


def fill_about(group: h5py.Group, info: SplitInfo, checksum: str) -> None:
    """Write what is said of a split besides its rows."""
    write_texts(group, "classes", info.classes)
    fill_failures(group, info.failures)
    group.attrs["rows_committed"] = np.int64(info.rows)
    write_attribute(group, "source", info.source)
    write_attribute(group, "listing", info.listing)
    write_attribute(group, "created_by", info.created_by)
    write_attribute(group, "checksum", checksum)


def fill_rows(group: h5py.Group, rows: int, dim: int, chunks: Iterable[Chunk]) -> str:
    """Write ``rows`` rows of ``dim`` features that come in ``chunks``; returns their checksum."""
    features = group.create_dataset("features", shape=(rows, dim), dtype="<f2")
    labels = group.create_dataset("labels", shape=(rows,), dtype="<i4")
    keys: list[str] = []
    checksum = Checksum()
    for chunk in chunks:
        if keys:  # it may be hours of copying
            signals.check()
        start, stop = len(keys), len(keys) + len(chunk[2])
        if stop > start:
            features[start:stop], labels[start:stop] = chunk[0], chunk[1]
        keys.extend(chunk[2])
        checksum.add(*chunk)
    if len(keys) != rows:
        raise LsnError(f"Expected {rows} rows, found {len(keys)}.")
    write_texts(group, "keys", keys)
    return checksum.hexdigest()


def fill_failures(group: h5py.Group, failures: Sequence[Failure]) -> None:
    """Write the failures of a split or piece."""
    inside = group.create_group("failures")
    write_texts(inside, "keys", [failure.key for failure in failures])
    write_texts(inside, "reasons", [failure.reason for failure in failures])
