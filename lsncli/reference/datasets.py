"""The published image sets: their numbers of images and classes, sources, and layouts."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Dataset:
    """An image set of a suite. None = any number."""

    name: str
    """The name of its folder or .tar below ``--data``."""
    title: str
    images: int | None = None
    classes: int | None = None
    per_class: int | None = None
    """The number of images of every class."""
    class_list: str = ""
    """The classes of its folders, a key of ``reference.classes.class_list``; "" = any names."""
    labelled: bool = True
    """False for an OOD set, whose class folders are ignored."""
    source: str = ""
    """Its authors and the part of it, in words."""
    address: str = ""
    layout: str = ""
    """How to lay out the download."""
    note: str = ""
    """How it differs from the published set that it replaces."""
    places: tuple[str, ...] = ()
    """Usual paths below ``--data``, with braces; case, blanks, '-' and '_' are ignored."""
    cifar: str = ""
    """"train" or "test" if ``places`` may be CIFAR's own files."""
    beside: str = ""
    """A file that must be beside the folder; with ! before it, one that must not."""


@cache
def published_datasets() -> dict[str, Dataset]:
    """Return the image sets of the paper's tables by name."""
    content = tomllib.loads((files("lsncli.reference") / "datasets.toml").read_text(encoding="utf-8"))
    return {
        name: Dataset(name, **fields | {"places": tuple(fields.get("places", ()))})
        for name, fields in content.items()
    }
