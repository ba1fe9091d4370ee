"""Classes in files beside images in an archive, as webdataset writes them: ``000123.cls`` or ``000123.json``
for ``000123.jpg``."""

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
from lsncli.images.item import Content, ImageItem, Problem, by_folder
from lsncli.validation import parse_json

LONGEST = 1 << 16
"""Bytes that such a file may have."""
MOST_FIELDS = 100
"""Names of fields that are kept for an error message."""

Class = str | int | None


class SidecarLabels:
    """The classes in the files beside images, collected while an archive is read from front to back.

    A .cls file takes precedence over a .json file, unless ``columns`` names a field of the latter.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._cls: dict[str, Class] = {}
        self._json: dict[str, dict[str, Class]] = defaultdict(dict)  # by the name of the field
        self._fields: dict[str, None] = {}
        self._names: dict[str, str] = {}  # all images of a class share one string, to save memory
        self.invalid: dict[str, str] = {}
        """Files without a valid class, each with the reason."""

    def accepts(self, name: str, size: int) -> bool:
        """Return whether a member may contain a class, by its name and size."""
        if self._columns.label == NO_LABEL:
            return False
        return name.lower().endswith(".cls") or (name.lower().endswith(".json") and size <= LONGEST)

    def add(self, name: str, data: bytes) -> bool:
        """Add the class in ``data``, the content of the member ``name``; return False if there is none."""
        stem, _, kind = name.rpartition(".")
        try:
            if kind.lower() == "cls":
                self._cls[stem] = self._share(_read_class(data))
                return True
            content = parse_json(data)
        except ValueError as error:
            self.invalid[name] = str(error) if kind.lower() == "cls" else "no valid JSON"
            return True
        if not isinstance(content, dict):
            return False
        if len(self._fields) < MOST_FIELDS:
            self._fields |= dict.fromkeys(content)
        requested = self._columns.label
        fields = [field for field in content if (field == requested if requested else _is_label(field))]
        for field in fields:
            try:
                self._json[field][stem] = self._share(parse_class(content[field]))
            except ValueError as error:
                self.invalid[name] = f"its '{field}': {error}"
        return bool(fields)

    def _share(self, label: Class) -> Class:
        return self._names.setdefault(label, label) if isinstance(label, str) else label

    def check_fields(self, where: str) -> None:
        """Check the field of classes in the .json files, once all were added.

        Raises UsageError if the requested field is missing, and if several fields may hold the classes.
        """
        requested = self._columns.label
        if requested and requested != NO_LABEL and self._fields and requested not in self._json:
            raise UsageError(
                f"No .json file in '{where}' has a field '{requested}'.",
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
        """The field of the .json files that holds the classes, in words; "" if none does."""
        fields = "" if self._cls and not self._columns.label else ", ".join(self._json)
        return f"classes from '{printable(fields)}' of its .json files" if fields else ""

    def __bool__(self) -> bool:
        return bool(self._cls or self._json)

    def of(self, name: str) -> Class:
        """Return the class of an image: a name, a number, or None. ``7.left.jpg`` has that of ``7.cls``."""
        folder, slash, last = name.rpartition("/")
        sources = [self._cls, *self._json.values()]
        for labels in sources[::-1] if self._columns.label else sources:
            for stem in (name.rpartition(".")[0], folder + slash + last.partition(".")[0]):
                if stem in labels:
                    return labels[stem]
        return None


def _is_label(field: str) -> bool:
    """Return whether a field usually holds a class; in data from the web, a title is a caption."""
    return is_label_name(field) and plain_name(field) != "title"


def _read_class(data: bytes) -> Class:
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
    path: str, members: Mapping[str, tuple[int, int]], content: Content, labels: SidecarLabels
) -> tuple[list[ImageItem], list[Problem]]:
    """Return the images of an archive with their classes, and the problems of the files with classes.

    ``members`` are offset and size of the images by name. Raises UsageError as ``check_fields`` does.
    """
    labels.check_fields(path)
    keys = _without_common_folder(list(members))
    folders = [labels.of(name) for name in members] if labels else by_folder(keys)
    images = [
        ImageItem(key, path, *position, content, name, folder=folder)
        for key, folder, (name, position) in zip(keys, folders, members.items(), strict=True)
    ]
    return images, [Problem(name, reason, f"{path}:{name}") for name, reason in labels.invalid.items()]


def _without_common_folder(names: list[str]) -> list[str]:
    """Return the names without the only top-level folder of an archive, if it has one."""
    tops = {name.partition("/")[0] if "/" in name else None for name in names}
    if len(tops) != 1 or None in tops:
        return names
    return [name.partition("/")[2] for name in names]
