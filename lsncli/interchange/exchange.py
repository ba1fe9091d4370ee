"""Import features of other tools into a store, and export a split, as .npz, .npy, .parquet or .csv."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lsncli.backbones import IMPORTED
from lsncli.console import printable
from lsncli.errors import LsnError, UsageError
from lsncli.images.class_names import check_distinct, class_names
from lsncli.images.columns import NO_LABEL, is_number
from lsncli.images.names_file import read_names
from lsncli.interchange.label_files import read_labels
from lsncli.interchange.tables import FeatureTable, read_lines, read_table, write_table
from lsncli.store.format import MAX_COSINE_LOSS, Split
from lsncli.store.reader import read_split, read_text
from lsncli.store.writer import write_split, write_text
from lsncli.types import UNLABELLED, Fingerprint, Float64Array, FloatArray, Labels

HALF_MAX = float(np.finfo(np.float16).max)
AT_ONCE = 1 << 14
"""Rows that are compared with their float16 form at once."""
MOST_CLASSES = 1_000_000
"""Classes that numbers without names may have; a larger number is no class."""


def import_features(
    store: Path,
    split: str,
    features_file: Path,
    *,
    labels_file: Path | None = None,
    keys_file: Path | None = None,
    text_file: Path | None = None,
    classes_file: Path | None = None,
    model_name: str,
    logit_scale: float = 100.0,
    label_column: str = "",
    replace: bool = False,
    remark: Callable[[str], None] = lambda text: None,
) -> Split:
    """Store features (N, D) that another tool computed with the model ``model_name``.

    ``features_file`` is .npy, .npz or .safetensors (arrays ``features``, ``labels``, ``keys``, ``classes``,
    ``text``), .parquet or .csv (``features`` as lists, or one column per feature; ``label``, ``key``).
    Labels, keys and class names in files of their own (.npy, or one per line) replace those in
    ``features_file``. Without labels the images are unlabelled; missing keys become row numbers, and missing
    class names the class numbers. ``label_column`` is the column of the labels, in ``labels_file`` if given.
    ``text_file`` has one text feature (D,) per class. Features are stored as float16: rows whose direction
    would change (LOST) are refused. ``remark`` is called with the columns that were used.
    A store has one model name: features imported under another are refused (FingerprintMismatch).
    Raises LsnError for invalid shapes or values, UsageError, also for two classes whose names are one text to
    a text encoder, and Unavailable without pyarrow.
    """
    table = read_table(features_file, NO_LABEL if labels_file else label_column)
    features = _to_float16(table.features, features_file)
    keys = read_lines(keys_file) if keys_file else table.keys
    raw_labels, note = table.labels, f"{features_file.name}: {table.note}" if table.note else ""
    if labels_file:
        raw_labels, note = read_labels(labels_file, label_column, keys, len(features))
    if note:
        remark(f"{printable(note)}.")
    if keys is None:
        keys = tuple(str(row) for row in range(len(features)))
    classes = read_classes(classes_file) if classes_file else table.classes
    labels, names = _labels(raw_labels, classes, len(features))
    fingerprint = imported_fingerprint(model_name, features.shape[1], logit_scale)
    content = Split(
        name=split,
        features=features,
        labels=labels,
        keys=keys,
        classes=names if raw_labels is not None else (),
        failures=table.failures,
        source=f"imported from {printable(features_file.name)}",
    )
    text, text_classes = table.text, table.text_classes or classes or names
    if text_file:
        text_table = read_table(text_file, NO_LABEL)
        text, text_classes = text_table.features, text_table.classes or text_classes
    if text is not None and len(text) != len(text_classes):
        raise LsnError(f"Expected text features of {len(text_classes)} classes, found {len(text)} rows.")
    check_distinct(content.classes, where=str(classes_file or labels_file or features_file))
    write_split(store, content, fingerprint, replace=replace)
    if text is not None:
        write_text(store, text_classes, text, replace=replace)
    return content


def read_classes(path: Path) -> tuple[str, ...]:
    """Read class names in the order of their labels, from .npy or a file that ``class_names`` reads.

    Keys must be the labels, 0 to C - 1. Raises LsnError for a damaged .npy, UsageError for other files.
    """
    if path.suffix.lower() == ".npy":
        return read_lines(path)
    labels = range(len(read_names(path, ()).names))
    return class_names([str(label) for label in labels], path)


def export_features(store: Path, split: str, out_file: Path) -> None:
    """Write a split as .npz (everything), .parquet or .csv (rows and class names) or .npy (features only).

    ``import_features`` reads the three with labels back without changes. Raises UsageError for another
    extension, Unavailable for .parquet without pyarrow.
    """
    content = read_split(store, split)
    text = read_text(store)
    write_table(
        out_file,
        FeatureTable(
            features=content.features,
            labels=content.labels,
            keys=tuple(content.keys),
            classes=content.classes,
            failures=content.failures,
            text=None if text is None else text[1],
            text_classes=None if text is None else text[0],
        ),
    )


def imported_fingerprint(model_name: str, dim: int, logit_scale: float) -> Fingerprint:
    """Return the fingerprint of imported features, which contains no more than the name of their model."""
    if not model_name.strip():
        raise UsageError("--model: name the model that computed these features; you may choose any name.")
    if not logit_scale > 0:
        raise UsageError(f"--logit-scale: expected a number above 0 (CLIP: 100), found {logit_scale}.")
    return Fingerprint(
        model=f"{IMPORTED}{model_name}",
        pretrained="",
        weights="",
        dim=dim,
        image_size=0,
        interpolation="",
        resize_mode="",
        mean=(),
        std=(),
        precision="",
        logit_scale=logit_scale,
    )


def _to_float16(features: FloatArray, path: Path) -> FloatArray:
    """Convert features to float16. Raises LsnError if more than precision would be lost."""
    if features.ndim != 2 or 0 in features.shape[1:]:
        raise LsnError(f"{path}: expected features (rows, dimension), found the shape {features.shape}.")
    invalid = int((~np.isfinite(features)).any(axis=1).sum())
    if invalid:
        raise LsnError(f"{path}: {invalid} of {len(features)} rows hold NaN or infinity.")
    zero = int((~features.any(axis=1)).sum())
    if zero:
        raise LsnError(
            f"{path}: {zero} of {len(features)} rows are zero.",
            "A feature of length zero has no direction: leave those rows out.",
        )
    largest = float(np.abs(features).max(initial=0))
    if largest > HALF_MAX:
        raise LsnError(
            f"{path}: the largest feature is {largest:.4g}, more than float16 holds ({HALF_MAX:.0f}), the "
            "type of stored features.",
            SCALE.format(_factor(largest)),
        )
    half = features.astype(np.float16)
    cosines = _cosines(features, half)
    lost = cosines < 1 - MAX_COSINE_LOSS
    if lost.any():
        factor = _factor(largest)
        scaled = (features[lost] * factor).astype(np.float16)
        helps = (_cosines(features[lost], scaled) >= 1 - MAX_COSINE_LOSS).all()
        raise LsnError(
            f"{path}: features are stored as float16, which changes the direction of {lost.sum()} of "
            f"{len(features)} rows (cosine down to {cosines.min():.6f}): their values are too small for it.",
            SCALE.format(factor)
            if helps
            else "They are tiny compared with other rows: leave those rows out.",
        )
    return half


SCALE = "Multiply the features of every split by one factor, such as {:.17g}: cosines do not change."


def _factor(largest: float) -> float:
    """Return the power of two that scales the largest value to [512, 1024), the middle of float16's range."""
    return float(2.0 ** (9 - np.floor(np.log2(largest))))


def _cosines(features: FloatArray, half: FloatArray) -> Float64Array:
    """Return the cosine (N,) of every row with its rounded form; 0 for a row that is rounded to zero."""
    cosines = np.empty(len(features))
    for start in range(0, len(features), AT_ONCE):
        exact, rounded = (rows[start : start + AT_ONCE].astype(np.float64) for rows in (features, half))
        exact /= np.abs(exact).max(axis=1, keepdims=True)  # squares of tiny numbers would underflow
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
        cosines[start : start + AT_ONCE] = (exact * rounded).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return cosines


def _labels(
    raw: tuple[str, ...] | Labels | None, classes: tuple[str, ...] | None, rows: int
) -> tuple[Labels, tuple[str, ...]]:
    """Return labels as indices, and their class names; ``raw`` has indices or names, "" for no class."""
    if raw is None:
        return np.full(rows, UNLABELLED, dtype=np.int32), classes or ()
    if len(raw) != rows:
        raise LsnError(f"Expected {rows} labels, one per row of features, found {len(raw)}.")
    if isinstance(raw, tuple):
        if not _are_numbers(set(raw) - {""}, classes):
            return _from_names(raw, classes)
        try:
            raw = np.array([int(value) if value else UNLABELLED for value in raw], dtype=np.int32)
        except OverflowError as error:
            raise LsnError("A label is too large for a class number.") from error
    count = len(classes) if classes is not None else int(raw.max(initial=UNLABELLED)) + 1
    if len(raw) and (raw.min() < UNLABELLED or raw.max() >= count):
        raise LsnError(f"Expected labels in -1..{count - 1}, found {raw.min()}..{raw.max()}.")
    if count > MOST_CLASSES:
        raise LsnError(
            f"The largest label is {count - 1}, which is too large for the number of a class.",
            "Class numbers count from 0.",
        )
    return raw, classes if classes is not None else tuple(str(label) for label in range(count))


def _are_numbers(values: set[str], classes: tuple[str, ...] | None) -> bool:
    """Return whether labels are class numbers and not names.

    Text like "007" is a number only if there are class names, it is none of them, and no other label is the
    same number.
    """
    if all(map(is_number, values)):
        return True
    if classes is None or values & {*classes}:
        return False
    digits = all(value.isascii() and value.isdecimal() for value in values)
    return digits and len({*map(int, values)}) == len(values)


def _from_names(raw: tuple[str, ...], classes: tuple[str, ...] | None) -> tuple[Labels, tuple[str, ...]]:
    no_class = {name for name in raw if not name or (name.startswith("-") and is_number(name))}
    if classes is None:
        classes = tuple(sorted({*raw} - no_class))
    number = {name: label for label, name in enumerate(classes)} | dict.fromkeys(no_class, UNLABELLED)
    unknown = next((name for name in raw if name not in number), None)
    if unknown is not None:
        raise LsnError(f"The label '{unknown}' is not among the {len(classes)} class names.")
    return np.array([number[name] for name in raw], dtype=np.int32), classes
