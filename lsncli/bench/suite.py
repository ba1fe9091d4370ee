"""A suite: on which images, with which model and by which methods the rows of a table are measured.

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
"""What can be learned for a row: prompts, or a head."""


@dataclass(frozen=True)
class ClassChoice:
    """One split of an ID set: which classes of its stored sets play ID and which OOD.

    ``inside`` are names of the stored sets, () = all; ``names`` what prompts call the same classes, in the
    same order; ``outside`` are the classes of ``IdSet.rest`` that are OOD.
    """

    inside: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class IdSet:
    """What plays ID: images to learn from and to test on, and which of their classes."""

    key: str
    title: str
    train: str
    """A set; "" where there is nothing to learn from."""
    test: str
    rest: str = ""
    """The set of the classes that are OOD, where a split names them; else ""."""
    choices: tuple[ClassChoice, ...] = (ClassChoice(),)
    """One for each split."""


@dataclass(frozen=True)
class Step:
    """Something to learn: a name, one of ``KINDS``, and settings as ``lsn train-pos|train-neg`` have them."""

    name: str
    kind: Kind
    settings: Mapping[str, Any]
    """Of prompts: ``mode``, ``learner`` and others of ``PromptSettings``; of heads: none."""


@dataclass(frozen=True)
class Group:
    """A group of columns of a table ("iNaturalist"): an OOD set against the row's ID set, or an ID set whose
    other classes are OOD (``id`` with ``ood`` "")."""

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
    """What must be learned before, in this order; one of a kind."""
    model: str
    id: str
    """The row's ID set; "" where the groups have their own."""
    shots: int | None
    """At most so many training images of each class; None for all."""
    vocabulary: str = ""
    """Where a score asks for words for each image: a class list or a file of words to choose from."""
    note: str = ""
    """How it differs from the published row, if it does."""
    unavailable: str = ""
    """Why this suite cannot measure it, if it cannot; with a model of the user's own it runs all the same."""


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
    """All of it. ``stand_in`` says that its images are not those of the paper, ``note`` belongs under every
    table that is measured on it."""

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
    """Of the suite's file: what it names lies beside it."""
    features: Path | None = None
    """A store that came with the suite: features of some of its sets by its model."""

    def table(self, key: str | int) -> TableSpec:
        """Raises UsageError for a table that the suite does not have."""
        if str(key) not in self.tables:
            known = ", ".join(self.tables) or "none"
            raise UsageError(f"The suite '{self.name}' has no table {key}.", f"Expected one of {known}.")
        return self.tables[str(key)]

    def needs(self, table: TableSpec) -> tuple[str, ...]:
        """The names of the image sets that a table is measured on, each once."""
        names: list[str] = []
        for one in [row.id for row in table.rows] + [group.id for group in table.groups]:
            if one:
                ids = self.ids[one]
                names += [ids.train, ids.test, ids.rest]
        names += [group.ood for group in table.groups]
        return tuple(dict.fromkeys(filter(None, names)))

    def tables_by_set(self) -> dict[str, tuple[str, ...]]:
        """For every set the keys of the tables that need it."""
        needs = {key: self.needs(table) for key, table in self.tables.items()}
        return {name: tuple(key for key, sets in needs.items() if name in sets) for name in self.sets}
