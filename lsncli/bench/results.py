"""Results on the disk: JSON Lines, each record appended and flushed at once, and read back by key.

A record is a measured method on one OOD set: ``suite``, ``table``, ``row``, ``id``, ``ood``, ``split``,
``seed``, the metrics as fractions, provenance, and ``key``, a digest of everything that the metrics depend
on. A record serves every table that needs a result with its key.
"""

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsncli.errors import LsnError
from lsncli.validation import parse_json

Record = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """A file of records. It may be missing."""

    path: Path

    def read(self) -> dict[str, Record]:
        """Return the records by key, the last one for each key. Incomplete lines are skipped."""
        return {record["key"]: record for record in self.lines() if isinstance(record.get("key"), str)}

    def lines(self) -> Iterator[Record]:
        """Yield every complete line that is a JSON object. Raises LsnError if the file cannot be read."""
        if not self.path.is_file():
            return
        with _named_errors(self.path, "read"):
            content = self.path.read_bytes()
        # What follows the last line end was being written when a process was killed.
        for line in content[: content.rfind(b"\n") + 1].splitlines():
            try:
                record = parse_json(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records and wait until they are on the disk; a last line that a kill cut short is removed.

        Raises LsnError if the file cannot be written.
        """
        data = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records).encode("ascii")
        with _named_errors(self.path, "written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                _drop_torn_line(file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean, and the standard deviation of a sample (n - 1) or None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _drop_torn_line(handle: int) -> None:
    """Truncate the file after its last line end."""
    end = size = os.fstat(handle).st_size
    while end:
        start = max(0, end - 4096)
        os.lseek(handle, start, os.SEEK_SET)
        newline = os.read(handle, end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)


@contextmanager
def _named_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LsnError(f"{path} cannot be {what}: {error.strerror or error}.") from error
