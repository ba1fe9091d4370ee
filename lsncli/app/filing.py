"""Sort scored images into folders: DIR/ood and one folder a class. Planned first, and it can be undone.

Nothing is overwritten: a name that is taken gets a number. Every change is written into an undo file before
it is made (``undo.py`` reads it). What is no file of its own is copied out, whatever the action.
"""

import errno
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TextIO

from lsncli.app.detect import shown_path
from lsncli.app.filenames import folder_names, numbered, safe_name
from lsncli.console import Tick, silent
from lsncli.errors import LsnError
from lsncli.images.read import Undecodable, read_bytes
from lsncli.images.sources import ImageItem
from lsncli.images.urls import as_url
from lsncli.interrupts import held_back
from lsncli.types import Failure

Action = Literal["move", "copy", "link"]
OOD = "ood"
"""The folder of OOD images; a class of that name gets another."""
Note = Callable[..., None]
"""Writes one line of the undo file, and sees that it is written."""


class Filing:
    """Where each image will go. Nothing is touched before ``carry_out``."""

    def __init__(self, action: Action, folder: Path, classes: Sequence[str]) -> None:
        self.action, self.folder = action, Path(os.path.abspath(folder))
        self.planned: list[tuple[ImageItem, str]] = []
        self.counts: Counter[str] = Counter()
        """Images by the folder they will go to."""
        self.there = self.links = 0
        """Images that lie where they would go, and symbolic links, which are not moved: they stay."""
        self._shown = folder
        self._folders = folder_names(classes, (OOD,))
        self._next: dict[str, int] = {}
        self._moved: dict[str, str] = {}
        self._real = cache(os.path.realpath)

    def place(self, item: ImageItem, predicted: str, is_ood: bool) -> str | None:
        """Plan an image, and say where it will go; None if it stays where it is."""
        name = OOD if is_ood else self._folders[predicted]
        target = self._place(item, name)
        return None if target is None else os.path.join(self._shown, name, os.path.basename(target))

    def _place(self, item: ImageItem, name: str) -> str | None:
        folder = os.path.join(self.folder, name)
        if item.offset is not None:
            return self._plan(item, name, self._free(folder, safe_name(item.key.rpartition("/")[2])))
        own = os.path.basename(item.path)
        where = self._real(os.path.dirname(os.path.abspath(item.path)))
        if where == self._real(folder):
            self.there += 1
            return None
        if self.action != "move":
            return self._plan(item, name, self._free(folder, own))
        if os.path.islink(item.path):
            self.links += 1
            return None
        known = os.path.join(where, own)  # a file can be named twice, or be reached by way of a linked folder
        if known not in self._moved:
            self._moved[known] = self._plan(item, name, self._free(folder, own))
        return self._moved[known]

    def _plan(self, item: ImageItem, name: str, target: str) -> str:
        self.planned.append((item, target))
        self.counts[name] += 1
        return target

    def _free(self, folder: str, name: str) -> str:
        """A path in ``folder`` that neither exists nor is planned."""
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
    """How many images went where they should, and which did not and why."""

    done: int = 0
    failures: list[Failure] = field(default_factory=list)


def start_undo_file(filing: Filing) -> Path:
    """Make DIR and in it a new undo file. Raises LsnError if that cannot be."""
    folder = filing.folder
    created = [str(one) for one in (folder, *folder.parents) if not os.path.exists(one)]
    number, stamp = 1, time.strftime("%Y%m%d-%H%M%S")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / f"lsn-undo-{stamp}{f'-{number}' if number > 1 else ''}.jsonl"
            try:
                with path.open("x", encoding="ascii") as file, _removed_on_failure(path):
                    _note(file, lsn_undo=1, folder=str(folder), created=created)
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise LsnError(
            f"Images cannot be sorted into {folder}: {error.strerror}.", "Name another folder."
        ) from error


def carry_out(filing: Filing, undo: Path, tick: Tick = silent) -> Outcome:
    """Do what was planned, image by image; one that cannot be moved, copied or linked does not stop the rest.

    ``undo`` is the file of ``start_undo_file``. ``tick`` hears of images. Ctrl-C is heard between two images.
    """
    outcome = Outcome()
    with _undo_file(undo) as file:
        note = partial(_note, file)
        for item, target in filing.planned:
            try:
                with held_back():
                    _make_folder(os.path.dirname(target), note)
                    _file(item, target, filing.action, note)
                outcome.done += 1
            except OSError as error:
                outcome.failures.append(Failure(shown_path(item), error.strerror or str(error)))
            except Undecodable as error:
                outcome.failures.append(Failure(shown_path(item), error.message))
            tick(1)
    return outcome


@contextmanager
def _undo_file(path: Path) -> Iterator[TextIO]:
    """The undo file, open at its end. If the disk is full, closing it fails as well, over a line whose change
    was not made."""
    file = path.open("a", encoding="ascii")
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def move_file(source: str, target: str) -> None:
    """Move a file, to another disk if need be, to a name that nothing has. Raises OSError.

    Renaming would overwrite: the name is taken first, by an empty file of ours.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            os.unlink(target)
            raise
        with _removed_on_failure(target):
            shutil.copy2(source, target)
            with open(target, "rb+") as file:
                os.fsync(file.fileno())
        os.unlink(source)


def _file(item: ImageItem, target: str, action: Action, note: Note) -> None:
    """One image; if something appeared at ``target`` since it was planned, under the next free number."""
    folder, name = os.path.split(target)
    source = os.path.abspath(item.path)
    number = 1
    while True:
        try:
            if item.offset is not None or action == "copy":
                _copy(item, target, note)
            elif action == "move":
                note(action="move", source=source, target=target)
                move_file(source, target)
            else:
                note(action="link", source=source, target=target)
                os.symlink(source, target)
            return
        except FileExistsError:
            number += 1
            target = os.path.join(folder, numbered(name, number))


def _copy(item: ImageItem, target: str, note: Note) -> None:
    data = read_bytes(item)
    source = item.path if as_url(item.path) else os.path.abspath(item.path)
    shown = source if item.member is None else f"{source}:{item.member}"
    note(action="copy", source=shown, target=target, sha256=sha256(data).hexdigest())
    with open(target, "xb") as file, _removed_on_failure(target):
        file.write(data)
    if item.offset is None:
        with suppress(OSError):  # the time and mode are a courtesy
            shutil.copystat(source, target)


@contextmanager
def _removed_on_failure(target: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        os.unlink(target)
        raise


def _make_folder(folder: str, note: Note) -> None:
    if os.path.isdir(folder):
        return
    if os.path.lexists(folder):
        raise OSError(f"{folder} is not a folder")
    note(action="folder", target=folder)
    os.mkdir(folder)


def _note(file: TextIO, **fields: Any) -> None:
    """ASCII, so that a name that is not UTF-8 comes back to the byte; flushed before the change is made."""
    file.write(json.dumps(fields) + "\n")
    file.flush()
