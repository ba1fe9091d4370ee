"""Choose the display names of classes: from their codes, or from a file of names."""

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
"""The subject of messages about names that come from no file."""

Remark = Callable[[str], None]
"""A callback for sentences on how classes got their names."""
TextIds = Callable[[Sequence[str]], Sequence[Hashable]]
"""The token ids of texts: equal ids are one text to the text encoder."""


def silent(text: str) -> None:
    """Ignore a remark."""


def class_names(codes: Sequence[str], names_file: Path | None, *, remark: Remark = silent) -> tuple[str, ...]:
    """Return one display name for each class code, in the order of ``codes``.

    A code is the class of an image in its source: the name of a folder, or the text or number in a table.

    Without a file, bare WordNet ids get ImageNet's names if all codes are known ids, and other codes lose a
    WordNet id before the name (``n01440764_tench``), numbers before all names (``001.Ovenbird``) and
    underscores.

    A ``names_file`` (see ``names_file.read_names``) with keys is joined by them: every key must be a class,
    and every class needs a key. A list that contains the codes only gives their spelling. With any other list
    class number k gets name k if all codes are numbers: from 0, or from 1 where only that fits. Other codes
    get the names in sorted order if there are as many and the order is unambiguous.

    Raises UsageError for a file that does not fit the codes, an empty name, and equal names.
    """
    if names_file is None:
        names = _plain_names(codes, remark)
    else:
        file_names = _from_file(codes, names_file, remark)
        names = _known_ids(file_names, remark) or file_names
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

    ``remark`` also gets a warning about images without a class. Raises UsageError as ``class_names`` and
    ``check_distinct`` do, and for a folder whose subfolders are splits ('train', 'val') instead of classes.
    """
    if listing.split_folders:
        raise UsageError(listing.split_folders[0].message, listing.split_folders[0].hint)
    names = class_names(listing.folders, names_file, remark=remark)
    where = str(names_file) if names_file else CLASS_NAMES
    check_distinct(names, text_ids, codes=listing.folders, where=where)
    unlabelled = [item.key for item in listing.items if item.label == UNLABELLED] if names else []
    if unlabelled:
        remark(
            f"Warning: {len(unlabelled)} of {len(listing.items)} images have no class, so nothing is learned "
            f"from them: {some(unlabelled)}. They are in no class folder, or their class is empty. Move each "
            "into the folder of its class and read the folder anew (lsn extract --overwrite), or leave it so."
        )
    return names


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names in quotes, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def check_distinct(
    names: Sequence[str],
    text_ids: TextIds | None = None,
    *,
    codes: Sequence[str] = (),
    where: str = CLASS_NAMES,
) -> None:
    """Raise UsageError if two names are one text to the text encoder: one of them would never be predicted.

    ``text_ids`` compares them. Without it case, Unicode form, HTML entities and repeated spaces are ignored.
    ``codes`` are the names by which the user knows the classes.
    """
    if text_ids is None:
        _check_groups([normalize_name(name) for name in names], names, codes or names, where)
        return
    # The name of a folder may not be UTF-8; no tokenizer accepts the surrogates that Python puts there.
    *texts, empty_text = text_ids([name.encode("utf-8", "replace").decode() for name in (*names, "")])
    empty = next((name for name, ids in zip(names, texts, strict=True) if ids == empty_text), None)
    if empty is not None:
        raise UsageError(f"{where}: the text encoder reads nothing in '{empty}'.", "Give the class a name.")
    _check_groups(texts, names, codes or names, where)


def _check_groups(texts: Sequence[Hashable], names: Sequence[str], codes: Sequence[str], where: str) -> None:
    repeated = next((text for text, count in Counter(texts).items() if count > 1), None)
    if repeated is None:
        return
    same = [at for at, text in enumerate(texts) if text == repeated]
    what = f"the classes {_quote([codes[at] for at in same])}"
    spellings = list(dict.fromkeys(names[at] for at in same))
    if len(spellings) == 1:
        raise UsageError(
            f"{where}: {what} have the same name '{spellings[0]}'.",
            "Give every class a name of its own with --classes FILE.",
        )
    called = "" if spellings == [codes[at] for at in same] else f", called {_quote(spellings)},"
    raise UsageError(
        f"{where}: {what}{called} are one text to the text encoder, so one of them would never be predicted.",
        "Merge them, or name them apart with --classes FILE: case, Unicode form, HTML entities and repeated "
        "spaces do not count.",
    )


def _plain_names(codes: Sequence[str], remark: Remark) -> list[str]:
    """Return names made from the codes alone."""
    names = _known_ids(codes, remark) or _without_numbers(codes, remark) or list(codes)
    return [WORDNET.sub("", name).replace("_", " ") for name in names]


def _known_ids(codes: Sequence[str], remark: Remark) -> list[str] | None:
    bare = [code for code in codes if BARE_ID.fullmatch(code)]
    if not bare:
        return None
    imagenet = class_list("imagenet1k").by_key
    known = [code for code in bare if code in imagenet]
    if len(known) == len(codes):
        first = f"'{known[0]}' is '{imagenet[known[0]]}'"
        remark(f"All {len(codes)} classes are WordNet ids of ImageNet and get its names: {first}.")
        return [imagenet[code] for code in codes]
    example = f", such as '{known[0]}' ('{imagenet[known[0]]}')" if known else ""
    remark(
        f"Warning: {len(bare)} of {len(codes)} classes are bare WordNet ids, of which lsn knows "
        f"{len(known)}{example}. Prompts would contain the ids: give names with --classes FILE."
    )
    return None


def _without_numbers(codes: Sequence[str], remark: Remark) -> list[str] | None:
    """Return the codes without the number at the start of each; None if it may be part of a name."""
    for pattern in (NUMBERED, PADDED):
        matches = [match for code in codes if (match := pattern.match(code))]
        if not matches or len(matches) < len(codes):
            continue
        rest = [match.string[match.end() :] for match in matches]
        digits = [match[1] for match in matches]
        unique = len(set(map(int, digits))) == len(set(map(normalize_name, rest))) == len(codes)
        padded = len(set(map(len, digits))) == 1 and any(number.startswith("0") for number in digits)
        if unique and (pattern is NUMBERED or padded):
            remark(f"Numbers before class names are left out: '{codes[0]}' is '{rest[0].replace('_', ' ')}'.")
            return rest
    return None


def _from_file(codes: Sequence[str], path: Path, remark: Remark) -> list[str]:
    if not codes:
        raise UsageError(
            f"{path}: no image has a class, so there are no classes to name.",
            "Put each class into a folder of its own, or name the class of each image in a list or table.",
        )
    file = read_names(path, codes)
    if file.columns:
        return _join(codes, file)
    names = _spell(codes, file, remark)
    if names is not None:
        return names
    if all(map(is_number, codes)):
        return _by_number(codes, file, remark)
    return _in_order(codes, file, remark)


def _join(codes: Sequence[str], file: NameFile) -> list[str]:
    """Return names by key. The column of keys is the one that matches most codes."""
    columns = (*file.columns, file.names)
    forms: tuple[Callable[[str], Hashable], ...] = (str.strip, canonical_key)
    tries = [(form, column) for form in forms for column in columns]

    def matches(attempt: tuple[Callable[[str], Hashable], Sequence[str]]) -> int:
        form, column = attempt
        return len({form(code) for code in codes} & {form(key) for key in column})

    form, column = max(tries, key=matches)  # the first of those that match most
    keys = [form(key) for key in column]
    repeated = next((key for key, count in Counter(keys).items() if count > 1), None)
    if repeated is not None:
        raise UsageError(f"{file.path}: '{repeated}' has two names.")
    class_keys = [form(code) for code in codes]
    known, used = set(keys), set(class_keys)
    missing = [code for code, key in zip(codes, class_keys, strict=True) if key not in known]
    unknown = [text for text, key in zip(column, keys, strict=True) if key not in used]
    if len(missing) == len(codes):
        raise UsageError(
            f"{file.path}: none of its keys ({_quote(file.columns[0])}) is a class; the classes are "
            f"{_quote(codes)}.",
            "A key is the name of a class folder, the class in a table, a number or a WordNet id.",
        )
    if missing:
        raise UsageError(f"{file.path}: no name for the classes {_quote(missing)}.")
    if unknown:
        raise UsageError(
            f"{file.path}: the keys {_quote(unknown)} match no class.",
            f"Remove them from the file, or add images of them; the classes are {_quote(codes)}.",
        )
    # In an object name -> code the names come first; in "1 001.Ovenbird" the code is the only name.
    backwards = column is file.names and not all(map(is_key, file.columns[0]))
    name = dict(zip(keys, file.columns[0] if backwards else file.names, strict=True))
    return _without_codes(codes, [name[key] for key in class_keys])


def _without_codes(codes: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return ``names``, with those that equal their code replaced by a name made from the code."""
    usual = _plain_names(codes, silent)
    return [made if name == code else name for code, name, made in zip(codes, names, usual, strict=True)]


def _spellings(codes: Sequence[str], file: NameFile) -> list[str | None]:
    """Return how the list spells each code; None for a code that it does not contain."""
    spelling = {normalize_name(name): name for name in file.names} | {name: name for name in file.names}
    usual = _plain_names(codes, silent)
    return [
        spelling.get(code) or spelling.get(normalize_name(code)) or spelling.get(normalize_name(name))
        for code, name in zip(codes, usual, strict=True)
    ]


def _spell(codes: Sequence[str], file: NameFile, remark: Remark) -> list[str] | None:
    """Return the spelling of all codes by a list that contains them; None if it does not."""
    names = [name for name in _spellings(codes, file) if name is not None]
    if len(names) < len(codes):
        return None
    repeated = next((name for name, count in Counter(file.names).items() if count > 1), None)
    if repeated is not None:
        raise UsageError(f"{file.path} names '{repeated}' twice.")
    if len(file.names) > len(codes):
        more = len(file.names) - len(codes)
        remark(f"{more} of the {len(file.names)} classes in {file.path} have no images.")
    return _without_codes(codes, names)


def _by_number(codes: Sequence[str], file: NameFile, remark: Remark) -> list[str]:
    """Return name k of the list for class number k, counted from 0 or 1."""
    numbers, names = list(map(int, codes)), file.names
    low, high = min(numbers), max(numbers)
    if high > len(names) or (high == len(names) and low == 0):
        raise UsageError(
            f"{file.path}: expected a name for the class number {high}, found {len(names)} names.",
            f"Number k is name k, from {0 if low == 0 else '0 or 1'}; or write the number before each name, "
            f"such as '{high}<TAB>NAME'.",
        )
    start = 0 if low == 0 else 1
    if start and high < len(names):
        raise UsageError(
            f"{file.path}: class {low} is '{names[low]}' if its {len(names)} names count from 0, and "
            f"'{names[low - 1]}' if they count from 1; the classes are {low} to {high}.",
            f"Write the number before each name, such as '{low}<TAB>{names[low]}', for these classes alone.",
        )
    remark(f"Class {low} is name {low} of {file.path}, counted from {start}: '{names[low - start]}'.")
    return [names[number - start] for number in numbers]


def _in_order(codes: Sequence[str], file: NameFile, remark: Remark) -> list[str]:
    """Return the names in the sorted order of the codes, if that order is unambiguous."""
    hint = "Write the class before each name, with a tab between them."
    if len(file.names) != len(codes):
        raise UsageError(
            f"{file.path}: expected {len(codes)} names, one per class in sorted order, "
            f"found {len(file.names)}.",
            hint,
        )
    if any(map(is_number, codes)) or sorted(codes, key=_natural) != list(codes):
        raise UsageError(
            f"{file.path}: its names have no keys, and the order of the classes {_quote(codes)} is "
            "ambiguous: some contain numbers, capitals or punctuation.",
            hint,
        )
    for code, name, own in zip(codes, file.names, _spellings(codes, file), strict=True):
        if own is not None and normalize_name(own) != normalize_name(name):
            raise UsageError(
                f"{file.path}: in sorted order the class '{code}' would be called '{name}', but the list "
                "also contains its own name.",
                hint,
            )
    pairs = [f"'{code}' is '{name}'" for code, name in zip(codes, file.names, strict=True)]
    examples = ", ".join(pairs if len(pairs) <= 3 else [*pairs[:2], f"... {pairs[-1]}"])
    remark(f"The names in {file.path} have no keys and go to the classes in sorted order: {examples}.")
    return list(file.names)


def _natural(code: str) -> list[tuple[bool, int, str]]:
    """Return a key for natural sorting: numbers by value, letters without case, nothing else."""
    parts = re.findall(r"\d+|[^\W\d_]+", code.casefold())
    return [(True, int(part), "") if part.isdecimal() else (False, 0, part) for part in parts]


def _quote(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
