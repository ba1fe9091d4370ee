"""Read and write feature tables as CSV and Parquet: one row per image, class names beside the labels."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np

from lsncli import validation
from lsncli.console import printable
from lsncli.errors import LsnError, Unavailable
from lsncli.files import open_atomic, open_atomic_text
from lsncli.images.columns import all_whole, is_label_name, is_path_name, plain_name, preferred_path
from lsncli.images.parquet import class_label_names
from lsncli.images.parquet_file import FEATURES, ParquetFile
from lsncli.interchange.label_files import choose_label_column, label_texts
from lsncli.interchange.tables import FeatureTable, check_cells, checked_read, to_floats
from lsncli.types import UNLABELLED, Failure, FloatArray

BESIDE = ("key", "label", "class")
"""The columns that ``write_csv`` writes beside features: a label is the number of its class."""
FEATURE = re.compile(r"f\d+")
FIRST_LINES = 1 << 20
"""Characters that the first two lines of a CSV may have."""


@dataclass(frozen=True)
class _Dialect:
    """The format of a CSV: separator, decimal mark, and the names of its columns (None = no header)."""

    separator: str
    decimal: str
    names: list[str] | None


def read_csv(path: Path, label_column: str) -> FeatureTable:
    """Read features from the columns ``f0``, ``f1``, ..., or else all columns of numbers; labels and keys.

    Without a header, all columns are features.
    """
    import pandas as pd

    dialect = _detect_dialect(path)

    def load() -> pd.DataFrame:
        names = dialect.names or []
        numbered = any(map(FEATURE.fullmatch, names))
        texts = [
            name
            for name in names
            if (not FEATURE.fullmatch(name) if numbered else _is_beside(name, names)) or name == label_column
        ]
        return pd.read_csv(
            path,
            sep=dialect.separator,
            decimal=dialect.decimal,
            header="infer" if dialect.names is not None else None,
            dtype=dict.fromkeys(texts, "object"),
            # A key or a class may be called NA, null or "": only numbers can be missing.
            keep_default_na=False,
            encoding_errors="surrogateescape",
        )

    frame = checked_read(path, load)
    if dialect.names is None:
        frame.columns = [f"f{at}" for at in range(len(frame.columns))]
        return replace(_from_frame(path, frame, label_column, {}), note="no header, all columns are features")
    return _from_frame(path, frame, label_column, {})


def _detect_dialect(path: Path) -> _Dialect:
    """Detect the format from the first two lines. Raises LsnError for a header that seems to be data."""

    def load() -> tuple[str, str]:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            return file.readline(FIRST_LINES), file.readline(FIRST_LINES)

    first, second = checked_read(path, load)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    separator = usual if usual in first else next((by for by in ",;\t" if by in first), usual)
    decimal = "," if separator == ";" and re.search(r"\d,\d", second) else "."
    names: list[str] = next(iter(checked_read(path, lambda: [*csv.reader([first], delimiter=separator)])), [])
    numeric = [name for name in names if _is_number(name.replace(",", ".") if decimal == "," else name)]
    if numeric == [str(at) for at in range(len(numeric))]:  # none, or the numbers that pandas writes
        return _Dialect(separator, decimal, names)
    if len(numeric) == len(names):
        return _Dialect(separator, decimal, None)
    raise LsnError(
        f"{path}: expected names of columns in line 1, found numbers such as '{printable(numeric[0])}'.",
        "Start the file with the names of its columns: key,label,f0,f1,...",
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_beside(name: str, names: Sequence[str]) -> bool:
    """Return whether a column holds labels or keys by its name; a pair x and y are features."""
    if plain_name(name) == "y" and "x" in map(plain_name, names):
        return False
    return is_label_name(name) or is_path_name(name) or _is_index(name)


def _is_index(name: str) -> bool:
    """Return whether a column is the index that pandas writes: without a name, or ``__index_level_0__``."""
    return plain_name(name) in ("", "unnamed0", "indexlevel0")


def write_csv(path: Path, table: FeatureTable) -> None:
    """Write every row with all digits. Classes without a row, failures and text features are not written."""
    classes = table.classes or ()
    with open_atomic_text(path, errors="surrogateescape") as file:
        rows = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        rows.writerow([*BESIDE, *(f"f{index}" for index in range(table.features.shape[1]))])
        for key, label, row in zip(table.keys or (), _labels(table), table.features, strict=True):
            name = classes[label] if label != UNLABELLED else ""
            rows.writerow([key, label, name, *row.astype(np.float64).tolist()])


def read_parquet(path: Path, label_column: str) -> FeatureTable:
    """Read a column ``features`` of lists, or columns as in a CSV. Raises Unavailable without pyarrow."""
    _import_parquet()

    def load() -> tuple[Any, Any, FloatArray | None]:
        size = path.stat().st_size
        with ParquetFile(str(path), size) as file:
            check_cells(file.metadata.num_rows * file.metadata.num_columns, size)
            return _columns(path, file)

    schema, beside, features = checked_read(path, load)
    encoded = (schema.metadata or {}).get(b"lsn")
    metadata = checked_read(path, lambda: validation.parse_json(encoded)) if encoded else {}
    names_by_column = {name: class_label_names(schema, name) for name in schema.names}
    classes_of: dict[str, Sequence[str]] = {name: names for name, names in names_by_column.items() if names}
    if metadata.get("classes") is not None:
        classes_of["label"] = metadata["classes"]
    if features is not None:
        table = _table(path, beside, features, label_column, classes_of)
    else:
        table = _from_frame(path, beside, label_column, classes_of)
    return replace(table, failures=tuple(starmap(Failure, metadata.get("failures", ()))))


def _columns(path: Path, file: ParquetFile) -> tuple[Any, Any, FloatArray | None]:
    """Return the schema, all columns as a frame, and a column ``features`` of lists as an array."""
    import pandas as pd
    import pyarrow as pa
    from pyarrow import types

    groups = range(file.metadata.num_row_groups)
    index = (file.schema.pandas_metadata or {}).get("index_columns", [])
    columns: dict[str, Any] = {}
    features = None
    for field in file.schema:
        if field.name == "features" and _is_list(field.type):
            blocks = [_to_array(batch) for batch in file.batches(field.name, FEATURES, groups) if len(batch)]
            empty = np.empty((0, getattr(field.type, "list_size", 0)))
            features = to_floats(path, np.concatenate(blocks) if blocks else empty)
        elif field.name in index:
            continue
        elif types.is_primitive(field.type):
            batches = list(file.batches(field.name, FEATURES, groups))
            columns[field.name] = pa.chunked_array(batches, field.type).to_pandas()
        else:
            columns[field.name] = pd.Series(file.values(field.name), dtype=object)
    return file.schema, pd.DataFrame(columns), features


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _to_array(lists: Any) -> Any:
    """Convert lists of one length to an array (rows, length). Raises ValueError for different lengths."""
    from pyarrow import compute

    lengths = compute.list_value_length(lists)
    if lists.null_count or compute.count_distinct(lengths).as_py() > 1:
        raise ValueError("the lists under 'features' are not all of one length")
    return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1)


def write_parquet(path: Path, table: FeatureTable) -> None:
    """Write every row, with class names and failures in the metadata. Raises Unavailable without pyarrow."""
    parquet = _import_parquet()
    import pyarrow as pa

    dim = table.features.shape[1]
    # Few readers of Parquet support float16; float32 holds the same values.
    flat = pa.array(table.features.astype(np.float32).ravel())
    try:
        keys = pa.array(table.keys or (), pa.string())
    except UnicodeEncodeError as error:
        raise LsnError(
            f"{path}: Parquet holds UTF-8 only, and the key {error.object!r} is not.", "Export .npz or .csv."
        ) from error
    columns = {
        "key": keys,
        "label": pa.array(_labels(table), pa.int32()),
        "features": pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    metadata = {
        "classes": table.classes,
        "failures": [[failure.key, failure.reason] for failure in table.failures],
    }
    arrow_table = pa.table(columns).replace_schema_metadata({"lsn": json.dumps(metadata)})
    with open_atomic(path) as file:
        parquet.write_table(arrow_table, file)


def _import_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise Unavailable(
            "Parquet needs pyarrow, which is not installed.", "pip install 'lsncli[parquet]'"
        ) from error
    return parquet


def _labels(table: FeatureTable) -> list[int]:
    return [int(label) for label in table.labels] if table.labels is not None else []


def _from_frame(
    path: Path, frame: Any, label_column: str, classes_of: Mapping[str, Sequence[str]]
) -> FeatureTable:
    names = [str(name) for name in frame.columns]
    frame.columns = names
    numbered = [name for name in names if FEATURE.fullmatch(name)]
    numbered.sort(key=lambda name: int(name[1:]))
    numeric = [
        name
        for name in names
        if not _is_beside(name, names) and name != label_column and frame[name].dtype.kind in "fiu"
    ]
    chosen = ["features"] if "features" in names else numbered or numeric
    if "features" in names:
        lists = frame["features"]
        features = to_floats(path, checked_read(path, lambda: np.stack([np.asarray(row) for row in lists])))
    elif chosen:
        features = to_floats(path, frame[chosen].to_numpy())
    else:
        columns = ", ".join(names) or "none"
        raise LsnError(f"{path}: expected a column 'features' or columns f0, f1, ..., found {columns}.")
    return _table(path, frame.drop(columns=chosen), features, label_column, classes_of)


def _table(
    path: Path, beside: Any, features: FloatArray, label_column: str, classes_of: Mapping[str, Sequence[str]]
) -> FeatureTable:
    """Return a table of ``features`` with the labels and keys in a frame of the other columns.

    ``classes_of`` are the class names in the file by column of labels.
    """
    names = list(beside.columns)
    usual = [name for name in names if is_label_name(name)]
    classes: Sequence[str] | None = None
    if set(usual) == {"label", "class"} and not label_column:  # written by us: a number and its name
        label: str | None = "label"
        labels, class_names = (label_texts(path, name, beside[name].tolist()) for name in ("label", "class"))
        classes = _classes(path, labels, class_names)
    else:
        preferred = (*usual, label_column)
        others = [
            name
            for name in names
            if name in preferred or beside[name].dtype.kind != "f" or all_whole(beside[name].tolist())
        ]
        label = choose_label_column(path, others, label_column, lambda name: list(beside[name]))
        labels = () if label is None else label_texts(path, label, beside[label].tolist())
    if label is not None:
        classes = classes_of.get(label, classes)
    key = _key_column(beside[[name for name in names if name != label]])
    notes = [f"labels from '{printable(label)}'"] if label is not None else []
    notes += [f"keys from '{printable(key)}'"] if key is not None else []
    return FeatureTable(
        features=features,
        labels=None if label is None else labels,
        keys=None if key is None else tuple(map(_key, beside[key].tolist())),
        classes=None if classes is None else tuple(classes),
        note=", ".join(notes) if {label, key} - {"label", "key", None} else "",
    )


def _key_column(beside: Any) -> str | None:
    """Return the column of keys: ``key``, else one of a usual name, or an index, if its values are unique."""
    names = list(beside.columns)
    if "key" in names:
        return "key"
    index = preferred_path(names, range(len(names)))
    name = names[index] if index is not None else next(filter(_is_index, names), None)
    return name if name is not None and beside[name].is_unique else None


def _key(value: Any) -> str:
    """Return a key as text; integers that pandas made floats, for a missing value, become integers again."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _classes(path: Path, labels: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return class names by number, from rows with both; a number without a row is its own name."""
    pairs: dict[int, str] = {}
    for label, name in zip(labels, names, strict=True):
        if not label.removeprefix("-").isdecimal():
            raise LsnError(f"{path}: beside a column 'class', expected whole-number labels, found '{label}'.")
        number = int(label)
        if number != UNLABELLED and pairs.setdefault(number, name) != name:
            raise LsnError(f"{path}: the label {number} has two classes, '{pairs[number]}' and '{name}'.")
    return tuple(pairs.get(number, str(number)) for number in range(max(pairs, default=-1) + 1))
