"""Undo the changes of ``lsn score --move``, ``--copy`` or ``--link``, as recorded in their undo file.

The file holds JSON lines (``undo_log.py``): a header about the folder DIR, then a line for each change,
written before it: ``action`` (folder, move, copy, link), ``source``, ``target``, and for a file its
``sha256`` and its temporary name. An undo file is valid only in the DIR that it names, and only if this
user's key signed it; others must be accepted explicitly (``unsigned``). No link in DIR is followed, nothing
outside DIR is removed, nothing is overwritten, and a file is changed only if its content is what was sorted.
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
"""The largest undo file: some millions of changes."""
MOST_OF_LINE = 1 << 20
"""The longest line, in bytes."""
FIELDS = {
    "folder": ("target",),
    "move": ("source", "target"),
    "copy": ("source", "target", "sha256"),
    "link": ("source", "target"),
}
OPTIONAL = ("sha256", "temporary")


@dataclass(frozen=True)
class UndoEntry:
    """One change of an undo file. ``sha256`` is "" for a move in a file of version 1."""

    action: str
    target: str
    source: str = ""
    sha256: str = ""
    temporary: str = ""


@dataclass(frozen=True)
class UndoFile:
    """The changes made in ``folder``, in order, and the folders created for them, innermost first."""

    path: Path
    folder: str
    created: tuple[str, ...]
    changes: tuple[UndoEntry, ...]


@dataclass(frozen=True)
class Undone:
    """The result of undoing one change; ``error`` is the reason if that failed."""

    action: str
    path: str
    source: str
    error: str | None = None


def read_undo_file(path: Path, *, unsigned: bool = False) -> UndoFile:
    """Read and check a whole undo file, before any change is undone.

    An incomplete last line (the process was killed) is ignored: its change was never made. ``unsigned``
    accepts a file that the user's key did not sign. Raises UsageError for a file that is missing or not an
    undo file, LsnError for one that is not signed, was altered, or is in another folder than it names.
    """
    try:
        with OpenFolder.at(path.parent) as parent, open(parent.open_file(path.name), "rb") as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise OSError(f"it is larger than {MOST_BYTES >> 20} MiB")
            return _read(path, parent, file, unsigned)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror or error}.", HINT) from error


def _read(path: Path, parent: OpenFolder, file: IO[bytes], unsigned: bool) -> UndoFile:
    lines = _lines(path, file)
    first = next(lines, b"")
    header = _record(path, 1, first)
    version, folder, created = header.get("lsn_undo"), header.get("folder"), header.get("created")
    if version not in (1, 2) or not isinstance(folder, str) or not isinstance(created, list):
        raise UsageError(f"'{path}' is not an undo file of lsn.", HINT)
    _check_folder(path, parent, folder)
    chain = SignatureChain(read_key() if version == 2 else None)
    signed = chain.holds(first)
    if not signed and not unsigned:
        raise LsnError(
            f"'{path}' was not signed with your key ({key_path()}): another user, another machine or an "
            "older lsn wrote it.",
            f"See what it would do, and do it if that is right: lsn undo --unsigned {path}",
        )
    for outer in created:
        if not isinstance(outer, str) or not _is_within(outer, folder):
            raise LsnError(f"{path}, line 1: '{outer}' is no folder around '{folder}'.", HINT)
    changes = []
    for number, line in enumerate(lines, start=2):
        if signed and not chain.holds(line):
            raise LsnError(
                f"{path}, line {number} is not as lsn wrote it; nothing was undone.",
                "Restore the file from a copy, or put the images back by hand.",
            )
        change = _parse_change(path, number, line, folder)
        changes.append(change if version == 2 else _from_version_1(change))
    return UndoFile(path, folder, tuple(created), tuple(changes))


def undo_all(files: Sequence[UndoFile], progress: ProgressCallback = silent) -> Iterator[Undone]:
    """Undo the changes of several files, starting with the first file.

    A later run can have moved an image again, so that it is not where the file of an earlier run says. Files
    with failures are therefore retried for as long as any change is undone. Yields the changes that were
    undone, then the failures.
    """
    failed: list[Undone] = []
    pending = list(files)
    while pending:
        retry, failed, advanced = [], [], False
        for file in pending:
            results = list(undo(file, progress))
            undone = [result for result in results if result.error is None]
            errors = [result for result in results if result.error is not None]
            yield from undone
            advanced |= bool(undone)
            failed += errors
            if errors:
                retry.append(file)
        pending, progress = (retry if advanced else []), silent
    yield from failed


def undo(file: UndoFile, progress: ProgressCallback = silent) -> Iterator[Undone]:
    """Undo the changes of one file, the last change first; yield the result of each.

    A change that was undone before, or never happened, is skipped. Folders that were created and are empty
    again are removed, and, if nothing failed, the undo file too.
    """
    clean = True  # no change has failed
    with OpenFolder.at(file.path.parent) as root:
        _check_folder(file.path, root, file.folder)
        for change in reversed(file.changes):
            progress(1)
            try:
                with held_back():
                    happened = _undo_change(root, file.folder, change)
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
            parent, name = os.path.split(folder)
            with suppress(OSError), OpenFolder.real(parent) as outer:  # it can hold other files
                outer.remove_folder(name)


def _undo_change(root: OpenFolder, within: str, change: UndoEntry) -> bool:
    """Undo a change and return whether there was anything to undo. Raises OSError with the reason."""
    with ExitStack() as stack:
        *names, name = Path(change.target).relative_to(within).parts
        try:
            folder = root
            for inner in names:
                folder = stack.enter_context(folder.inside(inner))
            if change.temporary:
                with suppress(FileNotFoundError):
                    folder.remove(change.temporary)
            exists = folder.has(name)
        except FileNotFoundError:
            exists = False
        if exists:
            return UNDO[change.action](folder, name, change)
    if change.action == "move":
        _check_moved_back(change)
    return False


def _move(folder: OpenFolder, name: str, change: UndoEntry) -> bool:
    parent, own = os.path.split(change.source)
    digest, identity = digest_in(folder, name)
    with OpenFolder.real(parent, make=True) as source:
        if source.has(own):
            # The process was killed after it took the name, or after the copy, before it removed the file.
            if identity.size and not (digest == change.sha256 == digest_in(source, own)[0]):
                raise OSError(f"another file is at {change.source}: it is not overwritten")
            folder.remove(name)
            return True
        if change.sha256 not in ("", digest):
            raise OSError("changed since it was moved: it is kept")
        move_file(folder, name, source, own, identity, temporary_name(own))
    return True


def _check_moved_back(change: UndoEntry) -> None:
    """Raise OSError unless the file of a move is at its source again."""
    parent, own = os.path.split(change.source)
    try:
        with OpenFolder.real(parent) as source:
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
"""The function that undoes each action where its target exists. It returns False if there is nothing to undo,
and raises OSError with a reason."""


def _check_folder(path: Path, parent: OpenFolder, folder: str) -> None:
    """Raise LsnError unless ``parent``, the open folder of the undo file, is the ``folder`` that it names."""
    with suppress(OSError, ValueError):
        if parent.is_same(os.stat(folder)):
            return
    raise LsnError(
        f"'{path}' tells of {folder}, and does not lie there: an undo file counts only where it was written.",
        "If the folder was renamed, give it its old name for this; a copied file is of no use.",
    )


def _lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """Yield the complete lines, without their line ends."""
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


def _parse_change(path: Path, number: int, line: bytes, folder: str) -> UndoEntry:
    record = _record(path, number, line)
    names = FIELDS.get(str(record.get("action")), ())
    values = {name: record.get(name) for name in names}
    values |= {name: record[name] for name in OPTIONAL if names and name in record}
    if not names or not all(isinstance(value, str) and "\0" not in value for value in values.values()):
        raise LsnError(f"{path}, line {number}: expected a change that lsn makes, found {record}.", HINT)
    change = UndoEntry(str(record["action"]), **{name: str(value) for name, value in values.items()})
    if not _is_within(folder, change.target) or change.target == folder:
        raise LsnError(f"{path}, line {number}: '{change.target}' does not lie in {folder}.", HINT)
    if change.action == "move" and not os.path.isabs(change.source):
        raise LsnError(f"{path}, line {number}: '{change.source}' is not a full path.", HINT)
    if change.temporary and not is_temporary(change.temporary, os.path.basename(change.target)):
        raise LsnError(f"{path}, line {number}: '{change.temporary}' is no temporary name.", HINT)
    return change


def _from_version_1(change: UndoEntry) -> UndoEntry:
    """Convert a change of version 1, which recorded sources as typed, links included."""
    if change.action != "move":
        return change
    parent, own = os.path.split(change.source)
    return replace(change, source=os.path.join(os.path.realpath(parent), own))


def _is_within(folder: str, path: str) -> bool:
    """Return whether ``path`` is absolute and normalised, and is ``folder`` or lies below it."""
    full = os.path.isabs(path) and os.path.normpath(path) == path and os.path.isabs(folder)
    return full and Path(path).is_relative_to(folder)
