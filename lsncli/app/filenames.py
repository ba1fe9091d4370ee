"""Names that any file system takes: folders for classes, files out of tars, and numbers for doubles."""

import os
from collections.abc import Collection, Iterable

NAME_BYTES = 255
"""The longest name of nearly every file system."""
FOLDER_BYTES = 100
FORBIDDEN = frozenset('/\\:*?"<>|')
"""What some system would take for a separator, a drive or a pattern."""
DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{digit}" for kind in ("com", "lpt") for digit in "123456789")}
)
"""What Windows takes for a device, whatever the extension."""


def safe_name(text: str, limit: int = NAME_BYTES) -> str:
    """``text`` as the name of one file or folder: it leads nowhere else, and no terminal obeys it.

    Separators, wildcards and what does not print become '_'; a leading dot or dash, which would hide it or
    look like an option, too, and so do dots and spaces at the end. At most ``limit`` bytes; never empty.
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
    """A folder for every class, by its name: no two alike, not even where case does not count, and none of
    ``taken``."""
    used = {name.casefold() for name in taken}
    found: dict[str, str] = {}
    for name in classes:
        folder = base = safe_name(name, FOLDER_BYTES)
        count = 1
        while folder.casefold() in used:
            count += 1
            folder = f"{base}-{count}"
        used.add(folder.casefold())
        found[name] = folder
    return found


def numbered(name: str, number: int) -> str:
    """``name`` with a number before its extension: a.jpg becomes a-2.jpg; the stem gives way if too long."""
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    end = f"-{number}{dot}{extension}"
    return cut(stem, max(1, NAME_BYTES - len(os.fsencode(end)))) + end


def cut(text: str, limit: int) -> str:
    """The longest beginning of ``text`` of at most ``limit`` bytes that ends with a whole character."""
    text = text[:limit]
    while len(os.fsencode(text)) > limit:
        text = text[:-1]
    return text
