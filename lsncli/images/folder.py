"""Images below a folder, at any depth, following directory symlinks but never in a circle."""

import os
from pathlib import Path

from lsncli.images.found import Found, Source, by_folder, is_hidden, is_image
from lsncli.types import Failure

Identity = tuple[int, int]  # device and inode of a folder


def scan(root: Path) -> Source:
    """List a folder. Folders that cannot be read and symlink loops become problems, not exceptions."""
    found: list[tuple[str, os.DirEntry[str]]] = []
    problems: list[Failure] = []
    ignored = 0
    # An explicit stack, so that depth is bounded by the file system and not by Python's recursion limit.
    todo: list[tuple[str, str, frozenset[Identity]]] = [(os.fspath(root), "", frozenset())]
    while todo:
        folder, prefix, ancestors = todo.pop()
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in ancestors:
                problems.append(Failure(prefix, "a symbolic link back to one of its own parent folders"))
                continue
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            problems.append(Failure(prefix or "./", f"unreadable folder: {error.strerror or error}"))
            continue
        for entry in entries:
            key = prefix + entry.name
            if is_hidden(entry.name):
                ignored += 1
            elif _is_folder(entry):
                todo.append((entry.path, key + "/", ancestors | {identity}))
            elif is_image(entry.name):
                found.append((key, entry))
            else:
                ignored += 1
    folders = by_folder([key for key, _ in found])
    return Source(
        tuple(
            Found(key, folder, entry.path, None, _size(entry))
            for (key, entry), folder in zip(found, folders, strict=True)
        ),
        tuple(sorted(problems, key=lambda failure: failure.key)),
        ignored,
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself: it is an image name or it is ignored
        return False


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except OSError:
        return None
