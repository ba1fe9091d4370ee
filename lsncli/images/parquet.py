"""List and read the images of a Parquet file (extra ``parquet``).

Images are a column of bytes, or of {bytes, path} as in Hugging Face's datasets, with a column of classes
beside it. Read in order, each row is decoded once, and memory is bounded.
"""

import bisect
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
from lsncli.images.item import MAX_BYTES, ImageItem, Problem, Source
from lsncli.images.parquet_file import FAILURES, IMAGES, ParquetFile
from lsncli.images.parquet_pages import Oversized
from lsncli.images.read import CHANGED, Undecodable
from lsncli.images.remote import as_url, object_size
from lsncli.validation import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content")
"""Column names in order of preference if several columns may contain the images."""


def scan(path: str, columns: Columns) -> Source:
    """List the rows of a Parquet file or URL, in order; no image is read.

    A key is the number of the row and, if the file has it, the original name of the image. Raises UsageError
    for a file that is not Parquet, if the column of images is missing or ambiguous, or that of classes
    ambiguous (``columns`` names them), and for invalid labels; Unavailable without pyarrow.
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
            f"Is it complete? Choose other columns with '{path}#COLUMN' and {LABEL_OPTION}.",
        ) from error
    except FAILURES as error:
        raise UsageError(
            f"'{path}' cannot be read as Parquet: {printable(str(error))[:300]}.",
            "Is it a Parquet file, and complete?",
        ) from error


def _rows(file: ParquetFile, path: str, size: int, mtime: int | None, columns: Columns) -> Source:
    schema = file.schema
    images = _image_column(schema, columns.path, path)
    rows = file.metadata.num_rows
    label = _label_column(file, images[0], columns, path) if columns.labelled else None
    names: Sequence[Any] = [None] * rows
    if len(images) == 2 and schema.field(images[0]).type.get_field_index("path") >= 0:
        names = [value and value["path"] for value in file.values(f"{images[0]}.path")]
    values = [None] * rows if label is None else file.values(label)
    class_names = () if label is None else class_label_names(schema, label)
    table = ListedTable(path, size, mtime, images)
    source = Source([])
    classes: dict[Any, str | int | None] = {}  # all images of a class share one string, to save memory
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        key = f"{row:09d}{_name_suffix(name)}"
        hashable = repr(value) if isinstance(value, list | dict | float) else value  # no lists, and one NaN
        if hashable not in classes:
            try:
                text = label_text(value)
            except ValueError as error:
                raise UsageError(
                    f"'{path}', column '{label}', row {row}: {error}.",
                    f"Name another column with {LABEL_OPTION}; {LABEL_OPTION} {NO_LABEL} leaves classes out.",
                ) from error
            try:
                classes[hashable] = _to_class(text, class_names)
            except ValueError as error:
                classes[hashable] = None
                source.problems.append(Problem(f"{key}#{label}", str(error), f"{path}:{key}#{label}"))
        source.items.append(ImageItem(key, path, row, None, table, key, folder=classes[hashable]))
    note = _describe_classes(label, schema, columns)
    source.notes.append(f"images from column '{printable(images[0])}', {note}")
    return source


def _describe_classes(label: str | None, schema: "pa.Schema", columns: Columns) -> str:
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


def _image_column(schema: "pa.Schema", requested: str, path: str) -> tuple[str, ...]:
    """Return the path to the bytes: the column, and the field in it if it is a struct."""
    candidates = {field.name: parts for field in schema if (parts := _bytes_path(field)) is not None}
    if requested:
        candidates = {name: parts for name, parts in candidates.items() if name == requested}
    if len(candidates) > 1:  # classes may be bytes, too
        images = {name: parts for name, parts in candidates.items() if not is_label_name(name)}
        candidates = images or candidates
    if len(candidates) > 1:
        preferred = [name for name in IMAGE_NAMES if name in candidates]
        candidates = {name: candidates[name] for name in preferred[:1]} or candidates
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    names = printable(", ".join(schema.names))[:300]
    if requested:
        raise UsageError(f"'{path}' has no column '{requested}' of bytes, only {names}.")
    raise UsageError(
        f"'{path}': {'several columns' if candidates else 'no column'} may hold images: {names}.",
        f"Name the column of encoded images after the file: '{path}#COLUMN'.",
    )


def _bytes_path(field: "pa.Field") -> tuple[str, ...] | None:
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
    """Return the column of classes: the only one with class names in the metadata, else by name."""
    schema = file.schema
    names: list[str] = list(schema.names)
    with_names = [at for at, name in enumerate(names) if class_label_names(schema, name)]
    if len(with_names) == 1 and not columns.label:
        return names[with_names[0]]

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
    index = label_index(columns.label, names, with_names or others, f"'{path}'", distinct)
    return None if index is None else names[index]


def _may_be_classes(file: ParquetFile, column: str, kind: "pa.DataType") -> bool:
    """Return whether a column of an unusual name may hold classes, by its type or the values of floats."""
    from pyarrow import types

    if types.is_floating(kind):
        return all_whole(file.values(column))

    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (types.is_integer, types.is_boolean, types.is_string, types.is_large_string)
    return any(test(kind) for test in tests)


def class_label_names(schema: "pa.Schema", column: str) -> tuple[str, ...]:
    """Return the class names of a column's numbers from Hugging Face's metadata; empty without them."""
    try:
        features = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        feature = features[column]
        names = feature.get("feature", feature)["names"]  # "feature": the items of a list of labels
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _to_class(text: str, names: tuple[str, ...]) -> str | int | None:
    label = parse_class(text)
    if not names or not isinstance(label, int):
        return label
    if label >= len(names):
        raise ValueError(f"class {label}, but there are {len(names)} names")
    return parse_class(names[label])


def _name_suffix(name: Any) -> str:
    """Return the original name of an image, to follow the number of its row."""
    last = str(name or "").replace("\\", "/").rpartition("/")[2]
    return f"-{last}" if last and len(last) <= 200 and last.isprintable() else ""


AHEAD = 64
"""Rows that are read on to reach a row of the next row group; threads ask in nearly the right order."""
HELD = 1 << 28
"""Bytes of decoded rows that are kept for threads that are a little late; two rows always are."""
MOST_HELD = 4096
"""Rows that are kept for them."""
MOST_UNPACKED, UNPACKED_A_BYTE = 1 << 30, 100
"""Bytes that all images may have, or for each byte of the file if that is more."""


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A Parquet file or URL in its state when it was listed, and the path to its column of image bytes."""

    path: str
    size: int
    mtime: int | None
    column: tuple[str, ...]

    def read(self, offset: int, size: int | None) -> bytes:
        """Return the image in row ``offset``. Raises Undecodable."""
        return _reader(self, os.getpid()).row(offset)


@lru_cache(maxsize=4)  # a listing reads its files one after the other; after a fork they are opened anew
def _reader(table: ListedTable, _process: int) -> "_Reader":
    return _Reader(table)


class _Reader:
    """A reader for rows in ascending order, as in a listing; to go back it starts again at the row group."""

    def __init__(self, table: ListedTable) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._file: ParquetFile | None = None
        self._starts = [0]
        self._damaged: dict[int, tuple[int, str]] = {}
        """By row group: the first unreadable row, and the reason."""
        self._forget()

    def _forget(self) -> None:
        self._held: OrderedDict[int, pa.Array] = OrderedDict()  # arrays of one row, by its number
        self._bytes = self._next = self._unpacked = 0
        self._batches: Iterator[Any] | None = None

    def row(self, number: int) -> bytes:
        """Return the image in a row. Raises Undecodable, OSError."""
        with self._lock:
            self._check_unchanged()
            image = self._value(number)
        if not image.is_valid:
            raise Undecodable("no image in this row")
        data = image.as_buffer()
        if data.size > MAX_BYTES:
            raise Undecodable(f"too large: {data.size / 2**30:.1f} GiB")
        return bytes(data)

    def _check_unchanged(self) -> None:
        if self._table.mtime is None:  # a URL
            return
        status = os.stat(self._table.path)
        if (status.st_size, status.st_mtime_ns) != (self._table.size, self._table.mtime):
            raise Undecodable(f"its table {CHANGED}")

    def _value(self, number: int) -> Any:
        if number in self._held:
            return self._held[number][0]
        file, group = self._open_at(number)
        first, reason = self._damaged.get(group, (number + 1, ""))
        if number >= first:
            raise Undecodable(reason)
        if self._batches is None or not min(self._starts[group], number - AHEAD) <= self._next <= number:
            self._forget()
            self._next = self._starts[group]
            self._batches = self._images_from(file, group)
        try:
            while True:
                row = next(self._batches)
                if self._unpacked + row.nbytes > max(MOST_UNPACKED, UNPACKED_A_BYTE * self._table.size):
                    raise Oversized(
                        f"images of more than {self._unpacked:,} bytes in {self._table.size:,} bytes"
                    )
                self._hold(row)
                if number < self._next:
                    return row[0]
        except LsnError as error:  # of the network: the next row may succeed
            self._forget()
            raise Undecodable(error.message) from error
        except (*FAILURES, StopIteration) as error:
            # All later rows of the row group are lost: remember it, or each of them would read it again.
            what = "is refused" if isinstance(error, Oversized) else "is damaged"
            reason = f"its Parquet file {what}: {printable(str(error) or 'it ends too early')[:200]}"
            damaged = self._group_of(self._next)
            self._damaged[damaged] = (self._next, reason)
            self._forget()
            if damaged < group:  # an earlier row group is damaged: the row itself may be readable
                return self._value(number)
            raise Undecodable(reason) from error

    def _open_at(self, number: int) -> tuple[ParquetFile, int]:
        """Return the open file, and the row group of a row."""
        if self._file is None:
            try:
                self._file = ParquetFile(self._table.path, self._table.size)
            except LsnError as error:
                raise Undecodable(error.message) from error
            except FAILURES as error:
                raise Undecodable(f"its Parquet file is damaged: {printable(str(error))[:200]}") from error
            for group in range(self._file.metadata.num_row_groups):
                self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)
        return self._file, self._group_of(number)

    def _group_of(self, number: int) -> int:
        return bisect.bisect_right(self._starts, number) - 1

    def _images_from(self, file: ParquetFile, group: int) -> Iterator["pa.Array"]:
        """Yield the images from the start of a row group on."""
        groups = range(group, len(self._starts) - 1)
        for row in file.batches(".".join(self._table.column), IMAGES, groups):
            for _ in self._table.column[1:]:
                (row,) = row.flatten()  # a field of a null row is null
            yield row

    def _hold(self, row: "pa.Array") -> None:
        self._held[self._next] = row
        self._bytes += row.nbytes
        self._unpacked += row.nbytes
        self._next += 1
        while len(self._held) > 2 and (self._bytes > HELD or len(self._held) > MOST_HELD):
            self._bytes -= self._held.popitem(last=False)[1].nbytes
