"""What ``lsn watch`` has written is all it remembers: JSON lines, a row an image, known by path and version.

A row holds the columns of ``lsn score`` and ``VERSION``. Rows are only ever appended and are on the disk
before anybody reads them, so that a kill at any moment leaves whole rows and at most a piece of one, which
the next start cuts off. A file that is taken away meanwhile (rotated, removed) is begun anew, so that no row
goes to where nobody looks for it.
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
"""Of a row: many times what the longest path takes."""
HINT = "Name another --output: only a file that lsn watch began is gone on with."


class Version(NamedTuple):
    """Which state of a file was looked at: bytes, and when content and, by ``ctime_ns``, anything changed.

    None where the file system would not tell.
    """

    size: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None


VERSION = Version._fields
"""The columns behind those of ``lsn score``."""


class WatchLog:
    """An open file of rows; ``open_log`` makes one."""

    def __init__(
        self, path: Path, handle: int, fields: Sequence[str], plain: Callable[[Any], Any], follow: bool
    ) -> None:
        self.path = path
        self._follow = follow
        self._handle, self._fields, self._plain = handle, fields, plain
        self._known: Known = {}

    def __len__(self) -> int:
        """Paths that have a row."""
        return len(self._known)

    def knows(self, path: str, version: Version) -> bool:
        """Whether the last row of ``path`` is about this version of it.

        An image that was read is another one when size or time changed; one that was not could also be
        readable since its permissions or its folder did.
        """
        return self._known.get(self._plain(path)) in (version[:2], version)

    def append(self, rows: Sequence[tuple[Mapping[str, Any], Version]]) -> None:
        """Write rows, fields that they lack as null, and wait until the disk has them. Raises LsnError."""
        if self._moved():
            handle = _open(self.path, self._follow)
            self.close()
            self._handle = handle
            self.go_on()
        records = [
            {name: self._plain(row.get(name)) for name in self._fields} | version._asdict()
            for row, version in rows
        ]
        left = memoryview("".join(json.dumps(record) + "\n" for record in records).encode())
        try:
            while left:
                left = left[os.write(self._handle, left) :]
            os.fsync(self._handle)
        except OSError as error:
            raise LsnError(
                f"{self.path} cannot be written: {error.strerror or error}.",
                "The same command goes on with what is not in it.",
            ) from error
        self._known.update(_known(record) for record in records)

    def _moved(self) -> bool:
        """Whether ``path`` is not the open file any more."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._handle))
        except OSError:
            return True

    def go_on(self) -> None:
        """Learn the rows that the file has, and cut off what a kill left of one. Raises LsnError."""
        known, end = _read(self.path)
        os.ftruncate(self._handle, end)
        self._known.update(known)

    def close(self) -> None:
        """Write no more."""
        os.close(self._handle)


Known = dict[str, tuple[int | None, ...]]
"""Size and mtime of the last row of a path, and for an image that could not be read ctime."""


@contextmanager
def open_log(
    path: Path, fields: Sequence[str], plain: Callable[[Any], Any], *, follow: bool = True
) -> Iterator[WatchLog]:
    """Open or begin the file and hold its lock: two that watch would each write all images.

    ``fields`` are the columns, ``path`` first; ``plain`` makes a value one that JSON has. A symbolic link at
    ``path`` is refused unless it is to be followed (``follow``). Raises LsnError for a file that cannot be
    opened, is held by another process or is not of ``lsn watch``; that one stays as it is.
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
    """The last version of every path, and where the last whole row ends."""
    known: Known = {}
    end = 0
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(MOST_BYTES), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) == MOST_BYTES:
                raise _foreign(path, number)
            if not line.endswith(b"\n"):  # the last: a kill came while it was written
                if not (line.startswith(BEGINNING) or BEGINNING.startswith(line)):
                    raise _foreign(path, number)
                break
            try:
                name, version = _known(parse_json(line))
                known[name] = version
            except (ValueError, TypeError, KeyError) as error:
                raise _foreign(path, number) from error
            end += len(line)
    return known, end


def _known(record: Mapping[str, Any]) -> tuple[str, tuple[int | None, ...]]:
    version = Version(*validate(tuple[int | None, ...], [record[name] for name in VERSION], "version"))
    return validate(str, record["path"], "path"), version if record["error"] is not None else version[:2]


def _foreign(path: Path, number: int) -> LsnError:
    return LsnError(f"{path}, line {number}: not a row that lsn watch writes.", HINT)
