"""Features of other tools come into a store, and a split goes out, as .npz, .npy, .parquet or .csv."""

from pathlib import Path

import numpy as np

from lsncli.app.tables import Table, read_lines, read_table, write_table
from lsncli.backbones import IMPORTED
from lsncli.console import printable
from lsncli.errors import LsnError, UsageError
from lsncli.images.namefile import read_names
from lsncli.images.names import check_distinct, class_names
from lsncli.store.format import Split
from lsncli.store.reader import read_split, read_text
from lsncli.store.writer import write_split, write_text
from lsncli.types import UNLABELLED, Fingerprint, Floats, Labels

HALF_MAX = float(np.finfo(np.float16).max)


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
    replace: bool = False,
) -> Split:
    """Store features (N, D) that another tool computed with the model ``model_name``.

    ``features_file`` is .npy, .npz or .safetensors (arrays ``features``, ``labels``, ``keys``, ``classes``,
    ``text``), .parquet or .csv (``features`` as lists, or one column a feature; ``label``, ``key``). Labels,
    keys and class names in files of their own win over those inside it: numbers or class names in .npy or
    one a line. Missing labels mean unlabelled, missing keys become row numbers, missing class names the
    numbers of the classes. ``text_file`` holds one text feature (D,) a class. Everything becomes float16.
    The store is bound to the name: features imported under another are refused (FingerprintMismatch).
    Raises LsnError for shapes or values that cannot be right, UsageError, also for two classes whose names
    differ in nothing that a text encoder reads, and Unavailable without pyarrow.
    """
    table = read_table(features_file)
    features = _halved(table.features, features_file)
    keys = read_lines(keys_file) if keys_file else table.keys
    if keys is None:
        keys = tuple(str(row) for row in range(len(features)))
    classes = read_classes(classes_file) if classes_file else table.classes
    raw_labels = read_lines(labels_file) if labels_file else table.labels
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
        inside = read_table(text_file)
        text, text_classes = inside.features, inside.classes or text_classes
    if text is not None and len(text) != len(text_classes):
        raise LsnError(f"Expected text features of {len(text_classes)} classes, found {len(text)} rows.")
    check_distinct(content.classes, where=str(classes_file or labels_file or features_file))
    write_split(store, content, fingerprint, replace=replace)
    if text is not None:
        write_text(store, text_classes, text, replace=replace)
    return content


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in the order of their labels, from .npy or from a file that ``names.class_names`` reads.

    Keys must be the labels, 0 to C - 1. Raises LsnError for a broken .npy, else UsageError.
    """
    if path.suffix.lower() == ".npy":
        return read_lines(path)
    labels = range(len(read_names(path, ()).names))
    return class_names([str(label) for label in labels], path)


def export_features(store: Path, split: str, out_file: Path) -> None:
    """Write a split as .npz (everything), .parquet or .csv (rows and class names) or .npy (features alone).

    The three with labels come back through ``import_features`` exactly as they were. Raises UsageError for
    another extension, Unavailable for .parquet without pyarrow.
    """
    content = read_split(store, split)
    text = read_text(store)
    write_table(
        out_file,
        Table(
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
    """The fingerprint of features that were imported: their model's name is all that is known of it."""
    if not model_name.strip():
        raise UsageError("--model: name the model that made these features; any name of yours will do.")
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


def _halved(features: Floats, path: Path) -> Floats:
    """Features as float16. Raises LsnError if that would lose more than precision."""
    if features.ndim != 2 or 0 in features.shape[1:]:
        raise LsnError(f"{path}: expected features (rows, dimension), found the shape {features.shape}.")
    bad = int((~np.isfinite(features)).any(axis=1).sum())
    if bad:
        raise LsnError(f"{path}: {bad} of {len(features)} rows hold NaN or infinity.")
    largest = float(np.abs(features).max(initial=0))
    if largest > HALF_MAX:
        raise LsnError(
            f"{path}: the largest feature is {largest:.4g}, more than float16 holds ({HALF_MAX:.0f}).",
            "Scale all features by one factor: cosines do not change.",
        )
    half = features.astype(np.float16)
    vanished = int((~half.any(axis=1)).sum())
    if vanished:
        raise LsnError(
            f"{path}: {vanished} rows are zero, or become zero in float16.",
            "A feature of length zero has no direction: leave those rows out, or scale small ones up.",
        )
    return half


def _labels(
    raw: tuple[str, ...] | Labels | None, classes: tuple[str, ...] | None, rows: int
) -> tuple[Labels, tuple[str, ...]]:
    """Labels as indices, and the class names they index; ``raw`` are indices or class names, "" neither."""
    if raw is None:
        return np.full(rows, UNLABELLED, dtype=np.int32), classes or ()
    if len(raw) != rows:
        raise LsnError(f"Expected {rows} labels, one a row of features, found {len(raw)}.")
    if isinstance(raw, tuple):
        if not all(value.removeprefix("-").isdecimal() for value in raw if value):
            return _from_names(raw, classes)
        try:
            raw = np.array([int(value) if value else UNLABELLED for value in raw], dtype=np.int32)
        except OverflowError as error:
            raise LsnError("A label is larger than any class number can be.") from error
    count = len(classes) if classes is not None else int(raw.max(initial=UNLABELLED)) + 1
    if len(raw) and (raw.min() < UNLABELLED or raw.max() >= count):
        raise LsnError(f"Expected labels in -1..{count - 1}, found {raw.min()}..{raw.max()}.")
    return raw, classes if classes is not None else tuple(str(label) for label in range(count))


def _from_names(raw: tuple[str, ...], classes: tuple[str, ...] | None) -> tuple[Labels, tuple[str, ...]]:
    if classes is None:
        classes = tuple(sorted({name for name in raw if name}))
    number = {name: label for label, name in enumerate(classes)} | {"": UNLABELLED}
    unknown = next((name for name in raw if name not in number), None)
    if unknown is not None:
        raise LsnError(f"The label '{unknown}' is not among the {len(classes)} class names.")
    return np.array([number[name] for name in raw], dtype=np.int32), classes
