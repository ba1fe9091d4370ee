"""Patterns such as ``photos/**/*.jpg``, for shells that do not expand them or cannot hold so many names."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lsncli.errors import UsageError
from lsncli.images.found import is_hidden

MAGIC = re.compile(r"[*?[]")


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
        return self._whole.fullmatch(key) is not None

    def leads_to(self, key: str) -> bool:
        """Whether anything in the folder ``key`` can fit."""
        for name, part in zip(key.split("/"), self._names, strict=False):
            if part is None:
                return True
            if part.fullmatch(name) is None:
                return False
        return True

    @cached_property
    def _names(self) -> tuple[re.Pattern[str] | None, ...]:
        """One expression a name; None from the first ``**`` on, for then depth says nothing."""
        return tuple(None if part == "**" else re.compile(_expression(part), re.S) for part in self.parts)

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        text = ""
        for part in self.parts[:-1]:
            text += "(?:[^/]+/)*" if part == "**" else _expression(part) + "/"
        last = self.parts[-1]
        # Behind the last name: a folder that fits brings all that lies in it.
        text += ".*" if last == "**" else _expression(last) + "(?:/.*)?"
        return re.compile(text, re.S)


def as_pattern(path: Path) -> Pattern | None:
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
    return Pattern(Path(*parts[:first]), tuple(below))


def _expression(part: str) -> str:
    """One name of a pattern as a regular expression."""
    text, at = "", 0
    while at < len(part):
        here, at = part[at], at + 1
        if here == "*":
            if not text.endswith("[^/]*"):
                text += "[^/]*"
        elif here == "?":
            text += "[^/]"
        elif here == "[" and (end := part.find("]", at + 1 + part.startswith("!", at))) > 0:
            inside, at = part[at:end], end + 1
            negated = inside.startswith("!")
            text += f"(?!/)[{'^' * negated}{_characters(inside[negated:])}]"
        else:
            text += re.escape(here)
    return text


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


def check_fits(fits: bool, pattern: str) -> None:
    """Raise UsageError if nothing fits a pattern."""
    if not fits:
        raise UsageError(
            f"No image fits the pattern '{pattern}'.",
            "Put it in quotes; * stands for one name, ** for any folders. Hidden files do not count.",
        )


def matching_files(pattern: Pattern, endings: tuple[str, ...]) -> list[Path]:
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
