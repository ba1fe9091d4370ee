"""What images a Parquet file holds (extra ``parquet``): a column of bytes, or of {bytes, path} as Hugging
Face's datasets have them, and a column of classes beside it."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lsncli.console import printable
from lsncli.errors import LsnError, UsageError
from lsncli.images.columns import (
    LABEL_OPTION,
    MANY,
    NO_LABEL,
    Columns,
    all_whole,
    is_label_name,
    label_index,
    label_text,
    parse_class,
)
from lsncli.images.found import Found, Problem, Source
from lsncli.images.parquet_file import FAILURES, ParquetFile
from lsncli.images.parquet_pages import Oversized
from lsncli.images.parquet_rows import ListedTable
from lsncli.images.remote import as_url, object_size
from lsncli.validation import parsed

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content")
"""Names that are preferred where several columns could hold the images."""


def scan(path: str, columns: Columns) -> Source:
    """List the rows of a Parquet file or URL, in their order; no image is read.

    A key is the number of the row and, if the file knows it, the name that the image had. Raises UsageError
    for a file that is none, where no column, or more than one, may hold the images, or more than one the
    classes (``columns`` names them), and for labels that are no classes; Unavailable without pyarrow.
    """
    size, mtime = _size_and_time(path)
    try:
        with ParquetFile(path, size) as file:
            return _rows(file, path, size, mtime, columns)
    except LsnError:
        raise
    except Oversized as error:
        raise UsageError(
            f"'{path}' is refused: {printable(str(error))[:300]}.",
            f"Is it whole? Other columns are taken by '{path}#COLUMN' and {LABEL_OPTION}.",
        ) from error
    except FAILURES as error:
        raise UsageError(
            f"'{path}' cannot be read as Parquet: {printable(str(error))[:300]}.", "Is it one, and whole?"
        ) from error


def _rows(file: ParquetFile, path: str, size: int, mtime: int | None, columns: Columns) -> Source:
    schema = file.schema
    images = _image_column(schema, columns.path, path)
    rows = file.metadata.num_rows
    label = _label_column(file, images[0], columns, path) if columns.labelled else None
    names: Sequence[Any] = [None] * rows
    if len(images) == 2 and schema.field(images[0]).type.get_field_index("path") >= 0:
        names = [one and one["path"] for one in file.values(f"{images[0]}.path")]
    values = [None] * rows if label is None else file.values(label)
    named = () if label is None else class_label_names(schema, label)
    table = ListedTable(path, size, mtime, images)
    source = Source([])
    known: dict[Any, str | int | None] = {}  # one string a class, not one an image
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        key = f"{row:09d}{_shown(name)}"
        said = repr(value) if isinstance(value, list | dict | float) else value  # what a dict can hold once
        if said not in known:
            try:
                text = label_text(value)
            except ValueError as error:
                raise UsageError(
                    f"'{path}', column '{label}', row {row}: {error}.",
                    f"Name another column with {LABEL_OPTION}; {LABEL_OPTION} {NO_LABEL} leaves classes out.",
                ) from error
            try:
                known[said] = _class_of(text, named)
            except ValueError as error:
                known[said] = None
                source.problems.append(Problem(f"{key}#{label}", str(error), f"{path}:{key}#{label}"))
        source.found.append(Found(key, known[said], path, row, None, table, key))
    source.notes.append(f"images from column '{printable(images[0])}', {_said(label, schema, columns)}")
    return source


def _said(label: str | None, schema: "pa.Schema", columns: Columns) -> str:
    if label is not None:
        return f"classes from '{printable(label)}'"
    more = columns.labelled and len(schema.names) > 1
    return "no classes" + f" ({LABEL_OPTION} names a column)" * more


def _size_and_time(path: str) -> tuple[int, int | None]:
    if as_url(path):
        return object_size(path), None
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
    if len(found) > 1:  # classes may be bytes, too
        found = {name: one for name, one in found.items() if not is_label_name(name)} or found
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


def _label_column(file: ParquetFile, image: str, columns: Columns, path: str) -> str | None:
    """The column of classes: the only one whose classes Hugging Face's metadata names, else by its name."""
    schema = file.schema
    names: list[str] = list(schema.names)
    named = [at for at, name in enumerate(names) if class_label_names(schema, name)]
    if len(named) == 1 and not columns.label:
        return names[named[0]]

    def distinct(at: int) -> bool:
        try:
            values = file.values(names[at])
        except Oversized:  # texts too long for classes
            return True
        return len(values) > MANY and len(set(map(str, values))) == len(values)

    others = [
        at
        for at, name in enumerate(names)
        if name != image and (is_label_name(name) or _may_be_classes(file, name, schema.field(at).type))
    ]
    index = label_index(columns.label, names, named or others, f"'{path}'", distinct)
    return None if index is None else names[index]


def _may_be_classes(file: ParquetFile, column: str, kind: "pa.DataType") -> bool:
    """Whether a column of an unusual name may hold classes, by its type, or its values if they are floats."""
    from pyarrow import types

    if types.is_floating(kind):
        return all_whole(file.values(column))

    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (types.is_integer, types.is_boolean, types.is_string, types.is_large_string)
    return any(test(kind) for test in tests)


def class_label_names(schema: "pa.Schema", column: str) -> tuple[str, ...]:
    """What Hugging Face's metadata calls the numbers of a column; empty if it says nothing."""
    try:
        features = parsed((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        feature = features[column]
        names = feature.get("feature", feature)["names"]  # of a list of labels, too
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(one, str) for one in names) else ()


def _class_of(text: str, names: tuple[str, ...]) -> str | int | None:
    found = parse_class(text)
    if not names or not isinstance(found, int):
        return found
    if found >= len(names):
        raise ValueError(f"class {found}, but there are {len(names)} names")
    return parse_class(names[found])


def _shown(name: Any) -> str:
    """The name that an image had, for people, behind the number of its row."""
    last = str(name or "").replace("\\", "/").rpartition("/")[2]
    return f"-{last}" if last and len(last) <= 200 and last.isprintable() else ""
