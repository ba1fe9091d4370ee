"""Tables as CSV and Parquet: one row an image, class names beside the labels."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np

from lsncli.app.tables import Table, numbers, parsed
from lsncli.errors import LsnError, Unavailable
from lsncli.types import UNLABELLED, Failure, Floats

BESIDE = ("key", "label", "class")


def read_csv(path: Path) -> Table:
    """Columns ``f0``, ``f1``, ... or else all that hold numbers; ``label``, ``class`` and ``key``."""
    import pandas as pd

    def load() -> pd.DataFrame:
        return pd.read_csv(
            path,
            sep="\t" if path.suffix.lower() == ".tsv" else ",",
            dtype=dict.fromkeys(BESIDE, "object"),
            # A key or a class may be called NA, null or nothing at all: only numbers can be missing.
            keep_default_na=False,
            encoding_errors="surrogateescape",
        )

    return _from_frame(path, parsed(path, load))


def write_csv(path: Path, table: Table) -> None:
    """Every row with all its digits. A class without a row leaves no trace; failures and text neither."""
    classes = table.classes or ()
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        rows.writerow([*BESIDE, *(f"f{index}" for index in range(table.features.shape[1]))])
        for key, label, row in zip(table.keys or (), _labels(table), table.features, strict=True):
            name = classes[label] if label != UNLABELLED else ""
            rows.writerow([key, label, name, *row.astype(np.float64).tolist()])


def read_parquet(path: Path) -> Table:
    """A column ``features`` of lists, or columns as in a CSV. Raises Unavailable without pyarrow."""
    parquet = _parquet()
    stored = parsed(path, lambda: parquet.read_table(path))
    ours = (stored.schema.metadata or {}).get(b"lsn")
    known = parsed(path, lambda: json.loads(ours)) if ours else {}
    lists = stored.column("features") if "features" in stored.column_names else None
    if lists is not None and hasattr(lists.type, "list_size") and not lists.null_count:
        # Lists of one size are one block of numbers; by way of pandas each row would be an object.
        block = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        features = numbers(path, block).reshape(-1, lists.type.list_size)
        beside = stored.select([name for name in BESIDE if name in stored.column_names])
        table = _table(path, beside.to_pandas(), features, known.get("classes"))
    else:
        table = _from_frame(path, stored.to_pandas(), known.get("classes"))
    return replace(table, failures=tuple(starmap(Failure, known.get("failures", ()))))


def write_parquet(path: Path, table: Table) -> None:
    """Every row; class names and failures in the metadata. Raises Unavailable without pyarrow."""
    parquet = _parquet()
    import pyarrow as pa

    dim = table.features.shape[1]
    # Half floats are new in Parquet and rare in its readers; float32 holds each of them exactly.
    flat = pa.array(table.features.astype(np.float32).ravel())
    try:
        keys = pa.array(table.keys or (), pa.string())
    except UnicodeEncodeError as error:
        raise LsnError(
            f"{path}: Parquet holds UTF-8 only, and a key is not ({error.object!r}).", "Export .npz or .csv."
        ) from error
    columns = {
        "key": keys,
        "label": pa.array(_labels(table), pa.int32()),
        "features": pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    known = {
        "classes": table.classes,
        "failures": [[failure.key, failure.reason] for failure in table.failures],
    }
    parquet.write_table(pa.table(columns).replace_schema_metadata({"lsn": json.dumps(known)}), path)


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise Unavailable(
            "Parquet needs pyarrow, which is not installed.", "pip install 'lsncli[parquet]'"
        ) from error
    return parquet


def _labels(table: Table) -> list[int]:
    return [int(label) for label in table.labels] if table.labels is not None else []


def _from_frame(path: Path, frame: Any, classes: Sequence[str] | None = None) -> Table:
    names = [str(name) for name in frame.columns]
    frame.columns = names
    numbered = [name for name in names if name[:1] == "f" and name[1:].isdecimal()]
    numbered.sort(key=lambda name: int(name[1:]))
    plain = [name for name in names if name not in BESIDE and frame[name].dtype.kind in "fiu"]
    if "features" in names:
        lists = frame["features"]
        features = numbers(path, parsed(path, lambda: np.stack([np.asarray(row) for row in lists])))
    elif numbered or plain:
        features = numbers(path, frame[numbered or plain].to_numpy())
    else:
        found = ", ".join(names) or "none"
        raise LsnError(f"{path}: expected a column 'features' or columns f0, f1, ..., found {found}.")
    return _table(path, frame, features, classes)


def _table(path: Path, frame: Any, features: Floats, classes: Sequence[str] | None) -> Table:
    """The table of ``features`` and of what a frame holds beside them."""
    labels, named = _column(frame, "label"), _column(frame, "class")
    if classes is None and labels is not None and named is not None:
        classes = _classes(path, labels, named)
    return Table(
        features=features,
        labels=labels if labels is not None else named,
        keys=_column(frame, "key"),
        classes=None if classes is None else tuple(classes),
    )


def _column(frame: Any, name: str) -> tuple[str, ...] | None:
    """A column as texts; whole numbers that a missing value turned into floats are whole again."""
    if name not in frame.columns:
        return None
    return tuple(
        ""
        if value is None or value != value
        else str(int(value))
        if isinstance(value, float) and value.is_integer()
        else str(value)
        for value in frame[name].tolist()
    )


def _classes(path: Path, labels: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """Class names by number, from rows that have both; a number without a row is its own name."""
    pairs: dict[int, str] = {}
    for label, name in zip(labels, named, strict=True):
        if not label.removeprefix("-").isdecimal():
            raise LsnError(f"{path}: beside a column 'class', expected whole-number labels, found '{label}'.")
        number = int(label)
        if number != UNLABELLED and pairs.setdefault(number, name) != name:
            raise LsnError(f"{path}: the label {number} has two classes, '{pairs[number]}' and '{name}'.")
    return tuple(pairs.get(number, str(number)) for number in range(max(pairs, default=-1) + 1))
