"""Read a store: its model, what splits it has, and one split whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from lsncli.errors import LsnError
from lsncli.store.container import attribute, dataset_at, group_at, reading, texts_at
from lsncli.store.format import FORMAT, FORMAT_VERSION, SPREAD_VERSION, Split, SplitInfo, check_split_name
from lsncli.store.mapped import lazy_texts_at, values_of
from lsncli.store.spread import is_spread, row_files, spread_rows
from lsncli.types import Failure, Fingerprint, Floats


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The store at ``path``, known to be one of a version this program reads. Raises LsnError."""
    with reading(path) as file:
        try:
            found = attribute(file, "format", str)
        except LsnError:
            found = "none"
        if found != FORMAT:
            raise LsnError(
                f"{path} is an HDF5 file of another program: expected the format '{FORMAT}', "
                f"found '{found}'.",
                "Is it the right file?",
            )
        version = attribute(file, "format_version", int)
        if version not in (FORMAT_VERSION, SPREAD_VERSION):
            raise LsnError(
                f"{path} has format version {version}; this lsn reads versions {FORMAT_VERSION} and "
                f"{SPREAD_VERSION}.",
                "Upgrade lsn (pip install -U lsncli).",
            )
        yield file


def read_fingerprint(path: Path) -> Fingerprint:
    """The model that made the features. Raises LsnError."""
    with opened(path) as file:
        return fingerprint_of(file)


def list_splits(path: Path) -> dict[str, SplitInfo]:
    """Every split by name, sorted, without reading rows. Raises LsnError."""
    with opened(path) as file:
        splits = group_at(file, "splits")
        return {name: info_of(group_at(splits, name), name) for name in sorted(splits)}


def read_split(path: Path, name: str) -> Split:
    """One split. Raises LsnError, naming the splits there are, if it is not in the store."""
    check_split_name(name)
    with opened(path) as file:
        splits = group_at(file, "splits")
        if name not in splits:
            there = ", ".join(sorted(splits)) or "none"
            raise LsnError(
                f"{path} has no split '{name}'; there are: {there}.",
                f"Name another one, or add it with `lsn extract DIR --split {name}` or `lsn store import`.",
            )
        return split_of(group_at(splits, name), name)


def read_checksums(path: Path) -> dict[str, str]:
    """The recorded checksum of every split by name: equal ones are equal features, labels and keys.

    No rows are read; ``verify`` does, and compares.
    """
    with opened(path) as file:
        splits = group_at(file, "splits")
        return {name: attribute(group_at(splits, name), "checksum", str) for name in sorted(splits)}


def read_text(path: Path) -> tuple[tuple[str, ...], Floats] | None:
    """Class names and their imported text features (C, D) float32, or None if there are none."""
    with opened(path) as file:
        return text_of(file)


def about_stored(group: h5py.Group) -> str:
    """The checksum ``about`` of a split, or of text features; "" in a store of before lsn wrote one."""
    return attribute(group, "about", str) if "about" in group.attrs else ""


def fingerprint_of(file: h5py.File) -> Fingerprint:
    """The fingerprint of an open store."""
    return Fingerprint.from_json(attribute(file, "fingerprint", str))


def info_of(group: h5py.Group, name: str) -> SplitInfo:
    """The description of the split in ``group``. Raises LsnError if its row counts contradict each other."""
    rows = attribute(group, "rows_committed", int)
    if is_spread(group):
        dim = attribute(group, "dim", int)
        counts = {"rows in its files": sum(one.rows for one in row_files(group))}
    else:
        features = dataset_at(group, "features", "<f2", 2)
        dim = features.shape[1]
        counts = {"features": features.shape[0], "labels": dataset_at(group, "labels", "<i4", 1).shape[0]}
    for what, count in counts.items():
        if count != rows:
            raise LsnError(f"{group.file.filename}, split '{name}': expected {rows} {what}, found {count}.")
    return SplitInfo(
        name,
        rows,
        dim,
        texts_at(group, "classes"),
        failures_of(group),
        attribute(group, "source", str),
        attribute(group, "listing", str),
        attribute(group, "created_by", str),
    )


def split_of(group: h5py.Group, name: str) -> Split:
    """The whole split in ``group``."""
    info = info_of(group, name)
    if is_spread(group):
        return _gathered(group, info)
    keys = lazy_texts_at(group, "keys")
    if len(keys) != info.rows:
        raise LsnError(
            f"{group.file.filename}, split '{name}': expected {info.rows} keys, found {len(keys)}."
        )
    return Split(
        name=name,
        features=values_of(dataset_at(group, "features", "<f2", 2)),
        labels=values_of(dataset_at(group, "labels", "<i4", 1)),
        keys=keys,
        classes=info.classes,
        failures=info.failures,
        source=info.source,
        listing=info.listing,
    )


def _gathered(group: h5py.Group, info: SplitInfo) -> Split:
    """A split whose rows lie in part files, one file at a time."""
    features, labels = np.empty((info.rows, info.dim), np.float16), np.empty(info.rows, np.int32)
    keys: list[str] = []
    for some, of_them, names in spread_rows(group):
        where = slice(len(keys), len(keys) + len(names))
        features[where], labels[where] = some, of_them
        keys.extend(names)
    return Split(
        info.name, features, labels, tuple(keys), info.classes, info.failures, info.source, info.listing
    )


def failures_of(group: h5py.Group) -> tuple[Failure, ...]:
    """The recorded failures of the split in ``group``."""
    failures = group_at(group, "failures")
    keys, reasons = texts_at(failures, "keys"), texts_at(failures, "reasons")
    if len(keys) != len(reasons):
        raise LsnError(
            f"{failures.file.filename}, {failures.name}: {len(keys)} keys, {len(reasons)} reasons."
        )
    return tuple(Failure(key, reason) for key, reason in zip(keys, reasons, strict=True))


def text_of(file: h5py.File) -> tuple[tuple[str, ...], Floats] | None:
    """The text features of an open store."""
    if "text" not in file:
        return None
    group = group_at(file, "text")
    classes = texts_at(group, "classes")
    features: Floats = dataset_at(group, "features", "<f4", 2)[()]
    if len(classes) != len(features):
        raise LsnError(f"{file.filename}, /text: {len(classes)} classes, {len(features)} rows of features.")
    return classes, features
