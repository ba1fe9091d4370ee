"""Choose the columns of images and classes in a list or table: by option, by content, or by name.

Also converts values of such columns to classes.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lsncli.console import printable
from lsncli.errors import UsageError

PATH_OPTION, LABEL_OPTION = "--path-column", "--label-column"
NO_LABEL = "none"
"""The value of ``--label-column`` for images without classes."""

PATH_NAMES = (
    *("path", "filepath", "imagepath", "imgpath", "filename", "imagefilename", "imagefile", "imagename"),
    *("imgname", "file", "fname", "image", "images", "img", "imgs", "photo", "picture", "url", "imageurl"),
    *("imgurl", "uri", "key", "location", "imageid", "imgid", "fileid", "id"),
)
"""Usual names of a column of image files, in order of preference, as ``plain_name`` writes them."""

LABEL_NAMES = frozenset(
    {
        *("label", "labels", "class", "classes", "classname", "classlabel", "cls", "category", "categories"),
        *("categoryname", "title", "target", "targets", "y", "variety", "species", "breed", "groundtruth"),
        *("gt", "labelname", "labeltext", "classid", "categoryid", "labelid", "finelabel", "coarselabel"),
        *("synset", "wnid"),
    }
)
"""Usual names of a column of classes."""

OTHER_NAMES = frozenset(
    {
        *("", "width", "height", "split", "subset", "fold", "caption", "captions", "text", "description"),
        *("size", "filesize", "bytes", "md5", "sha1", "sha256", "hash", "license", "index", "idx", "source"),
        *("unnamed0", "indexlevel0", "date", "time", "timestamp", "bbox", "author", "confidence", "score"),
    }
)
"""Usual names of columns that are neither."""

MANY = 20
"""In a table of more rows, a column whose values all differ holds names of images, not classes."""


@dataclass(frozen=True)
class Columns:
    """The columns to use: names from the header, or numbers from 1; "" = detect.

    Without ``labelled`` there is no column of classes.
    """

    path: str = ""
    label: str = ""
    labelled: bool = True

    def options(self) -> dict[str, str]:
        """Return the columns that are set, by the names of their options."""
        options = {"path-column": self.path, "label-column": self.label}
        return {name: value for name, value in options.items() if value}

    def with_path(self, column: str) -> "Columns":
        """Return a copy with another column of images, unless ``column`` is ""."""
        return replace(self, path=column) if column else self


AUTOMATIC = Columns()
"""Columns are detected by content and by usual names."""


def plain_name(name: str) -> str:
    """Return a column's name in lower case, letters and digits only: ``File Name`` equals ``file_name``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def is_path_name(name: str) -> bool:
    """Return whether a column of this name usually holds image files."""
    return plain_name(name) in PATH_NAMES


def is_label_name(name: str) -> bool:
    """Return whether a column of this name usually holds classes."""
    return plain_name(name) in LABEL_NAMES


def preferred_path(names: Sequence[str], among: Collection[int]) -> int | None:
    """Return the column in ``among`` of the preferred name for image files; None if none has such a name."""
    known = {PATH_NAMES.index(plain_name(names[at])): at for at in sorted(among) if is_path_name(names[at])}
    return known[min(known)] if known else None


def column_index(column: str, names: Sequence[str] | None, width: int, where: str, option: str) -> int:
    """Return the index of the column that ``option`` names, by name or by number from 1.

    ``names`` is the header, None without one. Raises UsageError that lists the columns.
    """
    if names is not None:
        same = [at for at, name in enumerate(names) if name == column] or [
            at for at, name in enumerate(names) if plain_name(name) == plain_name(column)
        ]
        if len(same) == 1:
            return same[0]
    if column.isascii() and column.isdecimal() and 1 <= int(column) <= width:
        return int(column) - 1
    if names is None:
        raise UsageError(
            f"{where} has no column '{column}': it has no header, and {width} columns.",
            f"Give {option} a number from 1 to {width}.",
        )
    raise UsageError(
        f"{where} has no column '{column}'. Its columns are {quote_names(names)}.", f"See {option}."
    )


def label_index(
    column: str,
    names: Sequence[str],
    others: Sequence[int],
    where: str,
    distinct: Callable[[int], bool],
) -> int | None:
    """Return the column of classes among ``others``: the requested one, one of a usual name, or the only one.

    ``distinct`` tells whether all values of a long column differ; such a column of an unusual name holds no
    classes. Returns None if there is none, or if "none" is requested. Raises UsageError that names the
    columns if more than one is plausible.
    """
    if column and (column != NO_LABEL or NO_LABEL in names):
        return column_index(column, names, len(names), where, LABEL_OPTION)
    if column:
        return None
    usual = [at for at in others if is_label_name(names[at])]
    plausible = usual or [
        at
        for at in others
        if plain_name(names[at]) not in OTHER_NAMES and not is_path_name(names[at]) and not distinct(at)
    ]
    if len(plausible) > 1:
        candidates = quote_names([names[at] for at in plausible])
        raise UsageError(
            f"{where}: more than one column may hold the classes: {candidates}.",
            f"Choose one with {LABEL_OPTION} NAME; {LABEL_OPTION} {NO_LABEL} takes none of them.",
        )
    return plausible[0] if plausible else None


def quote_names(names: Sequence[str]) -> str:
    """Return at most twenty names in quotes, for an error message."""
    shown = ", ".join(f"'{printable(name)[:60]}'" for name in names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


LONGEST_NAME = 200


def label_text(value: Any) -> str:
    """Return a value of a label column as text; "" for no label (None, NaN, "", an empty list).

    Text is unchanged: "007", "07" and "7" are three labels. A whole float becomes an integer, a truth value
    "true" or "false", bytes are decoded as UTF-8, and a list of one item becomes that item. Raises ValueError
    for a list of several labels, for fractions, and for anything else.
    """
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        value = value.tolist()
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError("a class that is not UTF-8") from error
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise ValueError(f"{len(value)} labels in one row, but an image can have one class only")
        return label_text(value[0]) if value else ""
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or whole != value:
        raise ValueError(f"{str(value)[:40]!r} is not a class: expected a name or a whole number")
    return str(whole)


def all_whole(values: Iterable[Any]) -> bool:
    """Return whether all values are whole, but for missing ones: such floats may be class numbers."""
    present = [value for value in values if value is not None and value == value]
    return bool(present) and all(float(value).is_integer() for value in present)


def is_number(text: str) -> bool:
    """Return whether a label is an integer as Python writes it: "7" and "-1" are, "007" is not."""
    digits = text.removeprefix("-")
    return text.isascii() and digits.isdecimal() and (digits == "0" or digits[0] != "0") and text != "-0"


def parse_class(value: Any) -> str | int | None:
    """Return a value of a file or table as a class number or name; None for no class and negative numbers.

    Raises ValueError for an invalid class.
    """
    text = label_text(value)
    if not text:
        return None
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise ValueError("the name of a class is too long, or contains characters that cannot be printed")
    if is_number(text):
        return int(text) if int(text) >= 0 else None
    return text
