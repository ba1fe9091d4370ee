"""Take back what ``lsn score --move``, ``--copy`` or ``--link`` did, from the undo file it left.

The file holds JSON lines (``undolog.py``): first one about the folder DIR, then one before each change:
``action`` (folder, move, copy, link), ``source``, ``target``, and for a file its ``sha256`` and the name that
it had until it was whole. A file counts only in the DIR that it names, and only if this user's key signed it;
others have to be accepted (``unsigned``). No link in DIR is followed, nothing outside DIR is removed, nothing
is overwritten, and a file is touched only while it is what was filed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from lsncli.console import ProgressCallback, silent
from lsncli.detection.file_moves import digest_in, move_file
from lsncli.detection.undo_log import SignatureChain, key_path, read_key
from lsncli.errors import LsnError, UsageError
from lsncli.files import OpenFolder, is_temporary, temporary_name
from lsncli.signals import held_back
from lsncli.validation import parse_json

HINT = "Name the lsn-undo-*.jsonl that `lsn score --move`, `--copy` or `--link` left in its folder."
MOST_BYTES = 1 << 30
"""Of an undo file: some millions of changes."""
MOST_OF_LINE = 1 << 20
FIELDS = {
    "folder": ("target",),
    "move": ("source", "target"),
    "copy": ("source", "target", "sha256"),
    "link": ("source", "target"),
}
OPTIONAL = ("sha256", "temporary")


@dataclass(frozen=True)
class UndoEntry:
    """One line of an undo file. ``sha256`` is "" where a version before 2 moved a file."""

    action: str
    target: str
    source: str = ""
    sha256: str = ""
    temporary: str = ""


@dataclass(frozen=True)
class UndoFile:
    """What was done in ``folder``, in order, and the folders that were made for it, innermost first."""

    path: Path
    folder: str
    created: tuple[str, ...]
    changes: tuple[UndoEntry, ...]


@dataclass(frozen=True)
class Undone:
    """A change that was taken back, or the reason why it was not."""

    action: str
    path: str
    source: str
    error: str | None = None


def read_undo_file(path: Path, *, unsigned: bool = False) -> UndoFile:
    """Read and check a whole undo file, before anything is touched.

    A last line that was cut short by a kill is ignored: its change was never made. ``unsigned`` accepts a
    file that the user's key did not sign. Raises UsageError for a file that is missing or no undo file,
    LsnError for one that is not signed, was altered or lies in another folder than it names.
    """
    try:
        with OpenFolder.at(path.parent) as place, open(place.open_file(path.name), "rb") as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise OSError(f"it is larger than {MOST_BYTES >> 20} MiB")
            return _read(path, place, file, unsigned)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror or error}.", HINT) from error


def _read(path: Path, place: OpenFolder, file: IO[bytes], unsigned: bool) -> UndoFile:
    lines = _lines(path, file)
    first = next(lines, b"")
    header = _record(path, 1, first)
    version, folder, created = header.get("lsn_undo"), header.get("folder"), header.get("created")
    if version not in (1, 2) or not isinstance(folder, str) or not isinstance(created, list):
        raise UsageError(f"'{path}' is not an undo file of lsn.", HINT)
    _check_place(path, place, folder)
    chain = SignatureChain(read_key() if version == 2 else None)
    signed = chain.holds(first)
    if not signed and not unsigned:
        raise LsnError(
            f"'{path}' was not signed with your key ({key_path()}): another user, another machine or an "
            "older lsn wrote it.",
            f"See what it would do, and do it if that is right: lsn undo --unsigned {path}",
        )
    for one in created:
        if not isinstance(one, str) or not _holds(one, folder):
            raise LsnError(f"{path}, line 1: '{one}' is no folder around '{folder}'.", HINT)
    changes = []
    for number, line in enumerate(lines, start=2):
        if signed and not chain.holds(line):
            raise LsnError(
                f"{path}, line {number} is not as lsn wrote it; nothing was undone.",
                "Restore the file from a copy, or put the images back by hand.",
            )
        change = _change(path, number, line, folder)
        changes.append(change if version == 2 else _from_version_1(change))
    return UndoFile(path, folder, tuple(created), tuple(changes))


def undo_all(files: Sequence[UndoFile], progress: ProgressCallback = silent) -> Iterator[Undone]:
    """Take back the changes of several files, the first file first.

    An image that another of the files moved on is not where a file says; so files of which something was not
    undone are tried again as long as anything is. Yields what was undone, and in the end what was not.
    """
    failed: list[Undone] = []
    left = list(files)
    while left:
        again, failed, advanced = [], [], False
        for file in left:
            done = list(undo(file, progress))
            yield from (one for one in done if one.error is None)
            advanced |= any(one.error is None for one in done)
            failed += (errors := [one for one in done if one.error is not None])
            if errors:
                again.append(file)
        left, progress = (again if advanced else []), silent
    yield from failed


def undo(file: UndoFile, progress: ProgressCallback = silent) -> Iterator[Undone]:
    """Take the changes back, the last first; yields each that was there to be taken back.

    What was undone already, or never happened, is skipped. Folders that were made and are empty again are
    removed, and at the end, if nothing went wrong, the undo file too.
    """
    clean = True
    with OpenFolder.at(file.path.parent) as root:
        _check_place(file.path, root, file.folder)
        for change in reversed(file.changes):
            progress(1)
            try:
                with held_back():
                    happened = _take_back(root, file.folder, change)
                error = None
            except OSError as caught:
                happened, error = True, caught.strerror or str(caught)
            if happened:
                clean = clean and error is None
                yield Undone(change.action, change.target, change.source, error)
        if clean:
            with suppress(FileNotFoundError):
                root.remove(file.path.name)
    if clean:
        for folder in file.created:
            above, name = os.path.split(folder)
            with suppress(OSError), OpenFolder.real(above) as outer:  # not empty: something else lives there
                outer.remove_folder(name)


def _take_back(root: OpenFolder, within: str, change: UndoEntry) -> bool:
    """Whether there was anything to take back. Raises OSError with the reason why it was not."""
    with ExitStack() as stack:
        *names, name = Path(change.target).relative_to(within).parts
        try:
            folder = root
            for one in names:
                folder = stack.enter_context(folder.inside(one))
            if change.temporary:
                with suppress(FileNotFoundError):
                    folder.remove(change.temporary)
            there = folder.has(name)
        except FileNotFoundError:
            there = False
        if there:
            return UNDO[change.action](folder, name, change)
    if change.action == "move":
        _check_is_back(change)
    return False


def _move(folder: OpenFolder, name: str, change: UndoEntry) -> bool:
    above, own = os.path.split(change.source)
    digest, identity = digest_in(folder, name)
    with OpenFolder.real(above, make=True) as source:
        if source.has(own):
            # A kill between taking the name and moving the file, or between copying and removing it.
            if identity.size and not (digest == change.sha256 == digest_in(source, own)[0]):
                raise OSError(f"another file is at {change.source}: it is not overwritten")
            folder.remove(name)
            return True
        if change.sha256 not in ("", digest):
            raise OSError("changed since it was moved: it is kept")
        move_file(folder, name, source, own, identity, temporary_name(own))
    return True


def _check_is_back(change: UndoEntry) -> None:
    above, own = os.path.split(change.source)
    try:
        with OpenFolder.real(above) as source:
            is_back = change.sha256 == "" or digest_in(source, own)[0] == change.sha256
    except OSError:
        raise OSError("neither where it was moved from nor where it was moved to") from None
    if not is_back:
        raise OSError(f"no longer where it was moved to, and another file is at {change.source}")


def _copy(folder: OpenFolder, name: str, change: UndoEntry) -> bool:
    with suppress(OSError):
        if digest_in(folder, name)[0] == change.sha256:
            folder.remove(name)
            return True
    raise OSError("changed since it was copied: it is kept")


def _link(folder: OpenFolder, name: str, change: UndoEntry) -> bool:
    with suppress(OSError):
        if folder.link_target(name) == change.source:
            folder.remove(name)
            return True
    raise OSError("no longer the link that was made: it is kept")


def _folder(folder: OpenFolder, name: str, change: UndoEntry) -> bool:  # noqa: ARG001
    with suppress(OSError):  # not empty, or a file: either is fine
        folder.remove_folder(name)
    return False


UNDO: dict[str, Callable[[OpenFolder, str, UndoEntry], bool]] = {
    "folder": _folder,
    "move": _move,
    "copy": _copy,
    "link": _link,
}
"""How each action is taken back where something has its name: False if there is nothing to take back. They
raise OSError with a reason."""


def _check_place(path: Path, place: OpenFolder, folder: str) -> None:
    """Raise LsnError unless the open folder, in which the undo file lies, is the one that it names."""
    with suppress(OSError, ValueError):
        if place.is_same(os.stat(folder)):
            return
    raise LsnError(
        f"'{path}' tells of {folder}, and does not lie there: an undo file counts only where it was written.",
        "If the folder was renamed, give it its old name for this; a copied file is of no use.",
    )


def _lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """Whole lines, without their ends."""
    number = 0
    while line := file.readline(MOST_OF_LINE):
        number += 1
        if line.endswith(b"\n"):
            yield line[:-1]
        elif len(line) == MOST_OF_LINE:
            raise LsnError(f"{path}, line {number} is longer than {MOST_OF_LINE} bytes.", HINT)


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = parse_json(line)
    except ValueError as error:
        if number == 1:
            return {}
        raise LsnError(f"{path}, line {number} is not JSON: {error}.", HINT) from error
    return record if isinstance(record, dict) else {}


def _change(path: Path, number: int, line: bytes, folder: str) -> UndoEntry:
    record = _record(path, number, line)
    names = FIELDS.get(str(record.get("action")), ())
    values = {name: record.get(name) for name in names}
    values |= {name: record[name] for name in OPTIONAL if names and name in record}
    if not names or not all(isinstance(value, str) and "\0" not in value for value in values.values()):
        raise LsnError(f"{path}, line {number}: expected a change that lsn makes, found {record}.", HINT)
    change = UndoEntry(str(record["action"]), **{name: str(value) for name, value in values.items()})
    if not _holds(folder, change.target) or change.target == folder:
        raise LsnError(f"{path}, line {number}: '{change.target}' does not lie in {folder}.", HINT)
    if change.action == "move" and not os.path.isabs(change.source):
        raise LsnError(f"{path}, line {number}: '{change.source}' is not a full path.", HINT)
    if change.temporary and not is_temporary(change.temporary, os.path.basename(change.target)):
        raise LsnError(f"{path}, line {number}: '{change.temporary}' is no temporary name.", HINT)
    return change


def _from_version_1(change: UndoEntry) -> UndoEntry:
    """Version 1 wrote sources as they were typed, with links in them."""
    if change.action != "move":
        return change
    above, own = os.path.split(change.source)
    return replace(change, source=os.path.join(os.path.realpath(above), own))


def _holds(folder: str, path: str) -> bool:
    """Whether ``path``, which must be a full one without detours, is ``folder`` or lies below it."""
    full = os.path.isabs(path) and os.path.normpath(path) == path and os.path.isabs(folder)
    return full and Path(path).is_relative_to(folder)
