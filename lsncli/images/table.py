"""What images a Parquet file holds (extra ``parquet``): a column of bytes, or of {bytes, path} as Hugging
Face's datasets have them, and a column of classes beside it."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lsncli.console import printable
from lsncli.errors import LsnError, UsageError
from lsncli.images.beside import as_class
from lsncli.images.fetch import size_of
from lsncli.images.found import Found, Problem, Source
from lsncli.images.rows import Table, opened
from lsncli.images.urls import as_url

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content")
LABELS = ("label", "labels", "class", "cls", "class_name")
"""Names that are preferred where several columns could hold the images, or the classes."""


def scan(path: str, column: str = "") -> Source:
    """List the rows of a Parquet file or URL, in their order; no image is read.

    A key is the number of the row and, if the file knows it, the name that the image had. Raises UsageError
    for a file that is none or where no column, or more than one, may hold the images (``column`` names it),
    Unavailable without pyarrow.
    """
    size, mtime = _size_and_time(path)
    try:
        with opened(path, size) as file:
            return _rows(file, path, size, mtime, column)
    except LsnError:
        raise
    except (OSError, ValueError, MemoryError) as error:  # pyarrow's errors are among them
        raise UsageError(
            f"'{path}' cannot be read as Parquet: {printable(str(error))[:300]}.", "Is it one, and whole?"
        ) from error


def _rows(file: Any, path: str, size: int, mtime: int | None, wanted: str) -> Source:
    schema: pa.Schema = file.schema_arrow
    images = _image_column(schema, wanted, path)
    label = _label_column(schema)
    rows = file.metadata.num_rows
    if rows > size:  # of damaged or hostile metadata; a million rows of nothing would take our memory
        raise UsageError(f"'{path}' claims {rows:,} rows in {size:,} bytes.", "Is it whole?")
    names: Sequence[Any] = [None] * rows
    if len(images) == 2 and schema.field(images[0]).type.get_field_index("path") >= 0:
        names = file.read(columns=[f"{images[0]}.path"]).column(0).combine_chunks().flatten()[0].to_pylist()
    classes = [None] * rows if label is None else file.read(columns=[label]).column(0).to_pylist()
    named = () if label is None else _class_names(schema, label)
    table = Table(path, size, mtime, images)
    found: list[Found] = []
    problems: list[Problem] = []
    known: dict[Any, str | int | None] = {}  # one string a class, not one an image
    for row, (name, value) in enumerate(zip(names, classes, strict=True)):
        key = f"{row:09d}{_shown(name)}"
        try:
            if value not in known:
                known[value] = None if value is None else _class_of(value, named)
        except ValueError as error:
            known[value] = None
            problems.append(Problem(f"{key}#{label}", str(error), f"{path}:{key}#{label}"))
        found.append(Found(key, known[value], path, row, None, table, key))
    return Source(found, problems)


def _size_and_time(path: str) -> tuple[int, int | None]:
    if as_url(path):
        return size_of(path), None
    try:
        status = os.stat(path)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}.") from error
    return status.st_size, status.st_mtime_ns


def _image_column(schema: "pa.Schema", wanted: str, path: str) -> tuple[str, ...]:
    """The path to the bytes: the column, and the field in it if it is a struct."""
    found = {field.name: one for field in schema if (one := _bytes_in(field)) is not None}
    if wanted:
        found = {name: one for name, one in found.items() if name == wanted}
    if len(found) > 1:
        preferred = [name for name in IMAGES if name in found]
        found = {name: found[name] for name in preferred[:1]} or found
    if len(found) == 1:
        return next(iter(found.values()))
    names = printable(", ".join(schema.names))[:300]
    if wanted:
        raise UsageError(f"'{path}' has no column '{wanted}' of bytes, only {names}.")
    raise UsageError(
        f"'{path}': {'several columns' if found else 'no column'} may hold images: {names}.",
        f"Name the column of encoded images behind the file: '{path}#COLUMN'.",
    )


def _bytes_in(field: "pa.Field") -> tuple[str, ...] | None:
    from pyarrow import types

    kind = field.type
    if types.is_binary(kind) or types.is_large_binary(kind):
        return (field.name,)
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        inside = kind.field("bytes").type
        if types.is_binary(inside) or types.is_large_binary(inside):
            return (field.name, "bytes")
    return None


def _label_column(schema: "pa.Schema") -> str | None:
    """The column that Hugging Face's metadata calls the class, else one of a usual name."""
    named = [name for name in schema.names if _class_names(schema, name)]
    for name in named if len(named) == 1 else [one for one in LABELS if one in schema.names]:
        kind = schema.field(name).type
        if _is_class(kind):
            return name
    return None


def _is_class(kind: "pa.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _class_names(schema: "pa.Schema", column: str) -> tuple[str, ...]:
    """What Hugging Face's metadata calls the numbers of a column; empty if it says nothing."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(one, str) for one in names) else ()


def _class_of(value: Any, names: tuple[str, ...]) -> str | int | None:
    if names and isinstance(value, int):
        if value >= len(names):
            raise ValueError(f"class {value}, but there are {len(names)} names")
        return as_class(names[value]) if value >= 0 else None
    return as_class(value)


def _shown(name: Any) -> str:
    """The name that an image had, for people, behind the number of its row."""
    last = str(name or "").replace("\\", "/").rpartition("/")[2]
    return f"-{last}" if last and len(last) <= 200 and last.isprintable() else ""
