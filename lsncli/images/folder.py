"""Images below a folder, at any depth. Links are followed inside the folder, never in a circle, and out of it
only when asked to."""

import os
from pathlib import Path

from lsncli.images.found import Found, Problem, Source, is_hidden, is_image, is_system
from lsncli.images.patterns import Pattern

Identity = tuple[int, int]  # device and inode of a folder

LOOP = "a symbolic link back to one of its own parent folders"
LEADS_OUT = "a link that leads out of the folder, which is not followed"


def scan(root: Path, *, follow_links: bool = False, pattern: Pattern | None = None) -> Source:
    """List a folder, or what in it fits ``pattern``.

    Folders that cannot be read, loops of links and, without ``follow_links``, links that lead out of ``root``
    become problems, not exceptions. What the pattern passes by is not counted as ignored.
    """
    found: list[Found] = []
    problems: list[Problem] = []
    ignored = 0
    system: set[str] = set()
    tree = None if follow_links else os.path.realpath(root)
    # An explicit stack, so that depth is bounded by the file system and not by Python's recursion limit.
    todo: list[tuple[str, str, frozenset[Identity]]] = [(os.fspath(root), "", frozenset())]
    label = ""
    while todo:
        folder, prefix, ancestors = todo.pop()
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in ancestors:
                problems.append(Problem(prefix, LOOP, folder + "/"))
                continue
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            reason = f"unreadable folder: {error.strerror or error}"
            problems.append(Problem(prefix or "./", reason, folder + "/"))
            continue
        top = prefix.partition("/")[0]
        if top != label:  # one string a class, not one an image
            label = top
        for entry in entries:
            key = prefix + entry.name
            if is_hidden(entry.name):
                ignored += 1
                system |= {entry.name} if is_system(entry.name) else set()
                continue
            is_folder = _is_folder(entry)
            if pattern is not None and not (pattern.leads_to(key) if is_folder else pattern.fits(key)):
                continue
            if not is_folder and not is_image(entry.name):
                ignored += 1
            elif tree is not None and entry.is_symlink() and not _within(entry.path, tree):
                end = "/" * is_folder
                problems.append(Problem(key + end, LEADS_OUT, entry.path + end))
            elif is_folder:
                todo.append((entry.path, key + "/", ancestors | {identity}))
            else:
                size, mtime = _size_and_time(entry)
                found.append(Found(key, label or None, entry.path, None, size, mtime=mtime))
    problems.sort(key=lambda problem: problem.key)
    return Source(found, problems, ignored, system)


def _within(path: str, tree: str) -> bool:
    real = os.path.realpath(path)
    return real == tree or real.startswith(os.path.join(tree, ""))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself: it is an image name or it is ignored
        return False


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int | None, int | None]:
    try:
        status = entry.stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns
