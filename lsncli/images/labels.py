"""Values that name a class, as files of any kind hold them."""

from collections.abc import Iterable
from typing import Any

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


def are_whole(values: Iterable[Any]) -> bool:
    """Whether floats may be class numbers that missing values turned into floats: all of them are whole."""
    there = [value for value in values if value is not None and value == value]
    return bool(there) and all(float(value).is_integer() for value in there)


def is_number(text: str) -> bool:
    """Whether a label is a whole number as Python writes it: "7" and "-1" are, "007" is not."""
    digits = text.removeprefix("-")
    return text.isascii() and digits.isdecimal() and (digits == "0" or digits[0] != "0") and text != "-0"


def as_class(value: Any) -> str | int | None:
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
