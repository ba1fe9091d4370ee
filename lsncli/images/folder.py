"""Find images below a folder, at any depth, and files that match a pattern such as ``photos/**/*.jpg``.

Symbolic links are followed inside the folder, never in a loop, and out of it only with ``follow_links``.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from pathlib import Path

from lsncli.errors import UsageError, shortened
from lsncli.images.item import ImageItem, Problem, Source, is_hidden, is_image, is_system

MAGIC = re.compile(r"[*?[]")
CHARACTERS = re.compile(r"\[!?(\]?[^\]]*)\]")
"""A choice of characters such as ``[a-z]``, and what is between its brackets."""
RANGE = re.compile(r"(.)-(.)", re.DOTALL)
MOST_STARS = 64
"""Stars that a pattern may have."""

Match = Callable[[str], object]
"""Match one name; the result is true or false."""


@dataclass(frozen=True)
class Pattern:
    """A pattern below a folder: ``base`` is the path before the first special character.

    ``*`` and ``?`` match any characters or one character of a name, ``[a-z]`` and ``[!a-z]`` one character,
    ``**`` any number of folders, also none. A folder that matches counts with all that it contains. Keys are
    paths relative to ``base`` with '/'.
    """

    base: Path
    parts: tuple[str, ...]

    def matches(self, key: str) -> bool:
        """Return whether a file matches, or lies in a folder that does."""
        names, at = key.split("/"), 0
        for number, group in enumerate(self._groups):
            # After a "**" the first match is as good as any: it leaves the most names for the groups to come.
            last = at if number == 0 else len(names) - len(group)
            starts = (
                start
                for start in range(at, last + 1)
                if start + len(group) <= len(names)
                and all(match(name) for match, name in zip(group, names[start:], strict=False))
            )
            start = next(starts, None)
            if start is None:
                return False
            at = start + len(group)
        return self.parts[-1] != "**" or at < len(names)

    def may_contain(self, key: str) -> bool:
        """Return whether a file in the folder ``key`` can match."""
        # Only the names before the first "**" have a fixed depth.
        return all(match(name) for match, name in zip(self._groups[0], key.split("/"), strict=False))

    @cached_property
    def _groups(self) -> list[list[Match]]:
        """The parts between each "**" and the next."""
        groups: list[list[Match]] = [[]]
        for part in self.parts:
            if part == "**":
                groups.append([])
            else:
                # Its atomic groups never try a star twice: 64 stars take microseconds.
                groups[-1].append(re.compile(translate(part)).match)
        return groups


def parse_pattern(path: Path) -> Pattern | None:
    """Return ``path`` as a pattern, or None if it has no special character. Raises UsageError."""
    parts = path.parts
    first = next((at for at, part in enumerate(parts) if MAGIC.search(part)), None)
    if first is None:
        return None
    below: list[str] = []
    for part in parts[first:]:
        if part != "**" or below[-1:] != ["**"]:  # "**/**" means "**", and would cost time
            below.append(part)
    if ".." in below:
        raise UsageError(
            f"The pattern '{path}' has '..' after a '*'.", "Start it at the folder that it means."
        )
    if (stars := sum(part.count("*") for part in below)) > MOST_STARS:
        raise UsageError(
            f"The pattern '{shortened(str(path), 200)}' has {stars} stars.",
            f"Use {MOST_STARS} at most: ** matches any folders, and * any name.",
        )
    for part in below:
        _check_ranges(part)
    return Pattern(Path(*parts[:first]), tuple(below))


def _check_ranges(part: str) -> None:
    """Raise UsageError for a range such as ``[z-a]``, which ``fnmatch`` ignores."""
    for characters in CHARACTERS.finditer(part):
        for low, high in RANGE.findall(characters[1]):
            if low > high:
                raise UsageError(
                    f"The pattern holds {characters[0]}, but '{low}' comes after '{high}'.",
                    f"Write the lower character first: {high}-{low}.",
                )


def check_matched(matched: bool, pattern: str) -> None:
    """Raise UsageError if nothing matches a pattern."""
    if not matched:
        raise UsageError(
            f"No image matches the pattern '{pattern}'.",
            "Put it in quotes; * matches one name, ** any folders. Hidden files do not count.",
        )


def find_files(pattern: Pattern, endings: tuple[str, ...]) -> list[Path]:
    """Return the sorted files that match and end in one of ``endings`` (lower case), without hidden ones."""
    files: list[Path] = []
    base = pattern.base if pattern.base.parts else "."
    for folder, subfolders, names in os.walk(base):
        relative = os.path.relpath(folder, base).replace(os.sep, "/")
        prefix = "" if relative == "." else relative + "/"
        subfolders[:] = [
            name for name in subfolders if not is_hidden(name) and pattern.may_contain(prefix + name)
        ]
        files += [
            Path(folder, name)
            for name in names
            if not is_hidden(name) and name.lower().endswith(endings) and pattern.matches(prefix + name)
        ]
    return sorted(files)


Identity = tuple[int, int]  # device and inode of a folder

LOOP = "a symbolic link back to one of its own parent folders"
LEADS_OUT = "a link that leads out of the folder, which is not followed"


def scan(root: Path, *, follow_links: bool = False, pattern: Pattern | None = None) -> Source:
    """List the images of a folder, or those that match ``pattern``.

    Unreadable folders, loops of links and, without ``follow_links``, links that lead out of ``root`` become
    problems, not exceptions. Files that do not match the pattern do not count as ignored.
    """
    images: list[ImageItem] = []
    problems: list[Problem] = []
    ignored = 0
    system: set[str] = set()
    tree = None if follow_links else os.path.realpath(root)
    # A stack of our own: depth is limited by the file system, not by Python's recursion limit.
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
            with os.scandir(folder) as scanned:
                entries = list(scanned)
        except OSError as error:
            reason = f"unreadable folder: {error.strerror or error}"
            problems.append(Problem(prefix or "./", reason, folder + "/"))
            continue
        top = prefix.partition("/")[0]
        if top != label:  # all images of a class share one string, to save memory
            label = top
        for entry in entries:
            key = prefix + entry.name
            if is_hidden(entry.name):
                ignored += 1
                system |= {entry.name} if is_system(entry.name) else set()
                continue
            is_folder = _is_folder(entry)
            if pattern and not (pattern.may_contain if is_folder else pattern.matches)(key):
                continue
            if not is_folder and not is_image(entry.name):
                ignored += 1
            elif tree is not None and entry.is_symlink() and not _is_within(entry.path, tree):
                end = "/" * is_folder
                problems.append(Problem(key + end, LEADS_OUT, entry.path + end))
            elif is_folder:
                todo.append((entry.path, key + "/", ancestors | {identity}))
            else:
                size, mtime = _size_and_time(entry)
                images.append(ImageItem(key, entry.path, None, size, mtime=mtime, folder=label or None))
    problems.sort(key=lambda problem: problem.key)
    return Source(images, problems, ignored, system)


def _is_within(path: str, tree: str) -> bool:
    real = os.path.realpath(path)
    return real == tree or real.startswith(os.path.join(tree, ""))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself counts as a file
        return False


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int | None, int | None]:
    try:
        status = entry.stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns
