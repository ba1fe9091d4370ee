"""Display names of classes: made from their codes, or attached from a file of names."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from lsncli.errors import UsageError
from lsncli.images.item import Listing
from lsncli.images.names_file import NameFile, canonical_key, is_key, is_number, normalize_name, read_names
from lsncli.reference.classes import class_list
from lsncli.types import UNLABELLED

BARE_ID = re.compile(r"n\d{8}")
WORDNET = re.compile(r"^n\d{8}[_\- ](?=.)")
NUMBERED = re.compile(r"(\d+)\. *(?=[^\W\d_])")
"""The start of ``001.Black_footed_Albatross``, as CUB-200 and Caltech-256 name their folders."""
PADDED = re.compile(r"(\d{2,})[_\- ](?=[^\W\d_])")
"""The start of ``001_cat``; digits alone may be part of a name ("3_series")."""

CLASS_NAMES = "Class names"
"""Where a wrong name stands, for messages, if it is in no file."""

Remark = Callable[[str], None]
"""Is told, a sentence at a time, how classes got their names."""
TextIds = Callable[[Sequence[str]], Sequence[Hashable]]
"""What a text encoder reads of each text: equal ids are one text to it."""


def silent(text: str) -> None:
    """A Remark that tells nobody."""


def class_names(codes: Sequence[str], names_file: Path | None, *, remark: Remark = silent) -> tuple[str, ...]:
    """Return one display name for each class code, in the order of ``codes``.

    A code is what the images say of their class: the name of a folder, or the text or number in a table.
    This is the one place that attaches names to codes, whatever the source.

    Without a file, bare WordNet ids get ImageNet's names if all codes are known ids, and other codes lose a
    WordNet id before the name (``n01440764_tench``), numbers before all names (``001.Ovenbird``) and
    underscores.

    A ``names_file`` (see ``namefile.read_names``) with keys is joined by them: every key must be a class, and
    every class have a key. A list that contains the codes themselves only says how they are spelled. Of
    another list, number k is name k if all codes are numbers: from 0, or from 1 where only that fits. Other
    codes take the names in sorted order if there are as many and the order is not in doubt.

    Raises UsageError for a file that does not fit the codes, an empty name, and equal names.
    """
    if names_file is None:
        names = _plain_names(codes, remark)
    else:
        given = _from_file(codes, names_file, remark)
        names = _known_ids(given, remark) or given
    names = [" ".join(name.split()) for name in names]
    where = str(names_file) if names_file else CLASS_NAMES
    for code, name in zip(codes, names, strict=True):
        if not name:
            raise UsageError(f"{where}: the class '{code}' has an empty name.")
    _check_groups(names, names, codes, where)
    return tuple(names)


def classes_of(
    listing: Listing,
    names_file: Path | None = None,
    *,
    text_ids: TextIds | None = None,
    remark: Remark = silent,
) -> tuple[str, ...]:
    """Return the names of a listing's classes (``class_names``), checked as classes to learn and predict.

    ``remark`` is also told of images without a class. Raises UsageError as ``class_names`` and
    ``check_distinct`` do, and for a folder whose subfolders are splits ('train', 'val') and not classes.
    """
    if listing.split_folders:
        raise UsageError(listing.split_folders[0].message, listing.split_folders[0].hint)
    names = class_names(listing.folders, names_file, remark=remark)
    where = str(names_file) if names_file else CLASS_NAMES
    check_distinct(names, text_ids, codes=listing.folders, where=where)
    loose = [item.key for item in listing.items if item.label == UNLABELLED] if names else []
    if loose:
        remark(
            f"Warning: {len(loose)} of {len(listing.items)} images have no class, such as "
            f"'{loose[0]}': they are not in a class folder, or their class is empty."
        )
    return names


def check_distinct(
    names: Sequence[str],
    text_ids: TextIds | None = None,
    *,
    codes: Sequence[str] = (),
    where: str = CLASS_NAMES,
) -> None:
    """Raise UsageError if two names are one text to the text encoder: one of them is never predicted.

    ``text_ids`` decides. Without a text encoder the names are compared without regard to case, Unicode form,
    HTML entities and repeated spaces. ``codes`` are what the user knows the classes by.
    """
    if text_ids is None:
        _check_groups([normalize_name(name) for name in names], names, codes or names, where)
        return
    # The name of a folder may not be UTF-8, and no tokenizer takes what Python makes of that.
    *read, nothing = text_ids([name.encode("utf-8", "replace").decode() for name in (*names, "")])
    empty = next((name for name, ids in zip(names, read, strict=True) if ids == nothing), None)
    if empty is not None:
        raise UsageError(f"{where}: the text encoder reads nothing in '{empty}'.", "Give the class a name.")
    _check_groups(read, names, codes or names, where)


def _check_groups(read: Sequence[Hashable], names: Sequence[str], codes: Sequence[str], where: str) -> None:
    twice = next((one for one, count in Counter(read).items() if count > 1), None)
    if twice is None:
        return
    same = [at for at, one in enumerate(read) if one == twice]
    what = f"the classes {_quoted([codes[at] for at in same])}"
    spellings = list(dict.fromkeys(names[at] for at in same))
    if len(spellings) == 1:
        raise UsageError(
            f"{where}: {what} have the same name '{spellings[0]}'.",
            "Give every class a name of its own with --classes FILE.",
        )
    called = "" if spellings == [codes[at] for at in same] else f", called {_quoted(spellings)},"
    raise UsageError(
        f"{where}: {what}{called} are one text to the text encoder, so one of them would never be predicted.",
        "Merge them, or name them apart with --classes FILE: case, Unicode form, HTML entities and repeated "
        "spaces do not count.",
    )


def _plain_names(codes: Sequence[str], remark: Remark) -> list[str]:
    """Names made from the codes alone."""
    names = _known_ids(codes, remark) or _without_numbers(codes, remark) or list(codes)
    return [WORDNET.sub("", name).replace("_", " ") for name in names]


def _known_ids(codes: Sequence[str], remark: Remark) -> list[str] | None:
    bare = [code for code in codes if BARE_ID.fullmatch(code)]
    if not bare:
        return None
    known = class_list("imagenet1k").by_key
    named = [code for code in bare if code in known]
    if len(named) == len(codes):
        first = f"'{named[0]}' is '{known[named[0]]}'"
        remark(f"All {len(codes)} classes are WordNet ids of ImageNet and get its names: {first}.")
        return [known[code] for code in codes]
    example = f", such as '{named[0]}' ('{known[named[0]]}')" if named else ""
    remark(
        f"Warning: {len(bare)} of {len(codes)} classes are bare WordNet ids, of which lsn knows "
        f"{len(named)}{example}. Prompts would say the ids: give names with --classes FILE."
    )
    return None


def _without_numbers(codes: Sequence[str], remark: Remark) -> list[str] | None:
    """The codes without the number that each begins with; None if it may be part of a name."""
    for pattern in (NUMBERED, PADDED):
        found = [match for code in codes if (match := pattern.match(code))]
        if not found or len(found) < len(codes):
            continue
        rest = [match.string[match.end() :] for match in found]
        digits = [match[1] for match in found]
        counts = len(set(map(int, digits))) == len(set(map(normalize_name, rest))) == len(codes)
        padded = len(set(map(len, digits))) == 1 and any(one.startswith("0") for one in digits)
        if counts and (pattern is NUMBERED or padded):
            remark(f"Numbers before class names are left out: '{codes[0]}' is '{rest[0].replace('_', ' ')}'.")
            return rest
    return None


def _from_file(codes: Sequence[str], path: Path, remark: Remark) -> list[str]:
    if not codes:
        raise UsageError(
            f"{path}: no image has a class, so there are none to name.",
            "Put each class into a folder of its own, or name the class of each image in a list or table.",
        )
    given = read_names(path, codes)
    if given.columns:
        return _joined(codes, given)
    listed = _spelled(codes, given, remark)
    if listed is not None:
        return listed
    if all(map(is_number, codes)):
        return _by_number(codes, given, remark)
    return _in_order(codes, given, remark)


def _joined(codes: Sequence[str], given: NameFile) -> list[str]:
    """Names by key; each column of keys is tried as it is written, then by what it means."""
    columns = (*given.columns, given.names)
    forms: tuple[Callable[[str], Hashable], ...] = (str.strip, canonical_key)
    tries = [(form, column) for form in forms for column in columns]

    def matched(one: tuple[Callable[[str], Hashable], Sequence[str]]) -> int:
        form, column = one
        return len({form(code) for code in codes} & {form(key) for key in column})

    form, column = max(tries, key=matched)  # the first of those that match most
    keys = [form(key) for key in column]
    repeated = next((key for key, count in Counter(keys).items() if count > 1), None)
    if repeated is not None:
        raise UsageError(f"{given.path}: '{repeated}' has two names.")
    wanted = [form(code) for code in codes]
    known, used = set(keys), set(wanted)
    missing = [code for code, key in zip(codes, wanted, strict=True) if key not in known]
    unknown = [text for text, key in zip(column, keys, strict=True) if key not in used]
    if len(missing) == len(codes):
        raise UsageError(
            f"{given.path}: none of its keys ({_quoted(given.columns[0])}) is a class; the classes are "
            f"{_quoted(codes)}.",
            "A key is the name of a class folder, the class in a table, a number or a WordNet id.",
        )
    if missing:
        raise UsageError(f"{given.path}: no name for the classes {_quoted(missing)}.")
    if unknown:
        raise UsageError(
            f"{given.path}: the keys {_quoted(unknown)} match no class.",
            f"Remove them from the file, or add images of them; the classes are {_quoted(codes)}.",
        )
    # Of an object name -> code the names come first; "1 001.Ovenbird" has no other name than the code.
    backwards = column is given.names and not all(map(is_key, given.columns[0]))
    name = dict(zip(keys, given.columns[0] if backwards else given.names, strict=True))
    return _as_written(codes, [name[key] for key in wanted])


def _as_written(codes: Sequence[str], names: Sequence[str]) -> list[str]:
    """``names``, but that of a class whose name in the file is its code is made from the code."""
    made = _plain_names(codes, silent)
    return [usual if name == code else name for code, name, usual in zip(codes, names, made, strict=True)]


def _spelling(codes: Sequence[str], given: NameFile) -> list[str | None]:
    """The name in the list that is the code itself, however spelled; None for a code that is not in it."""
    spelling = {normalize_name(name): name for name in given.names} | {name: name for name in given.names}
    made = _plain_names(codes, silent)
    return [
        spelling.get(code) or spelling.get(normalize_name(code)) or spelling.get(normalize_name(name))
        for code, name in zip(codes, made, strict=True)
    ]


def _spelled(codes: Sequence[str], given: NameFile, remark: Remark) -> list[str] | None:
    """The names of a list that contains every code; None if it is another list."""
    names = [name for name in _spelling(codes, given) if name is not None]
    if len(names) < len(codes):
        return None
    repeated = next((name for name, count in Counter(given.names).items() if count > 1), None)
    if repeated is not None:
        raise UsageError(f"{given.path} names '{repeated}' twice.")
    if len(given.names) > len(codes):
        more = len(given.names) - len(codes)
        remark(f"{more} of the {len(given.names)} classes in {given.path} have no images.")
    return _as_written(codes, names)


def _by_number(codes: Sequence[str], given: NameFile, remark: Remark) -> list[str]:
    """Number k is name k."""
    numbers, names = list(map(int, codes)), given.names
    low, high = min(numbers), max(numbers)
    if high > len(names) or (high == len(names) and low == 0):
        raise UsageError(
            f"{given.path}: expected a name for the class number {high}, found {len(names)} names.",
            f"Number k is name k, from {0 if low == 0 else '0 or 1'}; or write the number before each name, "
            f"such as '{high}<TAB>NAME'.",
        )
    start = 0 if low == 0 else 1
    if start and high < len(names):
        raise UsageError(
            f"{given.path}: class {low} is '{names[low]}' if its {len(names)} names count from 0, and "
            f"'{names[low - 1]}' if they count from 1; the classes are {low} to {high}.",
            f"Write the number before each name, such as '{low}<TAB>{names[low]}', for these classes alone.",
        )
    remark(f"Class {low} is name {low} of {given.path}, counted from {start}: '{names[low - start]}'.")
    return [names[number - start] for number in numbers]


def _in_order(codes: Sequence[str], given: NameFile, remark: Remark) -> list[str]:
    """Names in the sorted order of the codes, where that is beyond doubt."""
    hint = "Write the class before each name, with a tab between them."
    if len(given.names) != len(codes):
        raise UsageError(
            f"{given.path}: expected {len(codes)} names, one a class in sorted order, "
            f"found {len(given.names)}.",
            hint,
        )
    if any(map(is_number, codes)) or sorted(codes, key=_natural) != list(codes):
        raise UsageError(
            f"{given.path}: its names have no keys, and in which order the classes {_quoted(codes)} come is "
            "not clear: some hold numbers, capitals or punctuation.",
            hint,
        )
    for code, name, own in zip(codes, given.names, _spelling(codes, given), strict=True):
        if own is not None and normalize_name(own) != normalize_name(name):
            raise UsageError(
                f"{given.path}: in sorted order the class '{code}' would be called '{name}', but its own "
                "name is among the names, too.",
                hint,
            )
    pairs = [f"'{code}' is '{name}'" for code, name in zip(codes, given.names, strict=True)]
    shown = pairs if len(pairs) <= 3 else [*pairs[:2], f"... {pairs[-1]}"]
    remark(
        f"The names in {given.path} have no keys and go to the classes in sorted order: {', '.join(shown)}."
    )
    return list(given.names)


def _natural(code: str) -> list[tuple[bool, int, str]]:
    """Sorts as people do: numbers by value, letters in whatever case, nothing else counts."""
    parts = re.findall(r"\d+|[^\W\d_]+", code.casefold())
    return [(True, int(part), "") if part.isdecimal() else (False, 0, part) for part in parts]


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
