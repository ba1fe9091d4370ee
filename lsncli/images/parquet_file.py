"""Read columns of a Parquet file or URL (extra ``parquet``) within limits.

The sizes of pages are checked before they are unpacked (``parquet_pages``), repeated texts share memory, and
batches are small.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast

from lsncli.errors import Unavailable
from lsncli.images.parquet_pages import (
    DATA,
    DATA_V2,
    DELTA_NAMES,
    DELTAS,
    DICTIONARY,
    ColumnChunk,
    GuardedFile,
    Oversized,
    Page,
    check_counts,
    skip_levels,
)
from lsncli.images.remote import RangeFile, as_url

if TYPE_CHECKING:
    import pyarrow as pa

BUFFER = 1 << 20
"""Bytes of a column that are read at once. Without a buffer pyarrow reads whole row groups of any size."""
REMOTE_BLOCK = 1 << 23
"""Bytes per request for a URL."""
LONGEST_CELL = 1 << 16
"""Bytes that a text may have, as a class beside an image in a tar."""
MOST_ROWS, BYTES_A_ROW = 1_000_000, 20
"""Rows that any file of as many bytes may have, and the fewest bytes per row in a file of more."""
MOST_FIELDS = 200_000
"""Columns and row groups that a footer may have."""

CODECS = {"LZ4": "lz4_raw"}
"""Codecs of pages that ``pyarrow.decompress`` calls by another name."""
FAILURES = (OSError, ValueError, MemoryError, NotImplementedError, LookupError)
"""The errors of pyarrow for files that it cannot read."""


@dataclass(frozen=True)
class Limit:
    """Limits for unpacking a column.

    A page may have ``page`` bytes, or ``real`` times its bytes in the file if that is more; a column of a row
    group ``column`` bytes, or 50 times its bytes in the file (0 = no limit). Lists may have ``listed`` values
    per row on average, each of which counts 8 bytes in ``column``. ``rows`` rows are read at a time.
    """

    page: int
    column: int = 0
    real: int = 2
    rows: int = 1024
    listed: int = 64


IMAGES = Limit(1 << 28, rows=1)
"""One row is decoded at a time, so only pages are limited: a row may be as long as its page."""
TEXTS = Limit(1 << 26, 1 << 26)
DELTA_TEXTS = Limit(1 << 22, 1 << 26, real=0, rows=64)
"""For texts that pyarrow cannot read as a dictionary: a few bytes may repeat the longest text of a page."""
FEATURES = Limit(1 << 26, 1 << 28, listed=1 << 16)
USUAL = 50
"""The factor by which any column may grow when it is unpacked."""


class ParquetFile:
    """An open file; ``file`` is pyarrow's. Reading raises FAILURES, Oversized and LsnError (of a URL)."""

    def __init__(self, path: str, size: int) -> None:
        """Open a file. Raises FAILURES and Oversized for an invalid file, and Unavailable without pyarrow."""
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise Unavailable(
                "Parquet needs pyarrow, which is not installed.", "pip install 'lsncli[parquet]'"
            ) from error
        raw: Any = RangeFile(path, size, REMOTE_BLOCK) if as_url(path) else FileIO(path)
        self._guard = GuardedFile(cast(IO[bytes], raw))
        self._watched: set[int] = set()
        try:
            self.file = self._reader()
            rows = self.file.metadata.num_rows
            if rows > size or rows > max(MOST_ROWS, size // BYTES_A_ROW):
                # Damaged or hostile metadata: a million empty rows would fill the memory.
                raise Oversized(f"it claims {rows:,} rows in {size:,} bytes")
        except BaseException:
            self._guard.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guard.close()

    @property
    def metadata(self) -> Any:
        """The file's metadata, as pyarrow reads it."""
        return self.file.metadata

    @property
    def schema(self) -> "pa.Schema":
        """The columns and their types."""
        return self.file.schema_arrow

    def batches(
        self, column: str, limit: Limit, groups: Sequence[int], *, encoded: bool = False
    ) -> Iterator["pa.Array"]:
        """Yield a column, or a field in one ("image.bytes"), of some row groups.

        With ``encoded``, texts are arrays with dictionaries.
        """
        leaves = self._watch(column, limit, groups)
        file = self._reader(self.metadata, leaves) if encoded else self.file
        for group in groups:  # one at a time, so that pyarrow reads none ahead
            for batch in file.iter_batches(
                limit.rows, row_groups=[group], columns=[column], use_threads=False
            ):
                yield batch.column(0)

    def values(self, column: str, *, longest: int = LONGEST_CELL) -> list[Any]:
        """Return a column as Python values; equal texts of a row group are one object.

        Raises Oversized for a text of more than ``longest`` bytes.
        """
        values: list[Any] = []
        to_python = _ToPython(column, longest)
        for group in range(self.metadata.num_row_groups):
            encoded = not self._has_deltas(column, group)
            limit = TEXTS if encoded else DELTA_TEXTS
            for batch in self.batches(column, limit, [group], encoded=encoded):
                values += to_python(batch)
        return values

    def _has_deltas(self, column: str, group: int) -> bool:
        """Return whether texts of a column are encoded as differences."""
        row_group = self.metadata.row_group(group)
        return any(
            not DELTA_NAMES.isdisjoint(row_group.column(index).encodings)
            for index, _ in self._leaves(column)
            if row_group.column(index).physical_type == "BYTE_ARRAY"
        )

    def _leaves(self, column: str) -> Iterator[tuple[int, Any]]:
        """Yield the stored columns below a column, with their numbers."""
        schema = self.metadata.schema
        for index in range(len(schema)):
            leaf = schema.column(index)
            if leaf.path == column or leaf.path.startswith(f"{column}."):
                yield index, leaf

    def _reader(self, metadata: Any = None, encoded: Iterable[str] = ()) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        return parquet.ParquetFile(
            pa.PythonFile(self._guard, mode="r"),
            metadata=metadata,
            read_dictionary=list(encoded),
            pre_buffer=False,
            buffer_size=BUFFER,
            thrift_container_size_limit=MOST_FIELDS,
        )

    def _watch(self, column: str, limit: Limit, groups: Iterable[int]) -> list[str]:
        """Check the pages of a column from now on, and return the paths of its stored columns of texts."""
        texts = []
        for index, leaf in self._leaves(column):
            if leaf.physical_type == "BYTE_ARRAY":
                texts.append(leaf.path)
            for group in groups:
                chunk = self.metadata.row_group(group).column(index)
                start = chunk.data_page_offset
                if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
                    start = chunk.dictionary_page_offset
                if start in self._watched:
                    continue
                self._watched.add(start)
                rows = self.metadata.row_group(group).num_rows
                listed = bool(leaf.max_repetition_level)
                most = rows * limit.listed if listed else rows
                levels = bool(leaf.max_repetition_level) + bool(leaf.max_definition_level)
                check = _check(limit, column, most, listed, levels, chunk.compression)
                self._guard.watch(ColumnChunk(start, start + chunk.total_compressed_size, check))
        return texts


def _check(
    limit: Limit, column: str, most: int, listed: bool, levels: int, codec: str
) -> Callable[[Page, Callable[[], bytes]], None]:
    """Return a check for the pages of a column in a row group, which may have ``most`` values.

    ``listed``: values are in lists. Pages have ``levels`` kinds of levels and are compressed by ``codec``.
    """
    packed = unpacked = values = 0

    def check(page: Page, read: Callable[[], bytes]) -> None:
        nonlocal packed, unpacked, values
        packed, unpacked = packed + page.size, unpacked + page.unpacked
        if page.unpacked > max(limit.page, limit.real * page.size):
            raise Oversized(
                f"a page of {page.size:,} bytes in column '{column}' would unpack to {page.unpacked:,} bytes"
            )
        if page.kind in (DATA, DATA_V2):
            values += page.values
        size = max(unpacked, 8 * values * listed)
        if limit.column and size > max(limit.column, USUAL * packed):
            raise Oversized(f"{packed:,} bytes of column '{column}' would unpack to {size:,} bytes or more")
        if values > most or (page.kind == DICTIONARY and page.values > page.unpacked):
            raise Oversized(f"column '{column}' claims more values than it can have")
        if page.encoding in DELTAS and page.kind != DICTIONARY:
            if not page.rle:
                raise ValueError(f"column '{column}' mixes deltas with an old encoding of levels")
            for data in _values(page, read(), levels, codec):
                check_counts(data, page.encoding, page.values)

    return check


def _values(page: Page, data: bytes, levels: int, codec: str) -> Iterator[bytes]:
    """Yield the unpacked values of a page without its levels, in each way in which a reader may read them."""
    from pyarrow import decompress

    data = data[page.levels :]
    if codec == "UNCOMPRESSED" or not page.compressed:
        yield data if page.kind == DATA_V2 else skip_levels(data, levels)
    if codec == "UNCOMPRESSED":
        return
    size = max(0, page.unpacked - page.levels)
    try:
        data = decompress(data, size, CODECS.get(codec, codec.lower()), asbytes=True)
    except OSError:
        if page.compressed:
            raise
        return  # pyarrow, which tries this for files of its old versions, fails as well
    yield data if page.kind == DATA_V2 else skip_levels(data, levels)


class _ToPython:
    """Converts arrays to lists of Python values."""

    def __init__(self, column: str, longest: int) -> None:
        self._column, self._longest = column, longest
        self._dictionary: Any = None
        self._texts: list[Any] = []

    def __call__(self, array: Any) -> list[Any]:
        from pyarrow import compute, types

        kind = array.type
        if types.is_dictionary(kind):
            texts = self._convert_once(array.dictionary)
            return [None if index is None else texts[index] for index in array.indices.to_pylist()]
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            inside = iter(self(array.flatten()))
            lengths = compute.list_value_length(array).to_pylist()
            return [None if length is None else list(islice(inside, length)) for length in lengths]
        if types.is_struct(kind):
            parts = [self(part) for part in array.flatten()]
            names = [kind.field(at).name for at in range(kind.num_fields)]
            rows = zip(*parts, strict=True) if parts else ((),) * len(array)
            valid = array.is_valid().to_pylist()
            return [
                dict(zip(names, row, strict=True)) if is_valid else None
                for row, is_valid in zip(rows, valid, strict=True)
            ]
        if types.is_nested(kind):
            raise ValueError(f"column '{self._column}' has a type that is not supported, {kind}")
        if hasattr(array, "storage"):  # an extension type
            return self(array.storage)
        if not (types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind)):
            self._check_length(array)
        values: list[Any] = array.to_pylist()
        return values

    def _convert_once(self, dictionary: Any) -> list[Any]:
        if self._dictionary is None or not dictionary.equals(self._dictionary):
            self._dictionary, self._texts = dictionary, self(dictionary)
        return self._texts

    def _check_length(self, array: Any) -> None:
        from pyarrow import compute, types

        width = getattr(array.type, "byte_width", 0) if types.is_fixed_size_binary(array.type) else None
        longest = compute.max(compute.binary_length(array)).as_py() if width is None else width
        if (longest or 0) > self._longest:
            raise Oversized(
                f"a value of {longest:,} bytes in column '{self._column}', and {self._longest:,} are allowed"
            )
