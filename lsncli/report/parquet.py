"""Write rows as a Parquet file (extra ``parquet``), group by group."""

from collections.abc import Iterable, Sequence
from itertools import islice
from numbers import Real
from typing import IO, Any

from lsncli.errors import Unavailable
from lsncli.report.formats import Column, Row, plain

GROUP = 65_536
"""Rows per row group."""


def check_available() -> None:
    """Raise Unavailable (exit code 5) without pyarrow."""
    _pyarrow()


def write_parquet(rows: Iterable[Row], columns: Sequence[Column], file: IO[bytes], _title: str) -> None:
    """Write rows: columns with digits as float64, flags as booleans; blanks are null.

    Any other column is text, unless all of its values in the first group are numbers or all are booleans.
    Raises Unavailable without pyarrow.
    """
    pyarrow, parquet = _pyarrow()
    stream = iter(rows)
    group = list(islice(stream, GROUP))
    schema = pyarrow.schema([(column.key, _kind(pyarrow, column, group)) for column in columns])
    with parquet.ParquetWriter(file, schema) as writer:
        while group:
            values = {
                field.name: [_value(row.get(field.name), field.type == pyarrow.string()) for row in group]
                for field in schema
            }
            writer.write_table(pyarrow.table(values, schema=schema))
            group = list(islice(stream, GROUP))


def _kind(pyarrow: Any, column: Column, rows: Sequence[Row]) -> Any:
    if column.digits is not None:
        return pyarrow.float64()
    values = [value for row in rows if (value := row.get(column.key)) is not None]
    if column.flag or (values and all(isinstance(value, bool) for value in values)):
        return pyarrow.bool_()
    numbers = values and all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
    return pyarrow.float64() if numbers else pyarrow.string()


def _value(value: Any, text: bool) -> Any:
    return str(plain(value)) if text and value is not None else plain(value)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise Unavailable(
            "Parquet needs pyarrow, which is not installed.", "pip install 'lsncli[parquet]'"
        ) from error
    return pyarrow, parquet
