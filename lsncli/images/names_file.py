"""Read files of class names: a list of names, or names with the keys of their classes."""

import csv
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from lsncli.errors import UsageError
from lsncli.validation import parse_json

MOST_NAMES = 1 << 26
"""Characters that a file of names or words may have."""
LONGEST_NAME = 1000
"""Characters that a line or a name may have; text encoders read some hundreds."""
WORDNET_ID = re.compile(r"n\d{8}(?=$|[_\- ])")
HEADERS = frozenset(
    {
        *("id", "key", "code", "number", "index", "idx", "label", "label_id", "wnid", "synset"),
        *("class", "class_id", "classid", "category", "folder"),
    }
)
"""First cells of a header row above keys, in lower case."""

Split = Callable[[str], tuple[str, str] | None]
"""A function that splits a line into a key and the rest; None if it cannot be split."""


@dataclass(frozen=True)
class NameFile:
    """The names in a file, in its order, and their keys.

    Each of the ``columns`` has one key per name: a file with numbers and WordNet ids has two columns, a list
    of names without keys has none.
    """

    path: Path
    names: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...] = ()


def read_name_lines(
    path: Path, what: str = "names file", hint: str = "One name a line, in UTF-8."
) -> list[str]:
    """Read the lines of a text file that are neither blank nor a comment (``# ...``).

    Raises UsageError for a file that cannot be read, is not UTF-8 or has a line of more than LONGEST_NAME
    characters; ``what`` and ``hint`` are for its message.
    """
    text = _read(path, what, hint)
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    _check_length(lines, path, what, hint)
    return lines


def _check_length(names: Sequence[str], path: Path, what: str = "names file", hint: str = "") -> None:
    longest = max(map(len, names), default=0)
    if longest > LONGEST_NAME:
        raise UsageError(
            f"The {what} {path} contains a name of {longest:,} characters, and {LONGEST_NAME:,} are allowed.",
            hint,
        )


def read_names(path: Path, codes: Sequence[str]) -> NameFile:
    """Read the names of the classes ``codes`` from a .json or text file.

    A line of a text file is a name, or a key and a name with a tab, a comma, a semicolon, a colon or a space
    between them. Except before a tab, the first words are keys only if all of them are ``codes``, numbers or
    WordNet ids: "golden retriever" is a name. JSON is a list of names, or an object (or a list of lists) of
    the forms key -> name, name -> number and key -> [key, name].

    Raises UsageError for a file that cannot be read or has another form.
    """
    if path.suffix.lower() == ".json":
        return _from_json(_read(path), path)
    lines = read_name_lines(path)
    if not lines:
        raise UsageError(f"The names file {path} is empty.", "Expected one class name per line.")
    if set(map(normalize_name, codes)) <= set(map(normalize_name, lines)):
        return NameFile(path, tuple(lines))
    return _keyed(lines, codes, path) or NameFile(path, tuple(lines))


def is_number(text: str) -> bool:
    """Return whether a class code is a number of at most 18 digits, such as ``7`` or ``007``."""
    return len(text) < 19 and text.isascii() and text.isdecimal()


def is_key(text: str) -> bool:
    """Return whether a text is always a key and never a name: a number or a WordNet id."""
    return is_number(text) or re.fullmatch(r"n\d{8}", text) is not None


def canonical_key(code: str) -> str | int:
    """Return the form in which keys are compared: numbers by value, folders by their WordNet id."""
    code = unicodedata.normalize("NFC", code.strip())
    if is_number(code):
        return int(code)
    wordnet = WORDNET_ID.match(code)
    return wordnet.group() if wordnet else code


def normalize_name(name: str) -> str:
    """Return a name without differences of case, Unicode form, HTML entities, underscores and spaces."""
    text = unicodedata.normalize("NFKC", unescape(name)).casefold()
    return " ".join(text.replace("_", " ").split())


def _read(path: Path, what: str = "names file", hint: str = "") -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MOST_NAMES + 1)
        if len(text) > MOST_NAMES:
            raise ValueError(f"it is larger than {MOST_NAMES >> 20} MiB")
        if "\0" in text:
            raise ValueError("it holds a NUL character")
        return text
    except (OSError, ValueError) as error:
        raise UsageError(f"The {what} {path} cannot be read: {error}.", hint) from error


def _at(separator: str) -> Split:
    def split(line: str) -> tuple[str, str] | None:
        key, match, rest = line.partition(separator)
        return (key.strip(), rest.strip()) if match else None

    return split


def _at_comma(line: str) -> tuple[str, str] | None:
    try:
        cells = next(csv.reader([line], skipinitialspace=True))
    except csv.Error:  # the line is longer than any name
        return None
    return (cells[0].strip(), ", ".join(cells[1:]).strip()) if len(cells) > 1 else None


def _at_mark(line: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"\s*(\S+?)(?:\s*[:=]\s*|[.)]\s+)(\S.*)", line)
    return (match[1], match[2].strip()) if match else None


def _at_space(line: str) -> tuple[str, str] | None:
    parts = line.split(None, 1)
    return (parts[0], parts[1].strip()) if len(parts) == 2 else None


_at_tab, _at_semicolon = _at("\t"), _at(";")
SPLITS: tuple[Split, ...] = (_at_tab, _at_comma, _at_semicolon, _at_mark, _at_space)


def _keyed(lines: Sequence[str], codes: Sequence[str], path: Path) -> NameFile | None:
    """Split the lines into keys and names; None if they are names without keys."""
    known = {canonical_key(code) for code in codes}
    for split in SPLITS:
        pairs = [split(line) for line in lines]
        if len(pairs) > 1 and pairs[0] is not None and _is_header(pairs[0][0], known):
            pairs = pairs[1:]
        rows = [pair for pair in pairs if pair is not None]
        if split is _at_tab and 0 < len(rows) < len(pairs):
            raise UsageError(f"{path}: some lines are key<TAB>name and some are not.")
        if not rows or len(rows) < len(pairs):
            continue
        in_cells = split not in (_at_mark, _at_space)
        keys_first = all(is_key(key) or canonical_key(key) in known for key, _ in rows)
        numbers_last = in_cells and all(is_number(rest) for _, rest in rows)
        if not (split is _at_tab or keys_first or numbers_last):
            continue
        if split is _at_space and not any(any(map(str.isdigit, key)) for key, _ in rows):
            raise UsageError(
                f"{path}: '{lines[0].strip()}' may be a name, or the name '{rows[0][1]}' of the class "
                f"'{rows[0][0]}'.",
                "Put a tab between class and name, or give JSON: a list of names, or an object.",
            )
        return _table(_with_second_key(rows, split), path)
    return None


def _is_header(cell: str, known: Collection[str | int]) -> bool:
    """Return whether a first cell heads a column of keys; a key of a class never does."""
    return cell.casefold() in HEADERS and canonical_key(cell) not in known


def _with_second_key(rows: Sequence[tuple[str, str]], split: Split) -> list[tuple[str, ...]]:
    """Split off a second key between key and name if every line has one."""
    inner = [split(rest) for _, rest in rows]
    seconds = [pair for pair in inner if pair is not None and pair[1] and is_key(pair[0])]
    if len(seconds) < len(rows):
        return list(rows)
    return [(key, *second) for (key, _), second in zip(rows, seconds, strict=True)]


def _table(rows: Sequence[Sequence[str]], path: Path) -> NameFile:
    """Return rows of one or more keys and a name as columns; other names after the first are ignored."""
    width, at = min(map(len, rows)), 1
    columns = [tuple(row[0] for row in rows)]
    while at < width - 1 and all(is_key(row[at]) for row in rows):
        columns.append(tuple(row[at] for row in rows))
        at += 1
    names = tuple(row[at] for row in rows)
    if all(map(is_number, names)) and not all(map(is_number, columns[0])):  # name -> number
        columns, names = [names, *columns], columns[0]
    return NameFile(path, names, tuple(columns))


def _from_json(text: str, path: Path) -> NameFile:
    def unique(pairs: Collection[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise UsageError(f"{path}: '{key}' has two names.")
            content[key] = value
        return content

    try:
        content = parse_json(text, pairs=unique)
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}.") from error
    if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
        _check_length(content, path)
        return NameFile(path, tuple(content))
    if isinstance(content, dict):
        content = [[key, *(value if isinstance(value, list) else [value])] for key, value in content.items()]
    if not isinstance(content, list) or not content or not all(_is_row(row) for row in content):
        raise UsageError(
            f"{path}: expected a list of names, or an object of key -> name, name -> number or "
            "key -> [key, name]; names are strings."
        )
    _check_length([str(cell)[: LONGEST_NAME + 1] for row in content for cell in row], path)
    return _table([[str(cell) for cell in row] for row in content], path)


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) > 1
        and all(isinstance(cell, str | int) and not isinstance(cell, bool) for cell in row)
    )
