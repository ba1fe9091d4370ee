"""Files of scores: one row for each image, one column for each method, as ``.csv`` or ``.npz``."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsncli.errors import LsnError, UsageError
from lsncli.files import open_atomic, open_atomic_text
from lsncli.methods.prepared import PreparedMethod
from lsncli.store.format import Split


def check_target(path: Path) -> None:
    """Raise UsageError unless the suffix of ``path`` is one of ``WRITERS``."""
    if path.suffix not in WRITERS:
        raise UsageError(
            f"--save-scores {path}: expected a file named {' or '.join('*' + end for end in WRITERS)}."
        )


def save_scores(path: Path, methods: Sequence[PreparedMethod], splits: Sequence[Split]) -> None:
    """Write the scores (float64, higher = more ID) of all rows of ``splits`` by each method.

    A ``.csv`` has the columns split, key, class and one for each method; an ``.npz`` the arrays ``split``,
    ``key`` and one for each method. Raises LsnError if the file cannot be written.
    """
    check_target(path)
    try:
        WRITERS[path.suffix](path, methods, splits)
    except OSError as error:
        raise LsnError(f"--save-scores {path} cannot be written: {error.strerror}.") from error


def _csv(path: Path, methods: Sequence[PreparedMethod], splits: Sequence[Split]) -> None:
    with open_atomic_text(path, errors="surrogateescape") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["split", "key", "class", *(str(method.method) for method in methods)])
        for split in splits:
            names = np.array([*split.classes, ""], dtype=object)[split.labels]
            columns = [method.scores[split.name].tolist() for method in methods]
            for key, name, *values in zip(split.keys, names, *columns, strict=True):
                rows.writerow([split.name, key, name, *map(repr, values)])


def _npz(path: Path, methods: Sequence[PreparedMethod], splits: Sequence[Split]) -> None:
    arrays = {
        str(method.method): np.concatenate([method.scores[split.name] for split in splits])
        for method in methods
    }
    names = np.repeat([split.name for split in splits], [len(split.labels) for split in splits])
    keys = np.array([key.encode("utf-8", "surrogateescape") for split in splits for key in split.keys])
    with open_atomic(path) as file:
        np.savez(file, **({"split": names, "key": keys} | arrays))  # type: ignore[arg-type]


WRITERS = {".csv": _csv, ".npz": _npz}
