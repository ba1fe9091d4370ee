"""The output file of ``lsn watch``, which is also its memory: JSON lines, one row per image path and version.

A row has the columns of ``lsn score`` and ``VERSION``. Rows are only appended, and are on disk before they
are reported. A process that is killed leaves complete rows and at most one incomplete row, which the next
start truncates. If the file is rotated or removed during a run, a new one is started at its path, so that no
row is written to a file without a name.
"""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lsncli.errors import LsnError
from lsncli.files import LINK, NO_LINK
from lsncli.locks import locked
from lsncli.validation import parse_json, validate

BEGINNING = b'{"path": "'
MOST_BYTES = 1 << 20
"""The largest row: many times the length of the longest path."""
HINT = "Name another --output: lsn watch continues only a file that it started."


class Version(NamedTuple):
    """The version of a file: its size in bytes and the times of its last changes.

    ``mtime_ns`` is the last change of the content, ``ctime_ns`` of the content or the status. A field is None
    where the file system does not provide it.
    """

    size: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None


VERSION = Version._fields
"""The columns after those of ``lsn score``."""


class WatchLog:
    """An open file of rows; ``open_log`` creates one."""

    def __init__(
        self, path: Path, handle: int, fields: Sequence[str], plain: Callable[[Any], Any], follow: bool
    ) -> None:
        self.path = path
        self._follow = follow
        self._handle, self._fields, self._plain = handle, fields, plain
        self._known: Known = {}

    def __len__(self) -> int:
        """The number of paths that have a row."""
        return len(self._known)

    def knows(self, path: str, version: Version) -> bool:
        """Return whether the last row of ``path`` is about this version of it.

        An image that was read has a new version when its size or mtime changes. One that could not be read
        also has one when its ctime changes: new permissions can make it readable.
        """
        return self._known.get(self._plain(path)) in (version[:2], version)

    def append(self, rows: Sequence[tuple[Mapping[str, Any], Version]]) -> None:
        """Write rows, with null for missing fields, and force them to disk. Raises LsnError."""
        if self._is_replaced():
            handle = _open(self.path, self._follow)
            self.close()
            self._handle = handle
            self.go_on()
        records = [
            {name: self._plain(row.get(name)) for name in self._fields} | version._asdict()
            for row, version in rows
        ]
        unwritten = memoryview("".join(json.dumps(record) + "\n" for record in records).encode())
        try:
            while unwritten:
                unwritten = unwritten[os.write(self._handle, unwritten) :]
            os.fsync(self._handle)
        except OSError as error:
            raise LsnError(
                f"{self.path} cannot be written: {error.strerror or error}.",
                "The same command continues with the images that have no row.",
            ) from error
        self._known.update(_path_and_version(record) for record in records)

    def _is_replaced(self) -> bool:
        """Return whether ``path`` is no longer the open file."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._handle))
        except OSError:
            return True

    def go_on(self) -> None:
        """Read the rows of the file and truncate an incomplete last row. Raises LsnError."""
        known, end = _read(self.path)
        os.ftruncate(self._handle, end)
        self._known.update(known)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


Known = dict[str, tuple[int | None, ...]]
"""Path to size and mtime of its last row, and ctime for an image that could not be read."""


@contextmanager
def open_log(
    path: Path, fields: Sequence[str], plain: Callable[[Any], Any], *, follow: bool = True
) -> Iterator[WatchLog]:
    """Open or create the file and hold its lock: two processes would each write every image.

    ``fields`` are the columns, ``path`` first; ``plain`` converts a value to a JSON type. A symbolic link at
    ``path`` is refused unless ``follow`` is set. Raises LsnError for a file that cannot be opened, is locked
    by another process, or was not written by ``lsn watch``, which is left unchanged.
    """
    handle = _open(path, follow)
    with ExitStack() as stack:
        log = WatchLog(path, handle, fields, plain, follow)
        stack.callback(log.close)
        try:
            stack.enter_context(locked(path))
        except LsnError as error:
            raise LsnError(error.message, "Is another lsn watch running? Name another --output.") from error
        log.go_on()
        yield log


def _open(path: Path, follow: bool) -> int:
    try:
        if not follow and path.is_symlink():
            raise OSError(f"it {LINK}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # opening a named pipe would wait for a reader
            raise FileExistsError(errno.EEXIST, "not a regular file")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if follow else NO_LINK), 0o666)
    except OSError as error:
        raise LsnError(
            f"--output {path} cannot be written: {error.strerror or error}.", "Name another file."
        ) from error


def _read(path: Path) -> tuple[Known, int]:
    """Return the last version of every path, and the offset at which the last complete row ends."""
    known: Known = {}
    end = 0
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(MOST_BYTES), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) == MOST_BYTES:
                raise _foreign_row(path, number)
            if not line.endswith(b"\n"):  # the last row: the process was killed while writing it
                if not (line.startswith(BEGINNING) or BEGINNING.startswith(line)):
                    raise _foreign_row(path, number)
                break
            try:
                name, version = _path_and_version(parse_json(line))
                known[name] = version
            except (ValueError, TypeError, KeyError) as error:
                raise _foreign_row(path, number) from error
            end += len(line)
    return known, end


def _path_and_version(record: Mapping[str, Any]) -> tuple[str, tuple[int | None, ...]]:
    version = Version(*validate(tuple[int | None, ...], [record[name] for name in VERSION], "version"))
    return validate(str, record["path"], "path"), version if record["error"] is not None else version[:2]


def _foreign_row(path: Path, number: int) -> LsnError:
    return LsnError(f"{path}, line {number}: not a row that lsn watch writes.", HINT)
