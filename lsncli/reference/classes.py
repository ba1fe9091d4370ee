"""The class lists of the published benchmarks: names, WordNet ids, which folder belongs to which class."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

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
    known = _data()
    if key not in known:
        raise UsageError(f"There is no class list '{key}'.", f"Expected one of {', '.join(known)}.")
    return ClassList(key, tuple(_class(*fields) for fields in known[key]))


def class_lists() -> tuple[str, ...]:
    """The keys of all class lists."""
    return tuple(_data())


def _class(first: str, name: str = "", wordnet: str = "") -> ImageClass:
    return ImageClass(name, first, wordnet) if name else ImageClass(first)


@cache
def _data() -> dict[str, list[list[str]]]:
    """Rows [name], [WordNet id, name] or [WordNet id, name, WordNet's name] by key."""
    content: dict[str, list[list[str]]] = json.loads(
        (files("lsncli.reference") / "classes.json").read_text(encoding="utf-8")
    )
    return content
