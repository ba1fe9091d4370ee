"""Choose which columns of a list or table hold images and classes: as asked for, by content, or by name.

Also reads values that name a class.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lsncli.console import printable
from lsncli.errors import UsageError

PATH_OPTION, LABEL_OPTION = "--path-column", "--label-column"
NO_LABEL = "none"
"""What ``--label-column`` says for a table whose images have no classes."""

PATH_NAMES = (
    *("path", "filepath", "imagepath", "imgpath", "filename", "imagefilename", "imagefile", "imagename"),
    *("imgname", "file", "fname", "image", "images", "img", "imgs", "photo", "picture", "url", "imageurl"),
    *("imgurl", "uri", "key", "location", "imageid", "imgid", "fileid", "id"),
)
"""Usual names of a column of image files, the preferred ones first, as ``plain_name`` writes them."""

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
"""Rows from which on a column of as many different values is taken for names of images, not of classes."""


@dataclass(frozen=True)
class Columns:
    """The columns that the user asked for: names of the header, or numbers from 1; "" = find out.

    Without ``labelled`` no column of classes is looked for.
    """

    path: str = ""
    label: str = ""
    labelled: bool = True

    def options(self) -> dict[str, str]:
        """What was asked for, by the names of the options."""
        asked = {"path-column": self.path, "label-column": self.label}
        return {name: value for name, value in asked.items() if value}

    def with_path(self, column: str) -> "Columns":
        """The same with another column of images, unless ``column`` is ""."""
        return replace(self, path=column) if column else self


AUTOMATIC = Columns()
"""Columns are found out by content and by usual names."""


def plain_name(name: str) -> str:
    """A column's name in lower case, letters and digits only: ``File Name`` and ``file_name`` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def is_path_name(name: str) -> bool:
    """Whether a column of this name usually holds image files."""
    return plain_name(name) in PATH_NAMES


def is_label_name(name: str) -> bool:
    """Whether a column of this name usually holds classes."""
    return plain_name(name) in LABEL_NAMES


def preferred_path(names: Sequence[str], among: Collection[int]) -> int | None:
    """The column of the most usual name for image files; None if none of ``among`` has such a name."""
    known = {PATH_NAMES.index(plain_name(names[at])): at for at in sorted(among) if is_path_name(names[at])}
    return known[min(known)] if known else None


def column_index(wanted: str, names: Sequence[str] | None, width: int, where: str, option: str) -> int:
    """The column that ``option`` asks for by its name, or by its number from 1.

    ``names`` is the header, None without one. Raises UsageError that lists the columns.
    """
    if names is not None:
        same = [at for at, name in enumerate(names) if name == wanted] or [
            at for at, name in enumerate(names) if plain_name(name) == plain_name(wanted)
        ]
        if len(same) == 1:
            return same[0]
    if wanted.isascii() and wanted.isdecimal() and 1 <= int(wanted) <= width:
        return int(wanted) - 1
    if names is None:
        raise UsageError(
            f"{where} has no column '{wanted}': it has no header, and {width} columns.",
            f"Give {option} a number from 1 to {width}.",
        )
    raise UsageError(
        f"{where} has no column '{wanted}'. Its columns are {quote_names(names)}.", f"See {option}."
    )


def label_index(
    wanted: str,
    names: Sequence[str],
    others: Sequence[int],
    where: str,
    distinct: Callable[[int], bool],
) -> int | None:
    """The column of classes among ``others``: the one asked for, of a usual name, or the only one left.

    ``distinct`` says whether a column has another value in each of its many rows; such a column of an
    unusual name holds no classes. Returns None if there is none, or if "none" is asked for. Raises
    UsageError that names the columns if more than one is plausible.
    """
    if wanted and (wanted != NO_LABEL or NO_LABEL in names):
        return column_index(wanted, names, len(names), where, LABEL_OPTION)
    if wanted:
        return None
    usual = [at for at in others if is_label_name(names[at])]
    plausible = usual or [
        at
        for at in others
        if plain_name(names[at]) not in OTHER_NAMES and not is_path_name(names[at]) and not distinct(at)
    ]
    if len(plausible) > 1:
        found = quote_names([names[at] for at in plausible])
        raise UsageError(
            f"{where}: more than one column may hold the classes: {found}.",
            f"Choose one with {LABEL_OPTION} NAME; {LABEL_OPTION} {NO_LABEL} takes none of them.",
        )
    return plausible[0] if plausible else None


def quote_names(names: Sequence[str]) -> str:
    """Column names for an error: quoted, at most twenty of them."""
    shown = ", ".join(f"'{printable(name)[:60]}'" for name in names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


LONGEST_NAME = 200


def label_text(value: Any) -> str:
    """A value of a column of labels as text; "" if the row has none (None, NaN, no text, an empty list).

    Text stays as it is: "007", "07" and "7" are three labels. A whole float is an integer, a truth value
    "true" or "false", bytes are UTF-8, and a list of one item is that item. Raises ValueError for a list of
    several labels, for fractions, and for anything else.
    """
    if hasattr(value, "tolist"):  # of NumPy
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
    """Whether floats may be class numbers that missing values turned into floats: all of them are whole."""
    there = [value for value in values if value is not None and value == value]
    return bool(there) and all(float(value).is_integer() for value in there)


def is_number(text: str) -> bool:
    """Whether a label is a whole number as Python writes it: "7" and "-1" are, "007" is not."""
    digits = text.removeprefix("-")
    return text.isascii() and digits.isdecimal() and (digits == "0" or digits[0] != "0") and text != "-0"


def parse_class(value: Any) -> str | int | None:
    """A class as files and tables say it: a number or a name; None for no class and for negative numbers.

    Raises ValueError for what cannot be a class.
    """
    text = label_text(value)
    if not text:
        return None
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise ValueError("the name of a class that is too long, or holds characters that cannot be printed")
    if is_number(text):
        return int(text) if int(text) >= 0 else None
    return text
