"""Classes that lie beside images in an archive, as webdataset packs them: ``000123.cls`` or ``000123.json``
is about ``000123.jpg``."""

from collections import defaultdict
from collections.abc import Mapping

from lsncli.console import printable
from lsncli.errors import UsageError
from lsncli.images.columns import (
    LABEL_OPTION,
    NO_LABEL,
    Columns,
    is_label_name,
    parse_class,
    plain_name,
    quote_names,
)
from lsncli.images.item import Content, Found, Problem, by_folder
from lsncli.validation import parsed

LONGEST = 1 << 16
"""Bytes that are read of such a file."""
MOST_FIELDS = 100
"""Names of fields that are remembered for an error."""

Class = str | int | None


class SidecarLabels:
    """What the files beside images say, collected while a tar is read from front to back.

    A .cls file counts more than a .json, unless ``columns`` asks for a field of the latter.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._cls: dict[str, Class] = {}
        self._json: dict[str, dict[str, Class]] = defaultdict(dict)  # by the name of the field
        self._fields: dict[str, None] = {}
        self._known: dict[str, str] = {}  # one string a class, not one an image
        self.bad: dict[str, str] = {}
        """Files that should hold a class and do not, each with the reason."""

    def wants(self, name: str, size: int) -> bool:
        """Whether a member may hold a class, by its name and size."""
        if self._columns.label == NO_LABEL:
            return False
        return name.lower().endswith(".cls") or (name.lower().endswith(".json") and size <= LONGEST)

    def add(self, name: str, data: bytes) -> bool:
        """Take what ``data``, the content of ``name``, says. False if it is not about classes."""
        stem, _, kind = name.rpartition(".")
        try:
            if kind.lower() == "cls":
                self._cls[stem] = self._once(_one_class(data))
                return True
            content = parsed(data)
        except ValueError as error:
            self.bad[name] = str(error) if kind.lower() == "cls" else "no valid JSON"
            return True
        if not isinstance(content, dict):
            return False
        if len(self._fields) < MOST_FIELDS:
            self._fields |= dict.fromkeys(content)
        asked = self._columns.label
        fields = [field for field in content if (field == asked if asked else _is_label(field))]
        for field in fields:
            try:
                self._json[field][stem] = self._once(parse_class(content[field]))
            except ValueError as error:
                self.bad[name] = f"its '{field}': {error}"
        return bool(fields)

    def _once(self, label: Class) -> Class:
        return self._known.setdefault(label, label) if isinstance(label, str) else label

    def settle(self, where: str) -> None:
        """Decide which field of the .json files holds the classes, once all were added.

        Raises UsageError if the field asked for is nowhere, and if several fields may be the one.
        """
        asked = self._columns.label
        if asked and asked != NO_LABEL and self._fields and asked not in self._json:
            raise UsageError(
                f"No .json file in '{where}' has a field '{asked}'.",
                f"Their fields are {quote_names([*self._fields])}; see {LABEL_OPTION}.",
            )
        if len(self._json) > 1 and not self._cls and self._columns.labelled:
            raise UsageError(
                f"'{where}': more than one field of the .json files may hold the classes: "
                f"{quote_names([*self._json])}.",
                f"Choose one with {LABEL_OPTION} NAME; {LABEL_OPTION} {NO_LABEL} takes none of them.",
            )

    @property
    def note(self) -> str:
        """Which field of .json files the classes are; "" if none is."""
        fields = "" if self._cls and not self._columns.label else ", ".join(self._json)
        return f"classes from '{printable(fields)}' of its .json files" if fields else ""

    def __bool__(self) -> bool:
        return bool(self._cls or self._json)

    def of(self, name: str) -> Class:
        """The class of an image: a name, a number, or None. ``7.left.jpg`` has that of ``7.cls``."""
        folder, slash, last = name.rpartition("/")
        said = [self._cls, *self._json.values()]
        for labels in said[::-1] if self._columns.label else said:
            for stem in (name.rpartition(".")[0], folder + slash + last.partition(".")[0]):
                if stem in labels:
                    return labels[stem]
        return None


def _is_label(field: str) -> bool:
    """Whether a field usually holds a class; beside images of the web, a title is a caption."""
    return is_label_name(field) and plain_name(field) != "title"


def _one_class(data: bytes) -> Class:
    if len(data) > LONGEST:
        raise ValueError("too long for a class")
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError("a class that is not UTF-8") from error
    if not text:
        raise ValueError("no class in it")
    return parse_class(text)


def label_items(
    path: str, places: Mapping[str, tuple[int, int]], content: Content, labels: SidecarLabels
) -> tuple[list[Found], list[Problem]]:
    """The images of an archive at ``places`` (offset and size by name) with their classes, and what is wrong
    with the files that should say them."""
    labels.settle(path)
    keys = _without_common_folder(list(places))
    folders = [labels.of(name) for name in places] if labels else by_folder(keys)
    found = [
        Found(key, folder, path, *place, content, name)
        for key, folder, (name, place) in zip(keys, folders, places.items(), strict=True)
    ]
    return found, [Problem(name, reason, f"{path}:{name}") for name, reason in labels.bad.items()]


def _without_common_folder(names: list[str]) -> list[str]:
    """Names in an archive without its single top-level folder, if it has one."""
    tops = {name.partition("/")[0] if "/" in name else None for name in names}
    if len(tops) != 1 or None in tops:
        return names
    return [name.partition("/")[2] for name in names]
