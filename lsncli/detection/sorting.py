"""Sort scored images into folders: DIR/ood and one folder per class. Plan first; every change can be undone.

An image that changed after it was scored is not sorted. No file is overwritten: if a name is taken, the new
file gets a number. No link in DIR is followed. Each change is recorded in an undo file before it is made
(``undo.py`` reads it). An image inside a tar or table is copied, whatever the action. File names are valid on
every file system.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from lsncli.console import ProgressCallback, silent
from lsncli.detection.detect import shown_path
from lsncli.detection.file_moves import as_binary, digest_in, keep_status, move_file
from lsncli.detection.undo_log import UndoLog
from lsncli.files import OpenFolder, temporary_name
from lsncli.images.file_identity import CHANGED, FileIdentity, ImageDigest, digest_of
from lsncli.images.item import ImageItem
from lsncli.images.read import Undecodable
from lsncli.images.remote import as_url
from lsncli.signals import held_back
from lsncli.types import Failure

NAME_BYTES = 255
"""The longest file name that nearly every file system supports."""
FOLDER_BYTES = 100
FORBIDDEN = frozenset('/\\:*?"<>|')
"""Characters that some system reads as a separator, a drive or a pattern."""
DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{digit}" for kind in ("com", "lpt") for digit in "123456789")}
)
"""Names that Windows reserves for devices, with any extension."""


def safe_name(text: str, limit: int = NAME_BYTES) -> str:
    """Return ``text`` as a safe name of one file or folder, of at most ``limit`` bytes and never empty.

    Separators, wildcards and unprintable characters (terminal escapes) become '_'. So do a leading dot or
    dash, which would hide the file or look like an option, and dots and spaces at the end.
    """
    name = "".join(c if c.isprintable() and c not in FORBIDDEN else "_" for c in text).strip()
    name = cut(name, limit)
    if name[:1] in (".", "-"):
        name = "_" + name[1:]
    bare = name.rstrip(". ")
    name = bare + "_" * bool(bare != name)
    if not name or name.partition(".")[0].casefold().rstrip() in DEVICES:
        name = "_" + cut(name, limit - 1)
    return name


def folder_names(classes: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Return a folder name for every class.

    No two are alike, not even where case does not count, and none is in ``taken``.
    """
    used = {name.casefold() for name in taken}
    folders: dict[str, str] = {}
    for name in classes:
        folder = base = safe_name(name, FOLDER_BYTES)
        count = 1
        while folder.casefold() in used:
            count += 1
            folder = f"{base}-{count}"
        used.add(folder.casefold())
        folders[name] = folder
    return folders


def numbered(name: str, number: int) -> str:
    """Insert a number before the extension: a.jpg becomes a-2.jpg. Shorten a stem that is too long."""
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    end = f"-{number}{dot}{extension}"
    return cut(stem, max(1, NAME_BYTES - len(os.fsencode(end)))) + end


def cut(text: str, limit: int) -> str:
    """Return the longest prefix of ``text`` of at most ``limit`` bytes that ends with a whole character."""
    text = text[:limit]
    while len(os.fsencode(text)) > limit:
        text = text[:-1]
    return text


Action = Literal["move", "copy", "link"]
OOD = "ood"
"""The folder of OOD images; a class of that name gets another folder."""


class Filing:
    """The plan of where each image goes. It changes nothing on disk; ``carry_out`` does."""

    def __init__(self, action: Action, folder: Path, classes: Sequence[str]) -> None:
        self.action, self.folder = action, Path(os.path.realpath(folder))
        self.planned: list[tuple[ImageItem, str]] = []
        self.counts: Counter[str] = Counter()
        """The number of images of each target folder."""
        self.there = self.links = 0
        """Images that are already in their target folder, and symbolic links, which are not moved."""
        self._shown = folder
        self._folders = folder_names(classes, (OOD,))
        self._next: dict[str, int] = {}
        self._moved: dict[str, str] = {}
        self._real = cache(os.path.realpath)

    def place(self, item: ImageItem, predicted: str, is_ood: bool) -> str | None:
        """Plan an image and return its target path as shown to the user; None if it stays where it is."""
        name = OOD if is_ood else self._folders[predicted]
        target = self._plan_item(item, name)
        return None if target is None else os.path.join(self._shown, name, os.path.basename(target))

    def _plan_item(self, item: ImageItem, name: str) -> str | None:
        folder = os.path.join(self.folder, name)
        if item.offset is not None:
            return self._add(item, name, self._free_path(folder, safe_name(item.key.rpartition("/")[2])))
        own = os.path.basename(item.path)
        parent = self._real(os.path.dirname(os.path.abspath(item.path)))
        if parent == self._real(folder):
            self.there += 1
            return None
        if self.action != "move":
            return self._add(item, name, self._free_path(folder, own))
        if os.path.islink(item.path):
            self.links += 1
            return None
        path = os.path.join(parent, own)  # a file can be listed twice, or be reached through a linked folder
        if path not in self._moved:
            self._moved[path] = self._add(item, name, self._free_path(folder, own))
        return self._moved[path]

    def source(self, item: ImageItem) -> tuple[str, str]:
        """Return the folder of a planned file, without links at the time of planning, and the file's name."""
        folder, name = os.path.split(os.path.abspath(item.path))
        return self._real(folder), name

    def _add(self, item: ImageItem, name: str, target: str) -> str:
        self.planned.append((item, target))
        self.counts[name] += 1
        return target

    def _free_path(self, folder: str, name: str) -> str:
        """Return a path in ``folder`` that neither exists nor is planned."""
        first = target = os.path.join(folder, name)
        number = self._next.get(first.casefold(), 1)
        while target.casefold() in self._next or os.path.lexists(target):
            number += 1
            target = os.path.join(folder, numbered(name, number))
        self._next[first.casefold()] = number
        self._next.setdefault(target.casefold(), 1)
        return target


@dataclass
class Outcome:
    """The number of images that were sorted, and the failures of the others."""

    done: int = 0
    failures: list[Failure] = field(default_factory=list)


def carry_out(filing: Filing, log: UndoLog, progress: ProgressCallback = silent) -> Outcome:
    """Move, copy or link the planned images one by one; a failure does not stop the others.

    The images must be of a ``witnessed`` listing: an image that changed after it was scored is a failure.
    ``log`` is a new undo file in DIR. ``progress`` is called with the number of images done. Ctrl-C takes
    effect between two images.
    """
    outcome = Outcome()
    with OpenFolder.real(filing.folder) as root:
        for item, target in filing.planned:
            try:
                with held_back():
                    _sort_item(filing, item, target, root, log)
                outcome.done += 1
            except OSError as error:
                outcome.failures.append(Failure(shown_path(item), error.strerror or str(error)))
            except Undecodable as error:
                outcome.failures.append(Failure(shown_path(item), error.message))
            progress(1)
    return outcome


def _sort_item(filing: Filing, item: ImageItem, target: str, root: OpenFolder, log: UndoLog) -> None:
    """Sort one image, under the next free number if ``target`` was taken after it was planned."""
    witness = digest_of(item)
    folder_path, first = os.path.split(target)
    act = ACTIONS[filing.action if witness.is_file else "copy"]
    with _class_folder(root, os.path.basename(folder_path), log) as folder:
        name, number = first, 1
        while True:
            try:
                act(filing, witness, folder, name, log)
                return
            except FileExistsError:
                number += 1
                name = numbered(first, number)


def _copy(_filing: Filing, witness: ImageDigest, folder: OpenFolder, name: str, log: UndoLog) -> None:
    item, data = witness.item, witness.read_again()
    source = item.path if as_url(item.path) else os.path.abspath(item.path)
    shown = source if item.member is None else f"{source}:{item.member}"
    temporary = temporary_name(name)
    target = os.path.join(folder.path, name)
    log.note(action="copy", source=shown, target=target, sha256=witness.digest, temporary=temporary)
    with folder.writing(name, as_binary, temporary=temporary) as file:
        file.write(data)
        if witness.is_file:
            keep_status(file, os.stat(source))


def _move(filing: Filing, witness: ImageDigest, folder: OpenFolder, name: str, log: UndoLog) -> None:
    source_path, own = filing.source(witness.item)
    with OpenFolder.real(source_path) as source:
        identity = _check_unchanged(witness, source, own)
        temporary = temporary_name(name)
        log.note(
            action="move",
            source=os.path.join(source_path, own),
            target=os.path.join(folder.path, name),
            sha256=witness.digest,
            temporary=temporary,
        )
        move_file(source, own, folder, name, identity, temporary)


def _link(_filing: Filing, witness: ImageDigest, folder: OpenFolder, name: str, log: UndoLog) -> None:
    source = os.path.abspath(witness.item.path)
    if FileIdentity.of(os.stat(source)) != witness.identity:
        witness.read_again()
    log.note(action="link", source=source, target=os.path.join(folder.path, name))
    folder.make_link(source, name)


ACTIONS = {"move": _move, "copy": _copy, "link": _link}


def _check_unchanged(witness: ImageDigest, source: OpenFolder, name: str) -> FileIdentity:
    """Return the identity of a file. Raises OSError if its content is not what was scored."""
    identity = FileIdentity.of(source.status(name))
    if identity == witness.identity:
        return identity
    # A rename or a chmod changes the ctime, and a file can be replaced by an equal one.
    digest, identity = digest_in(source, name)
    if digest != witness.digest:
        raise OSError(CHANGED)
    return identity


def _class_folder(root: OpenFolder, name: str, log: UndoLog) -> OpenFolder:
    """Open a folder in DIR, created if missing. Raises OSError for a link, which is not followed."""
    if not root.has(name):
        log.note(action="folder", target=os.path.join(root.path, name))
    return root.inside(name, make=True)
