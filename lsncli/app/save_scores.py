"""Write what methods scored: one row an image, one column a method."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsncli.app.entrants import Entrant
from lsncli.disk import whole, whole_text
from lsncli.errors import LsnError, UsageError
from lsncli.store.format import Split


def check_target(path: Path) -> None:
    """UsageError unless scores can be written in the format that the name of the file asks for."""
    if path.suffix not in WRITERS:
        raise UsageError(
            f"--save-scores {path}: expected a file named {' or '.join('*' + end for end in WRITERS)}."
        )


def save_scores(path: Path, entrants: Sequence[Entrant], splits: Sequence[Split]) -> None:
    """Scores in float64, higher = more ID, of every row of ``splits`` by every method.

    ``.csv`` has the columns split, key, class and one a method; ``.npz`` the arrays ``split``, ``key`` and
    one a method. Raises LsnError if the file cannot be written.
    """
    check_target(path)
    try:
        WRITERS[path.suffix](path, entrants, splits)
    except OSError as error:
        raise LsnError(f"--save-scores {path} cannot be written: {error.strerror}.") from error


def _csv(path: Path, entrants: Sequence[Entrant], splits: Sequence[Split]) -> None:
    with whole_text(path, errors="surrogateescape") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["split", "key", "class", *(str(one.method) for one in entrants)])
        for split in splits:
            names = np.array([*split.classes, ""], dtype=object)[split.labels]
            columns = [one.scores[split.name].tolist() for one in entrants]
            for key, name, *values in zip(split.keys, names, *columns, strict=True):
                rows.writerow([split.name, key, name, *map(repr, values)])


def _npz(path: Path, entrants: Sequence[Entrant], splits: Sequence[Split]) -> None:
    arrays = {str(one.method): np.concatenate([one.scores[s.name] for s in splits]) for one in entrants}
    places = np.repeat([split.name for split in splits], [len(split.labels) for split in splits])
    keys = np.array([key.encode("utf-8", "surrogateescape") for split in splits for key in split.keys])
    with whole(path) as file:
        np.savez(file, **({"split": places, "key": keys} | arrays))  # type: ignore[arg-type]


WRITERS = {".csv": _csv, ".npz": _npz}
