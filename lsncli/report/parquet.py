"""Rows as a Parquet file (extra ``parquet``): columns of one type, written group by group as rows come."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from lsncli.errors import LsnError, Unavailable, UsageError
from lsncli.report.render import Column, Row, plain

GROUP = 65_536
"""Rows held at a time."""


def check_parquet(output: Path | None) -> None:
    """UsageError without a file to write to, Unavailable (exit code 5) without pyarrow."""
    # A device, such as /dev/null, would be replaced by the file.
    if output is None or (os.path.exists(output) and not os.path.isfile(output)):
        raise UsageError("--format parquet is not for a terminal or a pipe.", "Name a file with --output.")
    _pyarrow()


def write_parquet(rows: Iterable[Row], columns: Sequence[Column], output: Path) -> None:
    """Write rows: columns with digits as float64, flags as booleans, all others as text; blanks are null.

    The file appears under its name when it is whole. Raises LsnError if it cannot be written, Unavailable
    without pyarrow.
    """
    pyarrow, parquet = _pyarrow()
    schema = pyarrow.schema([(column.key, _kind(pyarrow, column)) for column in columns])
    partial = output.with_name(f".{output.name}.{uuid4().hex}")
    stream = iter(rows)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
            while group := list(islice(stream, GROUP)):
                values = {column.key: [plain(row.get(column.key)) for row in group] for column in columns}
                writer.write_table(pyarrow.table(values, schema=schema))
        os.replace(partial, output)
    except OSError as error:
        raise LsnError(
            f"--output {output} cannot be written: {error.strerror or error}.", "Name another file."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _kind(pyarrow: Any, column: Column) -> Any:
    if column.digits is not None:
        return pyarrow.float64()
    return pyarrow.bool_() if column.flag else pyarrow.string()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise Unavailable(
            "Parquet needs pyarrow, which is not installed.", "pip install 'lsncli[parquet]'"
        ) from error
    return pyarrow, parquet
