"""Classes that lie beside images in a tar, as webdataset packs them: ``000123.cls`` or ``000123.json`` is
about ``000123.jpg``."""

import json
from typing import Any

LONGEST = 1 << 16
"""Bytes that are read of such a file."""
FIELDS = ("cls", "label", "class", "class_name")
"""Where a .json may hold the class; the first that is there counts."""


class Labels:
    """What the files beside images say, collected while a tar is read from front to back."""

    def __init__(self) -> None:
        self._cls: dict[str, str | int | None] = {}
        self._json: dict[str, str | int | None] = {}
        self._known: dict[str, str] = {}  # one string a class, not one an image
        self.bad: dict[str, str] = {}
        """Files that should hold a class and do not, each with the reason."""

    @staticmethod
    def wants(name: str, size: int) -> bool:
        """Whether a member may hold a class, by its name and size."""
        return name.lower().endswith(".cls") or (name.lower().endswith(".json") and size <= LONGEST)

    def add(self, name: str, data: bytes) -> bool:
        """Take what ``data``, the content of ``name``, says. False if it is not about classes."""
        stem, _, kind = name.rpartition(".")
        is_cls = kind.lower() == "cls"
        try:
            label = _one_class(data) if is_cls else _field(data)
        except (ValueError, RecursionError) as error:
            self.bad[name] = str(error) if is_cls else "no valid JSON"
            return True
        if isinstance(label, str):
            label = self._known.setdefault(label, label)
        if is_cls or label is not None:
            (self._cls if is_cls else self._json)[stem] = label
        return is_cls or label is not None

    def __bool__(self) -> bool:
        return bool(self._cls or self._json)

    def of(self, name: str) -> str | int | None:
        """The class of an image: a name, a number, or None. ``7.left.jpg`` has that of ``7.cls``."""
        folder, slash, last = name.rpartition("/")
        for said in (self._cls, self._json):
            for stem in (name.rpartition(".")[0], folder + slash + last.partition(".")[0]):
                if stem in said:
                    return said[stem]
        return None


def as_class(value: Any) -> str | int | None:
    """A class as files and tables say it: digits are a number; nothing and numbers below 0 are no class.

    Raises ValueError for what cannot be a class.
    """
    if value is None or isinstance(value, bool):
        raise ValueError("no class in it")
    if isinstance(value, int):
        return value if value >= 0 else None
    text = " ".join(str(value).split())
    if not text or len(text) > 200 or not text.isprintable():
        raise ValueError("no class in it")
    digits = text.removeprefix("-")
    return as_class(int(text)) if digits.isascii() and digits.isdecimal() else text


def _one_class(data: bytes) -> str | int | None:
    if len(data) > LONGEST:
        raise ValueError("too long for a class")
    try:
        return as_class(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("a class that is not UTF-8") from error


def _field(data: bytes) -> str | int | None:
    content = json.loads(data)
    if not isinstance(content, dict):
        return None
    found = [content[name] for name in FIELDS if isinstance(content.get(name), str | int)]
    try:
        return as_class(found[0]) if found else None
    except ValueError:
        return None
