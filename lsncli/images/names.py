"""Display names of classes: derived from their folders, or given by the user in a file."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lsncli.errors import UsageError

WORDNET = re.compile(r"^n\d{8}[_\- ](?=.)")


def class_names(folders: Sequence[str], names_file: Path | None) -> tuple[str, ...]:
    """One display name a class folder, in label order.

    Without a file: the folder's name less a leading WordNet id (``n01440764_``), '_' read as a space. A
    file says otherwise: .json (an object folder -> name, or a list in folder order) or text (lines
    ``folder<TAB>name``, or one name a line in folder order). Classes that are numbers, of which some have no
    image, may have a longer list: number k is its name k, from 0. Raises UsageError for folders that are
    missing or unknown, a wrong count, an empty name, or two classes of one name (nothing could tell them
    apart).
    """
    if names_file is None:
        names = [_readable(folder) for folder in folders]
    else:
        given = _read(names_file)
        if isinstance(given, dict):
            names = _by_folder(folders, given, names_file)
        elif len(given) == len(folders):
            names = given
        elif folders and all(one.isascii() and one.isdecimal() and int(one) < len(given) for one in folders):
            names = [given[int(folder)] for folder in folders]
        else:
            raise UsageError(
                f"{names_file}: expected {len(folders)} names, one a class folder in sorted order, "
                f"found {len(given)}."
            )
    names = [" ".join(name.split()) for name in names]
    where = str(names_file) if names_file else "The class folders"
    for folder, name in zip(folders, names, strict=True):
        if not name:
            raise UsageError(f"{where}: the class '{folder}' has an empty name.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        same = [folder for folder, name in zip(folders, names, strict=True) if name == repeated[0]]
        raise UsageError(
            f"{where}: the classes {_quoted(same)} have the same name '{repeated[0]}'.",
            "Give every class a name of its own with --classes FILE.",
        )
    return tuple(names)


def _readable(folder: str) -> str:
    return WORDNET.sub("", folder).replace("_", " ")


def _by_folder(folders: Sequence[str], given: dict[str, str], names_file: Path) -> list[str]:
    missing = [folder for folder in folders if folder not in given]
    unknown = [folder for folder in given if folder not in set(folders)]
    if missing:
        raise UsageError(f"{names_file}: no name for the class folders {_quoted(missing)}.")
    if unknown:
        raise UsageError(f"{names_file}: there are no class folders {_quoted(unknown)}.")
    return [given[folder] for folder in folders]


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _read(path: Path) -> dict[str, str] | list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The names file {path} cannot be read: {error}.") from error
    return _from_json(text, path) if path.suffix.lower() == ".json" else _from_lines(text, path)


def _from_json(text: str, path: Path) -> dict[str, str] | list[str]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}.") from error
    values = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{path}: expected an object of folder -> name, or a list of names (strings).")
    return content if isinstance(content, dict) else values


def _from_lines(text: str, path: Path) -> dict[str, str] | list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    if not pairs:
        return lines
    if len(pairs) < len(lines):
        raise UsageError(f"{path}: some lines are folder<TAB>name and some are not.")
    given = {folder.strip(): name for folder, name in pairs}
    if len(given) < len(pairs):
        repeated = Counter(folder.strip() for folder, _ in pairs).most_common(1)[0][0]
        raise UsageError(f"{path}: the folder '{repeated}' has two names.")
    return given
