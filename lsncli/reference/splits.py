"""The class splits of the open-set benchmarks of Table 3: which classes are ID and which are OOD.

They are ZOC's (Esmaeilpour et al., AAAI 2022; github.com/sesmae/ZOC), by name. CIFAR100's k-th split has the
k-th twenty classes of the alphabet as ID; Tiny-ImageNet's are those of Class Anchor Clustering. CIFAR+10 has
one ID side and five OOD sides; CIFAR+50 is one split (the paper's "average of 5" has one value there).
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NotRequired, TypedDict

from lsncli.errors import UsageError
from lsncli.reference.classes import class_list


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


class _Stored(TypedDict):
    """A benchmark in splits.json: names by split; no ``ood`` where it is simply every other class."""

    title: str
    id_classes: str
    ood_classes: str
    id: list[list[str]]
    ood: NotRequired[list[list[str]]]


@cache
def open_set(key: str) -> OpenSet:
    """One of ``open_sets()``. Raises UsageError for another key."""
    known = _data()
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
    return tuple(_data())


@cache
def _data() -> dict[str, _Stored]:
    content: dict[str, _Stored] = json.loads(
        (files("lsncli.reference") / "splits.json").read_text(encoding="utf-8")
    )
    return content
