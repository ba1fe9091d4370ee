"""The class lists of the published benchmarks: names, WordNet ids, which folder belongs to which class."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import NotRequired, TypedDict

from lsncli.errors import UsageError

WNID = re.compile(r"n\d{8}(?=$|[_\- ])")


@dataclass(frozen=True)
class ImageClass:
    """One class: the name that prompts use, its WordNet id and WordNet's own name ("" where it has none)."""

    name: str
    wnid: str = ""
    wordnet: str = ""

    @property
    def key(self) -> str:
        """What tells it from other classes: the WordNet id, else the name."""
        return self.wnid or self.name


@dataclass(frozen=True)
class ClassList:
    """The classes of a benchmark in label order, which is the sorted order of their folders."""

    key: str
    classes: tuple[ImageClass, ...]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def published_names(self) -> tuple[str, ...]:
        """The names as MCM and CLIP use them. ImageNet-1k has "missile" and "sunglasses" twice."""
        return tuple(one.name for one in self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The same, but of two classes of one name each goes by its WordNet name ("missile", "projectile"):
        equal names would make two equal text features."""
        seen = Counter(self.published_names)
        return tuple(one.wordnet if seen[one.name] > 1 else one.name for one in self.classes)

    @cached_property
    def by_key(self) -> Mapping[str, str]:
        """Name by WordNet id; by itself where classes have none."""
        return {one.key: name for one, name in zip(self.classes, self.names, strict=True)}

    def key_of(self, folder: str) -> str | None:
        """The key of the class that a folder holds, None if it is not of this list.

        A folder is named by the WordNet id, alone or before a name (``n01440764_tench``), or by the name with
        spaces or underscores.
        """
        wnid = WNID.match(folder)
        key = wnid.group() if wnid else folder.replace("_", " ")
        return key if key in self.by_key else None

    def names_of(self, folders: Iterable[str]) -> dict[str, str]:
        """Name by folder, of the folders that are classes of this list."""
        keys = {folder: self.key_of(folder) for folder in folders}
        return {folder: self.by_key[key] for folder, key in keys.items() if key is not None}


@cache
def class_list(key: str) -> ClassList:
    """One of ``class_lists()``. Raises UsageError for another key.

    imagenet1k: the clean names of MCM (Ming et al., NeurIPS 2022), which are CLIP's. imagenet100: the classes
    of Appendix C.0.1 of the LSN paper with those names; NPOS has other hundred classes. imagenet10 and
    imagenet20: MCM's, with its prompt names. tinyimagenet: WordNet's names. dtd: the 47 textures.
    """
    known = _class_lists()
    if key not in known:
        raise UsageError(f"There is no class list '{key}'.", f"Expected one of {', '.join(known)}.")
    return ClassList(key, tuple(_class(*fields) for fields in known[key]))


def class_lists() -> tuple[str, ...]:
    """The keys of all class lists."""
    return tuple(_class_lists())


def _class(first: str, name: str = "", wordnet: str = "") -> ImageClass:
    return ImageClass(name, first, wordnet) if name else ImageClass(first)


@cache
def _class_lists() -> dict[str, list[list[str]]]:
    """Rows [name], [WordNet id, name] or [WordNet id, name, WordNet's name] by key."""
    content: dict[str, list[list[str]]] = json.loads(
        (files("lsncli.reference") / "classes.json").read_text(encoding="utf-8")
    )
    return content


@dataclass(frozen=True)
class ClassSplit:
    """The names of the classes that are ID, in the order of their labels, and of those that are OOD."""

    inside: tuple[str, ...]
    outside: tuple[str, ...]


@dataclass(frozen=True)
class OpenSet:
    """One benchmark: its splits, and the class lists (keys of ``class_list``) of its two sides."""

    key: str
    title: str
    """As Table 3 prints it."""
    id_classes: str
    ood_classes: str
    splits: tuple[ClassSplit, ...]


class _StoredSplits(TypedDict):
    """A benchmark in splits.json: names by split; no ``ood`` where it is simply every other class."""

    title: str
    id_classes: str
    ood_classes: str
    id: list[list[str]]
    ood: NotRequired[list[list[str]]]


@cache
def open_set(key: str) -> OpenSet:
    """One of ``open_sets()``. Raises UsageError for another key."""
    known = _splits()
    if key not in known:
        raise UsageError(f"There are no class splits '{key}'.", f"Expected one of {', '.join(known)}.")
    found = known[key]
    insides = [tuple(names) for names in found["id"]]
    if "ood" in found:
        outsides = [tuple(names) for names in found["ood"]]
    else:
        every = class_list(found["ood_classes"]).names
        outsides = [tuple(name for name in every if name not in names) for names in insides]
    splits = tuple(ClassSplit(*sides) for sides in zip(insides, outsides, strict=True))
    return OpenSet(key, found["title"], found["id_classes"], found["ood_classes"], splits)


def open_sets() -> tuple[str, ...]:
    """The keys of all benchmarks, in the order of Table 3."""
    return tuple(_splits())


@cache
def _splits() -> dict[str, _StoredSplits]:
    content: dict[str, _StoredSplits] = json.loads(
        (files("lsncli.reference") / "splits.json").read_text(encoding="utf-8")
    )
    return content
