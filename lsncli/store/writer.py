"""Write a store.

A store is always written completely, in one canonical order, into a new file that then replaces the old one:
equal content gives equal bytes, and a reader never sees an incomplete store.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import h5py
import numpy as np

from lsncli import __version__, signals
from lsncli.errors import FingerprintMismatch, LsnError
from lsncli.locks import locked
from lsncli.store.container import (
    WRITE_ERRORS,
    attribute,
    group_at,
    replacing,
    write_attribute,
    write_error,
    write_texts,
)
from lsncli.store.external_rows import (
    FOLDER,
    RowFile,
    fill_row_files,
    folder_of,
    has_external_rows,
    row_files,
    rows_folder,
    rows_in_blocks,
)
from lsncli.store.format import (
    EXTERNAL_ROWS_VERSION,
    FORMAT,
    FORMAT_VERSION,
    Checksum,
    RowBatch,
    Split,
    SplitInfo,
    check_split_name,
    metadata_checksum,
    split_problems,
    text_checksum,
)
from lsncli.store.integrity import checksum_of_splits, contents_checksum, stored_about
from lsncli.store.reader import fingerprint_of, info_of, open_store, text_of
from lsncli.types import Failure, Fingerprint, FloatArray


def fill_split(group: h5py.Group, info: SplitInfo, blocks: Iterable[RowBatch], checksum: str = "") -> None:
    """Write a split from ``blocks`` of rows; ``checksum`` replaces the computed one if given."""
    computed = fill_rows(group, info.rows, info.dim, blocks)
    fill_metadata(group, info, checksum or computed)


def fill_external_split(
    group: h5py.Group, info: SplitInfo, folder: str, files: Sequence[RowFile], checksum: str
) -> None:
    """Write a split with external rows."""
    fill_row_files(group, folder, info.dim, files)
    fill_metadata(group, info, checksum)


def fill_metadata(group: h5py.Group, info: SplitInfo, checksum: str) -> None:
    """Write the description of a split."""
    write_texts(group, "classes", info.classes)
    fill_failures(group, info.failures)
    group.attrs["rows_committed"] = np.int64(info.rows)
    write_attribute(group, "source", info.source)
    write_attribute(group, "listing", info.listing)
    write_attribute(group, "created_by", info.created_by)
    write_attribute(group, "checksum", checksum)


def fill_rows(group: h5py.Group, rows: int, dim: int, blocks: Iterable[RowBatch]) -> str:
    """Write ``rows`` rows of ``dim`` features from ``blocks``; return their checksum."""
    features = group.create_dataset("features", shape=(rows, dim), dtype="<f2")
    labels = group.create_dataset("labels", shape=(rows,), dtype="<i4")
    keys: list[str] = []
    checksum = Checksum()
    for block in blocks:
        if keys:  # copying may take hours
            signals.check()
        start, stop = len(keys), len(keys) + len(block[2])
        if stop > start:
            features[start:stop], labels[start:stop] = block[0], block[1]
        keys.extend(block[2])
        checksum.add(*block)
    if len(keys) != rows:
        raise LsnError(f"Expected {rows} rows, found {len(keys)}.")
    write_texts(group, "keys", keys)
    return checksum.hexdigest()


def fill_failures(group: h5py.Group, failures: Sequence[Failure]) -> None:
    """Write the failures of a split or chunk."""
    inside = group.create_group("failures")
    write_texts(inside, "keys", [failure.key for failure in failures])
    write_texts(inside, "reasons", [failure.reason for failure in failures])


__all__ = ["locked", "put_split", "write_split", "write_text"]

CREATOR = f"lsn {__version__}"

Text = tuple[tuple[str, ...], FloatArray, str]
"""Text features: classes, features (C, D), and the checksum to copy ("" to compute it)."""

DIFFERENCES = {
    "dim": "dimensions",
    "logit_scale": "logit scale",
    "precision": "precision",
    "decode": "decoding",
    "image_size": "image size",
    "interpolation": "interpolation",
    "resize_mode": "resizing",
}
"""Fields of a fingerprint that messages compare, and their display names."""

Fill = Callable[[h5py.Group], None]
"""Writes the content of a group."""


def write_split(
    path: Path, split: Split, fingerprint: Fingerprint, *, replace: bool = False, wait: float = 0.0
) -> None:
    """Add a split to the store at ``path``, which is created if necessary; other splits are kept.

    ``wait`` is how many seconds to wait for another writer.

    Raises LsnError for an invalid split, one that exists already (unless ``replace``) or a store that is
    being written; FingerprintMismatch if the store's features are of another model.
    """
    problems = split_problems(split, fingerprint.dim)
    if problems:
        raise LsnError(f"The split '{split.name}' cannot be stored: {problems[0]}.")

    info = SplitInfo(
        name=split.name,
        rows=len(split.labels),
        dim=fingerprint.dim,
        classes=split.classes,
        failures=split.failures,
        source=split.source,
        listing=split.listing,
        created_by=CREATOR,
    )

    def fill(group: h5py.Group) -> None:
        fill_split(group, info, [(split.features, split.labels, split.keys)])

    put_split(path, split.name, fingerprint, fill, replace=replace, wait=wait)


def write_text(path: Path, classes: Sequence[str], features: FloatArray, *, replace: bool = False) -> None:
    """Write the text features (C, D) of ``classes`` into an existing store.

    Raises LsnError for a store that has others already (unless ``replace``), and for features that do not
    match the classes or the store, or are not finite.
    """
    with locked(path):
        with open_store(path) as old:
            fingerprint, present = fingerprint_of(old), text_of(old)
        dim = fingerprint.dim
        wide = np.asarray(features, dtype="<f4")
        if wide.shape != (len(classes), dim) or not np.isfinite(wide).all():
            raise LsnError(
                f"Text features: expected finite numbers ({len(classes)}, {dim}), found {wide.shape}."
            )
        same = present is not None and present[0] == tuple(classes) and np.array_equal(present[1], wide)
        if same:
            return
        if present is not None and not replace:
            raise LsnError(f"{path} has other text features already.", "Replace them with --overwrite.")
        with replacing(path) as new:
            _write_store(new, path, fingerprint, {}, (tuple(classes), wide, ""))


def put_split(
    path: Path, name: str, fingerprint: Fingerprint, fill: Fill, *, replace: bool, wait: float = 0.0
) -> None:
    """Rewrite the store at ``path`` with a split added or replaced, whose group ``fill`` writes.

    Errors and ``wait`` as for ``write_split``.
    """
    check_split_name(name)
    with locked(path, wait=wait):
        text = None
        if path.exists():
            with open_store(path) as old:
                check_same_model(path, fingerprint_of(old), fingerprint)
                if name in group_at(old, "splits") and not replace:
                    raise LsnError(
                        f"{path} has a split '{name}' already.",
                        "Replace it with --overwrite, or choose another name with --split.",
                    )
                fingerprint, text = fingerprint_of(old), _text_to_copy(old)
        with replacing(path) as new:
            _write_store(new, path, fingerprint, {name: fill}, text)
        remove_unused_rows(path)


def check_same_model(path: Path, stored: Fingerprint, expected: Fingerprint) -> None:
    """Raise FingerprintMismatch unless both are the same model."""
    if stored.digest != expected.digest:
        raise FingerprintMismatch(
            f"The store {path} holds features of {stored}, "
            f"not of {expected}{_differences(stored, expected)}.",
            "Give each model a workspace of its own (--work DIR); --overwrite replaces a split, not a model.",
        )


def _differences(stored: Fingerprint, expected: Fingerprint) -> str:
    """Describe in a message how two models of one name differ; "" if their names differ."""
    if stored.model != expected.model:
        return ""
    pairs = [(name, getattr(stored, name), getattr(expected, name)) for name in DIFFERENCES]
    differing = [f"{DIFFERENCES[name]} {old}, not {new}" for name, old, new in pairs if old != new]
    return f": {'; '.join(differing)}" if differing else ""


def _write_store(
    new: h5py.File,
    path: Path,
    fingerprint: Fingerprint,
    filled: dict[str, Fill],
    text: Text | None,
) -> None:
    write_attribute(new, "format", FORMAT)
    new.attrs["format_version"] = np.int64(FORMAT_VERSION)
    write_attribute(new, "fingerprint", fingerprint.to_json())
    write_attribute(new, "digest", fingerprint.digest)
    splits = new.create_group("splits")
    with ExitStack() as stack:
        before = group_at(stack.enter_context(open_store(path)), "splits") if path.exists() else {}
        for name in sorted({*before, *filled}):
            fill = filled.get(name) or _copy_of(group_at(before, name), name)
            try:
                group = splits.create_group(name)
                fill(group)
                if "about" not in group.attrs:
                    write_attribute(group, "about", metadata_checksum(info_of(group, name), fingerprint))
            except (
                WRITE_ERRORS
            ) as error:  # inside the block, so that it is not taken for a read error of ``before``
                raise write_error(path, error) from error
    if any(has_external_rows(splits[name]) for name in splits):
        new.attrs.modify("format_version", np.int64(EXTERNAL_ROWS_VERSION))
    if text is not None:
        group = new.create_group("text")
        group.create_dataset("features", data=text[1], dtype="<f4")
        write_texts(group, "classes", text[0])
        write_attribute(group, "about", text[2] or text_checksum(text[0], text[1]))
    write_attribute(new, "contents", contents_checksum(new, fingerprint.to_json()))
    write_attribute(new, "checksums", checksum_of_splits(splits))


def _text_to_copy(old: h5py.File) -> Text | None:
    text = text_of(old)
    return None if text is None else (*text, stored_about(group_at(old, "text")))


def _copy_of(old: h5py.Group, name: str) -> Fill:
    """Copy a split in the canonical order; checksums stay unchanged, so that damage remains visible."""
    info, checksum, about = info_of(old, name), attribute(old, "checksum", str), stored_about(old)

    def fill(group: h5py.Group) -> None:
        if has_external_rows(old):
            fill_external_split(group, info, folder_of(old), row_files(old), checksum)
        else:
            fill_split(group, info, rows_in_blocks(old), checksum)
        if about:
            write_attribute(group, "about", about)

    return fill


def remove_unused_rows(path: Path) -> None:
    """Remove part files that no split of the store refers to; the caller holds the lock of the store."""
    folder = rows_folder(path)
    if not folder.exists():
        return
    with open_store(path) as file:
        splits = group_at(file, "splits")
        groups = [group_at(splits, name) for name in splits]
        used = {folder_of(group) for group in groups if has_external_rows(group)}
    for subfolder in folder.iterdir():
        if subfolder.name not in used and FOLDER.fullmatch(subfolder.name):
            shutil.rmtree(subfolder, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()
