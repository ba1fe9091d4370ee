"""Find images below a folder, at any depth, and files that fit a pattern such as ``photos/**/*.jpg``.

Links are followed inside the folder, never in a circle, and out of it only when asked to.
"""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lsncli.errors import UsageError, shortened
from lsncli.images.found import Found, Problem, Source, is_hidden, is_image, is_system

MAGIC = re.compile(r"[*?[]")
MOST_STARS = 64
"""Stars of a pattern."""


@dataclass(frozen=True)
class Pattern:
    """A pattern below a folder: ``base`` is all that comes before its first special character.

    ``*`` and ``?`` stand for anything in one name, ``[a-z]`` and ``[!a-z]`` for one character, ``**`` for any
    folders, none among them. A folder that fits is taken whole. Keys are paths relative to ``base`` with '/'.
    """

    base: Path
    parts: tuple[str, ...]

    def fits(self, key: str) -> bool:
        """Whether a file fits, or lies in a folder that does."""
        names, at = key.split("/"), 0
        for number, group in enumerate(self._groups):
            # Where nothing is anchored behind a "**", the first place that fits leaves the most for the rest.
            last = at if number == 0 else len(names) - len(group)
            places = (
                start
                for start in range(at, last + 1)
                if start + len(group) <= len(names)
                and all(one.fits(names[start + place]) for place, one in enumerate(group))
            )
            start = next(places, None)
            if start is None:
                return False
            at = start + len(group)
        return self.parts[-1] != "**" or at < len(names)

    def leads_to(self, key: str) -> bool:
        """Whether anything in the folder ``key`` can fit."""
        # From the first "**" on depth says nothing.
        return all(one.fits(name) for name, one in zip(key.split("/"), self._groups[0], strict=False))

    @cached_property
    def _groups(self) -> list[list["_Name"]]:
        """The parts between each "**" and the next."""
        groups: list[list[_Name]] = [[]]
        for part in self.parts:
            if part == "**":
                groups.append([])
            else:
                groups[-1].append(_Name(part))
        return groups


class _Name:
    """One name of a pattern. What lies between its stars is looked for from left to right, and never again:
    to try every place for each star would take time that doubles with each of them."""

    def __init__(self, part: str) -> None:
        found = [_expression(one) for one in _between_stars(part)]
        self._lengths = [length for _, length in found]
        self._pieces = [re.compile(text, re.S) for text, _ in found]

    def fits(self, name: str) -> bool:
        """Whether all of ``name`` fits."""
        if len(self._pieces) == 1:
            return self._pieces[0].fullmatch(name) is not None
        at, end = self._lengths[0], len(name) - self._lengths[-1]
        if at > end or not self._pieces[0].match(name) or not self._pieces[-1].match(name, end):
            return False
        for piece in self._pieces[1:-1]:
            found = piece.search(name, at, end)
            if found is None:
                return False
            at = found.end()
        return True


def parse_pattern(path: Path) -> Pattern | None:
    """``path`` as a pattern; None if it has no special character. Raises UsageError for a broken one."""
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
            f"The pattern '{path}' goes up with '..' behind a '*'.", "Start it at the folder that it means."
        )
    if (stars := sum(part.count("*") for part in below)) > MOST_STARS:
        raise UsageError(
            f"The pattern '{shortened(str(path), 200)}' has {stars} stars.",
            f"Use {MOST_STARS} at most: ** stands for any folders, and * for all of a name.",
        )
    return Pattern(Path(*parts[:first]), tuple(below))


def _between_stars(part: str) -> list[list[str]]:
    """The characters of one name of a pattern, with "?" and "[...]" as one each, split at its stars."""
    pieces: list[list[str]] = [[]]
    at = 0
    while at < len(part):
        here, start = part[at], at
        at += 1
        if here == "[" and (end := part.find("]", at + 1 + part.startswith("!", at))) > 0:
            at = end + 1
        if here == "*":
            pieces.append([])
        else:
            pieces[-1].append(part[start:at])
    return [pieces[0], *filter(None, pieces[1:-1]), pieces[-1]] if len(pieces) > 1 else pieces


def _expression(characters: list[str]) -> tuple[str, int]:
    """A regular expression, which has no choice of lengths, and the length of what fits it."""
    text = ""
    for one in characters:
        if one == "?":
            text += "."
        elif len(one) > 1:
            negated = one.startswith("[!")
            text += f"[{'^' * negated}{_characters(one[1 + negated : -1])}]"
        else:
            text += re.escape(one)
    return text, len(characters)


def _characters(inside: str) -> str:
    """What stands between brackets, with ranges kept and everything else taken as it is."""
    out, at = "", 0
    while at < len(inside):
        if at + 2 < len(inside) and inside[at + 1] == "-":
            low, high = inside[at], inside[at + 2]
            if low > high:
                raise UsageError(f"The pattern holds [{inside}], but '{low}' comes after '{high}'.")
            out += f"{re.escape(low)}-{re.escape(high)}"
            at += 3
        else:
            out += re.escape(inside[at])
            at += 1
    return out


def check_matched(fits: bool, pattern: str) -> None:
    """Raise UsageError if nothing fits a pattern."""
    if not fits:
        raise UsageError(
            f"No image fits the pattern '{pattern}'.",
            "Put it in quotes; * stands for one name, ** for any folders. Hidden files do not count.",
        )


def find_files(pattern: Pattern, endings: tuple[str, ...]) -> list[Path]:
    """The files that fit and have one of the ``endings`` (lower case), sorted; hidden ones left out."""
    found: list[Path] = []
    for folder, folders, files in os.walk(pattern.base if pattern.base.parts else "."):
        relative = os.path.relpath(folder, pattern.base if pattern.base.parts else ".").replace(os.sep, "/")
        prefix = "" if relative == "." else relative + "/"
        folders[:] = [name for name in folders if not is_hidden(name) and pattern.leads_to(prefix + name)]
        found += [
            Path(folder, name)
            for name in files
            if not is_hidden(name) and name.lower().endswith(endings) and pattern.fits(prefix + name)
        ]
    return sorted(found)


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
