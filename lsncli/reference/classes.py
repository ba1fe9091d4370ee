"""The class lists of the published benchmarks, and the class splits of the open-set benchmarks of Table 3.

The splits are those of ZOC (Esmaeilpour et al., AAAI 2022; github.com/sesmae/ZOC), by name. The k-th split of
CIFAR100 has the k-th twenty classes of the alphabet as ID; those of Tiny-ImageNet are from Class Anchor
Clustering. CIFAR+10 has one ID side and five OOD sides; CIFAR+50 is one split (the paper's "average of 5" has
one value there).
"""

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
    """One class: the name for prompts, its WordNet id, and its name in WordNet ("" without one)."""

    name: str
    wnid: str = ""
    wordnet: str = ""

    @property
    def key(self) -> str:
        """The unique key of the class: its WordNet id, else its name."""
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
        return tuple(item.name for item in self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The published names, with WordNet names for classes that share one ("missile", "projectile"):
        equal names would have equal text features."""
        counts = Counter(self.published_names)
        return tuple(item.wordnet if counts[item.name] > 1 else item.name for item in self.classes)

    @cached_property
    def by_key(self) -> Mapping[str, str]:
        """The names by ``ImageClass.key``."""
        return {item.key: name for item, name in zip(self.classes, self.names, strict=True)}

    def key_of(self, folder: str) -> str | None:
        """Return the key of a folder's class, or None if it is not in this list.

        The name of a folder is the WordNet id, alone or before a name (``n01440764_tench``), or the name with
        spaces or underscores.
        """
        wnid = WNID.match(folder)
        key = wnid.group() if wnid else folder.replace("_", " ")
        return key if key in self.by_key else None

    def names_of(self, folders: Iterable[str]) -> dict[str, str]:
        """Return the names by folder, for folders that are classes of this list."""
        keys = {folder: self.key_of(folder) for folder in folders}
        return {folder: self.by_key[key] for folder, key in keys.items() if key is not None}


@cache
def class_list(key: str) -> ClassList:
    """Return the class list of a key in ``class_lists()``. Raises UsageError for another key.

    imagenet1k: the clean names of MCM (Ming et al., NeurIPS 2022), which are CLIP's. imagenet100: the classes
    of Appendix C.0.1 of the LSN paper with these names; NPOS uses another hundred classes. imagenet10 and
    imagenet20: MCM's, with its prompt names. tinyimagenet: WordNet's names. dtd: the 47 textures.
    """
    known = _class_lists()
    if key not in known:
        raise UsageError(f"There is no class list '{key}'.", f"Expected one of {', '.join(known)}.")
    return ClassList(key, tuple(_class(*fields) for fields in known[key]))


def class_lists() -> tuple[str, ...]:
    """Return the keys of all class lists."""
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
    """The names of the ID classes in the order of their labels, and of the OOD classes."""

    id_names: tuple[str, ...]
    ood_names: tuple[str, ...]


@dataclass(frozen=True)
class OpenSet:
    """An open-set benchmark: its splits, and the class lists (keys of ``class_list``) of its two sides."""

    key: str
    title: str
    """As Table 3 prints it."""
    id_classes: str
    ood_classes: str
    splits: tuple[ClassSplit, ...]


class _StoredSplits(TypedDict):
    """A benchmark in splits.json: names by split; without ``ood`` all other classes are OOD."""

    title: str
    id_classes: str
    ood_classes: str
    id: list[list[str]]
    ood: NotRequired[list[list[str]]]


@cache
def open_set(key: str) -> OpenSet:
    """Return the benchmark of a key in ``open_sets()``. Raises UsageError for another key."""
    known = _splits()
    if key not in known:
        raise UsageError(f"There are no class splits '{key}'.", f"Expected one of {', '.join(known)}.")
    stored = known[key]
    id_names = [tuple(names) for names in stored["id"]]
    if "ood" in stored:
        ood_names = [tuple(names) for names in stored["ood"]]
    else:
        every = class_list(stored["ood_classes"]).names
        ood_names = [tuple(name for name in every if name not in names) for names in id_names]
    splits = tuple(ClassSplit(*sides) for sides in zip(id_names, ood_names, strict=True))
    return OpenSet(key, stored["title"], stored["id_classes"], stored["ood_classes"], splits)


def open_sets() -> tuple[str, ...]:
    """Return the keys of all open-set benchmarks, in the order of Table 3."""
    return tuple(_splits())


@cache
def _splits() -> dict[str, _StoredSplits]:
    content: dict[str, _StoredSplits] = json.loads(
        (files("lsncli.reference") / "splits.json").read_text(encoding="utf-8")
    )
    return content
