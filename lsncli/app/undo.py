"""Take back what ``lsn score --move``, ``--copy`` or ``--link`` did, from the undo file it left.

The file holds JSON lines: first ``{"lsn_undo": 1, "folder": DIR, "created": [DIR and the folders around it
that were made]}``, then one line before each change: ``action`` (folder, move, copy, link), ``source``,
``target`` and for a copy its ``sha256``. It is data, not a program: nothing outside DIR is removed, nothing
is overwritten, and a copy is removed only while it is what was copied.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from lsncli.app.filing import move_file
from lsncli.console import Tick, silent
from lsncli.errors import LsnError, UsageError
from lsncli.interrupts import held_back

HINT = "Name the lsn-undo-*.jsonl that `lsn score --move`, `--copy` or `--link` left in its folder."
FIELDS = {
    "folder": ("target",),
    "move": ("source", "target"),
    "copy": ("source", "target", "sha256"),
    "link": ("source", "target"),
}


@dataclass(frozen=True)
class Change:
    """One line of an undo file."""

    action: str
    target: str
    source: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class UndoFile:
    """What was done in ``folder``, in order, and the folders that were made for it, innermost first."""

    path: Path
    folder: str
    created: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Undone:
    """A change that was taken back, or the reason why it was not."""

    action: str
    path: str
    source: str
    error: str | None = None


def read_undo_file(path: Path) -> UndoFile:
    """Read and check a whole undo file, before anything is touched.

    A last line that was cut short by a kill is passed over: its change was never made. Raises UsageError for
    a file that is not there or is none, LsnError for a line that cannot be meant.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}.", HINT) from error
    header = _record(path, 1, lines[0]) if lines else {}
    folder, created = header.get("folder"), header.get("created")
    if header.get("lsn_undo") != 1 or not isinstance(folder, str) or not isinstance(created, list):
        raise UsageError(f"'{path}' is not an undo file of lsn.", HINT)
    for one in created:
        if not isinstance(one, str) or not _holds(one, folder):
            raise LsnError(f"{path}, line 1: '{one}' is no folder around '{folder}'.", HINT)
    changes = tuple(_change(path, number, line, folder) for number, line in enumerate(lines[1:], start=2))
    return UndoFile(path, folder, tuple(created), changes)


def undo(file: UndoFile, tick: Tick = silent) -> Iterator[Undone]:
    """Take the changes back, the last first; yields each that was there to be taken back.

    What was undone already, or never happened, is passed over. Folders that were made and are empty again are
    removed, and at the end, if nothing went wrong, the undo file too.
    """
    clean = True
    for change in reversed(file.changes):
        tick(1)
        try:
            with held_back():
                happened = UNDO[change.action](change)
            error = None
        except OSError as caught:
            happened, error = True, caught.strerror or str(caught)
        if happened:
            clean = clean and error is None
            yield Undone(change.action, change.target, change.source, error)
    if clean:
        file.path.unlink(missing_ok=True)
        for folder in file.created:
            with suppress(OSError):  # not empty: something else lives there
                os.rmdir(folder)


def _move(change: Change) -> bool:
    if not os.path.lexists(change.target):
        return _gone(os.path.lexists(change.source))
    if os.path.lexists(change.source):
        if os.path.getsize(change.target) == 0:  # a kill between taking the name and moving the file
            os.unlink(change.target)
            return True
        raise OSError(f"another file is at {change.source}: it is not overwritten")
    os.makedirs(os.path.dirname(change.source), exist_ok=True)
    move_file(change.target, change.source)
    return True


def _gone(is_back: bool) -> bool:
    if not is_back:
        raise OSError("neither where it was moved from nor where it was moved to")
    return False


def _copy(change: Change) -> bool:
    if not os.path.lexists(change.target):
        return False
    if os.path.isfile(change.target) and not os.path.islink(change.target):
        with open(change.target, "rb") as file:
            same = file_digest(file, "sha256").hexdigest() == change.sha256
        if same:
            os.unlink(change.target)
            return True
    raise OSError("changed since it was copied: it is kept")


def _link(change: Change) -> bool:
    if not os.path.lexists(change.target):
        return False
    if not os.path.islink(change.target) or os.readlink(change.target) != change.source:
        raise OSError("no longer the link that was made: it is kept")
    os.unlink(change.target)
    return True


def _folder(change: Change) -> bool:
    with suppress(OSError):  # not empty, or gone: either is fine
        os.rmdir(change.target)
    return False


UNDO: dict[str, Callable[[Change], bool]] = {
    "folder": _folder,
    "move": _move,
    "copy": _copy,
    "link": _link,
}
"""How each action is taken back: False if there is nothing to take back. They raise OSError with a reason."""


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        if number == 1:
            return {}
        raise LsnError(f"{path}, line {number} is not JSON: {error}.", HINT) from error
    return record if isinstance(record, dict) else {}


def _change(path: Path, number: int, line: bytes, folder: str) -> Change:
    record = _record(path, number, line)
    names = FIELDS.get(str(record.get("action")), ())
    values = {name: record.get(name) for name in names}
    if not names or not all(isinstance(value, str) and "\0" not in value for value in values.values()):
        raise LsnError(f"{path}, line {number}: expected a change that lsn makes, found {record}.", HINT)
    if not _holds(folder, str(values["target"])) or values["target"] == folder:
        raise LsnError(f"{path}, line {number}: '{values['target']}' does not lie in {folder}.", HINT)
    if record["action"] == "move" and not os.path.isabs(str(values["source"])):
        raise LsnError(f"{path}, line {number}: '{values['source']}' is not a full path.", HINT)
    return Change(str(record["action"]), **{name: str(value) for name, value in values.items()})


def _holds(folder: str, path: str) -> bool:
    """Whether ``path``, which must be a full one without detours, is ``folder`` or lies below it."""
    full = os.path.isabs(path) and os.path.normpath(path) == path and os.path.isabs(folder)
    return full and Path(path).is_relative_to(folder)
