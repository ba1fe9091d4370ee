"""Read a store: its model, its splits, and the rows of one split."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from lsncli.errors import LsnError
from lsncli.store.container import (
    attribute,
    dataset_at,
    group_at,
    lazy_texts_at,
    read_or_map,
    reading,
    texts_at,
)
from lsncli.store.external_rows import has_external_rows, read_external_rows, row_files
from lsncli.store.format import (
    EXTERNAL_ROWS_VERSION,
    FORMAT,
    FORMAT_VERSION,
    Split,
    SplitInfo,
    check_split_name,
)
from lsncli.store.integrity import (
    CHANGED_TEXT,
    SplitCheck,
    checksum_of_splits,
    index_problems,
    is_text_changed,
    is_verifying,
    metadata_problems,
    raise_first,
)
from lsncli.types import Failure, Fingerprint, FloatArray


@contextmanager
def open_store(path: Path, *, check: bool = True) -> Iterator[h5py.File]:
    """Open a store for reading. Raises LsnError for another format or an unknown version.

    With ``check`` it also raises LsnError if the fingerprint or the list of splits was changed.
    """
    with reading(path) as file:
        try:
            format_name = attribute(file, "format", str)
        except LsnError:
            format_name = "none"
        if format_name != FORMAT:
            raise LsnError(
                f"{path} is an HDF5 file of another program: expected the format '{FORMAT}', "
                f"found '{format_name}'.",
                "Is it the right file?",
            )
        version = attribute(file, "format_version", int)
        if version not in (FORMAT_VERSION, EXTERNAL_ROWS_VERSION):
            raise LsnError(
                f"{path} has format version {version}; this lsn reads versions {FORMAT_VERSION} and "
                f"{EXTERNAL_ROWS_VERSION}.",
                "Upgrade lsn (pip install -U lsncli).",
            )
        if check and is_verifying():
            raise_first(str(path), index_problems(file))
        yield file


def read_fingerprint(path: Path) -> Fingerprint:
    """Read the fingerprint of the features' model. Raises LsnError."""
    with open_store(path) as file:
        return fingerprint_of(file)


def list_splits(path: Path) -> dict[str, SplitInfo]:
    """Read the description of every split, by name, sorted. Raises LsnError, also for a changed one."""
    with open_store(path) as file:
        return {name: _checked_info(file, name) for name in sorted(group_at(file, "splits"))}


def find_split(path: Path, name: str) -> SplitInfo | None:
    """Read the description of one split; None if it is not in the store. Other splits may be damaged."""
    with open_store(path) as file:
        return _checked_info(file, name) if name in group_at(file, "splits") else None


def read_split(path: Path, name: str) -> Split:
    """Read a split and verify its rows (only once for unchanged files, see ``integrity``).

    Raises LsnError for content that was changed, and for an unknown name, listing the splits of the store.
    """
    check_split_name(name)
    with open_store(path) as file:
        splits = group_at(file, "splits")
        if name not in splits:
            names = ", ".join(sorted(splits)) or "none"
            raise LsnError(
                f"{path} has no split '{name}'; there are: {names}.",
                f"Name another one, or add it with `lsn extract DIR --split {name}` or `lsn store import`.",
            )
        _checked_info(file, name)
        group = group_at(splits, name)
        check = SplitCheck(group, name)
        split = split_of(group, name, check=check.due)
        check.check(group, split)
        return split


def read_checksums(path: Path) -> dict[str, str]:
    """Read the recorded checksum of every split, by name; equal checksums mean equal rows.

    No rows are read: ``verify`` compares them.
    """
    with open_store(path) as file:
        splits = group_at(file, "splits")
        if is_verifying() and "checksums" in file.attrs:
            changed = attribute(file, "checksums", str) != checksum_of_splits(splits)
            raise_first(
                str(path), ["the checksums of its splits were changed after they were written"] * changed
            )
        return {name: attribute(group_at(splits, name), "checksum", str) for name in sorted(splits)}


def read_text(path: Path) -> tuple[tuple[str, ...], FloatArray] | None:
    """Read class names and their imported text features (C, D) float32; None if there are none."""
    with open_store(path) as file:
        text = text_of(file)
        if text is not None and is_verifying() and is_text_changed(group_at(file, "text"), *text):
            raise_first(str(path), [CHANGED_TEXT])
        return text


def fingerprint_of(file: h5py.File) -> Fingerprint:
    """Return the fingerprint of an open store."""
    return Fingerprint.from_json(attribute(file, "fingerprint", str))


def _checked_info(file: h5py.File, name: str) -> SplitInfo:
    """Read and verify the description of a split. Raises LsnError for a changed one."""
    group = group_at(group_at(file, "splits"), name)
    info = info_of(group, name)
    if is_verifying():
        raise_first(f"{file.filename}, split '{name}'", metadata_problems(group, info, fingerprint_of(file)))
    return info


def info_of(group: h5py.Group, name: str) -> SplitInfo:
    """Read the description of the split in ``group``. Raises LsnError for contradictory row counts."""
    rows = attribute(group, "rows_committed", int)
    if has_external_rows(group):
        dim = attribute(group, "dim", int)
        counts = {"rows in its files": sum(file.rows for file in row_files(group))}
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


def split_of(group: h5py.Group, name: str, *, check: bool) -> Split:
    """Read the split in ``group``; ``check`` verifies the checksums of external rows."""
    info = info_of(group, name)
    if has_external_rows(group):
        return _split_of_files(group, info, check)
    keys = lazy_texts_at(group, "keys")
    if len(keys) != info.rows:
        raise LsnError(
            f"{group.file.filename}, split '{name}': expected {info.rows} keys, found {len(keys)}."
        )
    return Split(
        name=name,
        features=read_or_map(dataset_at(group, "features", "<f2", 2)),
        labels=read_or_map(dataset_at(group, "labels", "<i4", 1)),
        keys=keys,
        classes=info.classes,
        failures=info.failures,
        source=info.source,
        listing=info.listing,
    )


def _split_of_files(group: h5py.Group, info: SplitInfo, check: bool) -> Split:
    """Read a split with external rows, one file at a time."""
    features, labels = np.empty((info.rows, info.dim), np.float16), np.empty(info.rows, np.int32)
    keys: list[str] = []
    for file_features, file_labels, names in read_external_rows(group, check=check):
        where = slice(len(keys), len(keys) + len(names))
        features[where], labels[where] = file_features, file_labels
        keys.extend(names)
    return Split(
        info.name, features, labels, tuple(keys), info.classes, info.failures, info.source, info.listing
    )


def failures_of(group: h5py.Group) -> tuple[Failure, ...]:
    """Read the failures of the split in ``group``."""
    failures = group_at(group, "failures")
    keys, reasons = texts_at(failures, "keys"), texts_at(failures, "reasons")
    if len(keys) != len(reasons):
        raise LsnError(
            f"{failures.file.filename}, {failures.name}: {len(keys)} keys, {len(reasons)} reasons."
        )
    return tuple(Failure(key, reason) for key, reason in zip(keys, reasons, strict=True))


def text_of(file: h5py.File) -> tuple[tuple[str, ...], FloatArray] | None:
    """Read class names and text features (C, D) of an open store; None if there are none."""
    if "text" not in file:
        return None
    group = group_at(file, "text")
    classes = texts_at(group, "classes")
    features: FloatArray = dataset_at(group, "features", "<f4", 2)[()]
    if len(classes) != len(features):
        raise LsnError(f"{file.filename}, /text: {len(classes)} classes, {len(features)} rows of features.")
    return classes, features
