"""A suite: the images, the model and the methods of the rows of its tables.

``lsncli.bench.suite_toml`` reads one from a TOML file; docs/suites.md explains the keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lsncli.errors import UsageError
from lsncli.reference.datasets import Dataset

Kind = Literal["positive", "negative", "linear", "dualcoop", "clipn"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of prompts and heads that a row can learn."""


@dataclass(frozen=True)
class ClassChoice:
    """One split of an ID set: its ID and OOD classes.

    ``inside`` are the ID classes by their stored names, () = all; ``names`` are their names in prompts, in
    the same order; ``outside`` are the classes of ``IdSet.rest`` that are OOD.
    """

    inside: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class IdSet:
    """An ID set: training and test images, and their classes."""

    key: str
    title: str
    train: str
    """A set; "" without training images."""
    test: str
    rest: str = ""
    """The set with the OOD classes of splits; else ""."""
    choices: tuple[ClassChoice, ...] = (ClassChoice(),)
    """One for each split."""


@dataclass(frozen=True)
class Step:
    """Something to learn: a name, one of ``KINDS``, and settings as of ``lsn train-pos|train-neg``."""

    name: str
    kind: Kind
    settings: Mapping[str, Any]
    """Of prompts: ``mode``, ``learner`` and others of ``PromptSettings``; of heads: none."""


@dataclass(frozen=True)
class Group:
    """A group of columns, such as "iNaturalist".

    It is an OOD set for the row's ID set, or an ID set with its OOD classes (``id``, with ``ood`` "").
    """

    name: str
    ood: str = ""
    id: str = ""


@dataclass(frozen=True)
class RowSpec:
    """A row of a table and how it is measured."""

    name: str
    """As the published table prints it, without marks."""
    method: str
    """As ``lsn eval --method`` takes it."""
    learn: tuple[Step, ...]
    """What to learn, in this order; one of each kind."""
    model: str
    id: str
    """The ID set; "" if the groups have their own."""
    shots: int | None
    """Training images per class; None for all."""
    vocabulary: str = ""
    """A class list or a file of words, from which candidates are chosen for each image."""
    note: str = ""
    """How it differs from the published row."""
    unavailable: str = ""
    """Why the suite cannot measure it; with the user's own model it runs all the same."""


@dataclass(frozen=True)
class TableSpec:
    """How one table is measured. ``key`` is its number in the paper, or a name."""

    key: str
    title: str
    groups: tuple[Group, ...]
    rows: tuple[RowSpec, ...]
    note: str = ""


@dataclass(frozen=True)
class Suite:
    """A suite. ``stand_in``: its images are not the paper's; ``note`` is a footnote of all its tables."""

    name: str
    title: str
    note: str
    model: str
    mode: str
    shots: int | None
    seeds: int
    stand_in: bool
    sets: Mapping[str, Dataset]
    ids: Mapping[str, IdSet]
    steps: Mapping[str, Step]
    tables: Mapping[str, TableSpec]
    folder: Path
    """Folder of the suite file; paths in it are relative to this folder."""
    features: Path | None = None
    """A store that came with the suite: features of some sets by its model."""

    def table(self, key: str | int) -> TableSpec:
        """Return a table. Raises UsageError if the suite has none of this key."""
        if str(key) not in self.tables:
            known = ", ".join(self.tables) or "none"
            raise UsageError(f"The suite '{self.name}' has no table {key}.", f"Expected one of {known}.")
        return self.tables[str(key)]

    def needs(self, table: TableSpec) -> tuple[str, ...]:
        """Return the names of the image sets of a table, each once."""
        names: list[str] = []
        for key in [row.id for row in table.rows] + [group.id for group in table.groups]:
            if key:
                ids = self.ids[key]
                names += [ids.train, ids.test, ids.rest]
        names += [group.ood for group in table.groups]
        return tuple(dict.fromkeys(filter(None, names)))

    def tables_by_set(self) -> dict[str, tuple[str, ...]]:
        """Return the keys of the tables that need each set."""
        needs = {key: self.needs(table) for key, table in self.tables.items()}
        return {name: tuple(key for key, sets in needs.items() if name in sets) for name in self.sets}
