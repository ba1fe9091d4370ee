"""The published image sets: how many images and classes, where they come from, how to lay them out."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Dataset:
    """One image set of a suite. None = any number."""

    name: str
    """Of its folder, or of its .tar, below ``--data``."""
    title: str
    images: int | None = None
    classes: int | None = None
    per_class: int | None = None
    """How many images every class must have."""
    class_list: str = ""
    """Whose folders these are, a key of ``reference.classes.class_list``; "" = any names."""
    labelled: bool = True
    """False where images are OOD as a whole: then class folders do not matter."""
    source: str = ""
    """In words: who made it, which part of it."""
    address: str = ""
    layout: str = ""
    """What to do with what the address gives."""
    note: str = ""
    """How it differs from a published set, if it stands in for one."""
    places: tuple[str, ...] = ()
    """Where people have it below ``--data``, with braces; case, blanks, '-' and '_' do not matter."""
    cifar: str = ""
    """"train" or "test" where ``places`` may be CIFAR's own files."""
    beside: str = ""
    """A file that must lie beside the folder found; with ! before it, one that must not."""


@cache
def published_datasets() -> dict[str, Dataset]:
    """The image sets of the paper's tables, by name."""
    content = tomllib.loads((files("lsncli.reference") / "datasets.toml").read_text(encoding="utf-8"))
    return {
        name: Dataset(name, **fields | {"places": tuple(fields.get("places", ()))})
        for name, fields in content.items()
    }
