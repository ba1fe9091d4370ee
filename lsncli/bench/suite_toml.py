"""Suites and tables from TOML files; every error names the file, the table and the key.

Nothing but text is checked here: ``lsncli.bench.jobs`` checks methods and settings.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from lsncli.bench.suite import ClassChoice, Group, IdSet, Kind, RowSpec, Step, Suite, TableSpec
from lsncli.errors import UsageError
from lsncli.images.class_names import check_distinct
from lsncli.reference.classes import class_list, class_lists, open_set, open_sets
from lsncli.reference.datasets import Dataset, published_datasets
from lsncli.validation import REST, Count, FieldError, Text, missing_key, read_toml, validate, wrong_value

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class SetEntry:
    """``[sets.NAME]``: how a set differs from the published one of this name, or a set of the suite's own."""

    title: str | None = None
    images: Count | None = None
    classes: Count | None = None
    per_class: Count | None = None
    class_list: str | None = None
    labelled: bool | None = None
    source: str | None = None
    address: str | None = None
    layout: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class IdEntry:
    """``[id.NAME]``: an ID set."""

    test: Text
    title: str | None = None
    train: str = ""
    rest: str = ""
    classes: str | tuple[str, ...] = ""
    splits: str = ""


@dataclass(frozen=True)
class StepEntry:
    """``[learn.NAME]``: something to learn; ``settings`` are all other keys."""

    kind: Kind
    settings: dict[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True)
class RowEntry:
    """``[tables.NAME.rows.NAME]``: a row; None for what the table says."""

    method: Text
    learn: tuple[str, ...] = ()
    model: str | None = None
    id: str | None = None
    shots: Count | None = None
    vocabulary: str = ""
    note: str = ""
    unavailable: str = ""


@dataclass(frozen=True)
class TableEntry:
    """``[tables.NAME]``, or the whole of a file for ``--table``."""

    title: str = ""
    note: str = ""
    ood: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    id: str = ""
    shots: Count | None = None
    rows: dict[str, RowEntry] = field(default_factory=dict)


@dataclass(frozen=True)
class SuiteFile:
    """A whole suite file."""

    title: Text
    model: Text
    note: str = ""
    mode: str = "paper"
    shots: Count | None = None
    seeds: Count = 1
    stand_in: bool = False
    features: str = ""
    sets: dict[str, SetEntry] = field(default_factory=dict)
    id: dict[str, IdEntry] = field(default_factory=dict)
    learn: dict[str, StepEntry] = field(default_factory=dict)
    tables: dict[str, TableEntry] = field(default_factory=dict)


SUITES = ("paper", "mini")
"""The suites that come with lsn; any other is a file."""


def load_suite(name: str) -> Suite:
    """Return a suite of ``SUITES``, or of a TOML file. Raises UsageError that names file, table and key."""
    if name in SUITES:
        path, where = Path(str(files("lsncli.bench") / "suites" / f"{name}.toml")), f"{name}.toml"
        content = _read(SuiteFile, path, "The suite", where)
    elif name.endswith(".toml"):
        path, where = Path(name), name
        content = _read(SuiteFile, path, "--suite", where)
    else:
        raise UsageError(f"There is no suite '{name}'.", f"Expected {', '.join(SUITES)} or a FILE.toml.")
    suite = _without_tables(content, where, path)
    tables = {
        key: _table(key, entry, f"{where}, [tables.{key}]", suite) for key, entry in content.tables.items()
    }
    return replace(suite, tables=MappingProxyType(tables))


def read_table(path: Path, suite: Suite) -> TableSpec:
    """Return a table from a file with the keys of a suite's ``[tables.NAME]``. Raises UsageError."""
    return _table(path.stem, _read(TableEntry, path, "--table", str(path)), str(path), suite)


def _read(kind: type[Entry], path: Path, what: str, where: str) -> Entry:
    """The content of a TOML file. Raises UsageError if it cannot be read, is not TOML or has a wrong key."""
    try:
        return validate(kind, read_toml(path), where)
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror or error}.") from error
    except FieldError as error:
        raise UsageError(f"{error}.", error.hint) from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error


def _wrong(where: str, key: str, expected: str, value: Any) -> NoReturn:
    """Raise UsageError for an invalid value of ``key``."""
    raise UsageError(f"{wrong_value(where, key, expected, value)}.")


def _one_of(where: str, key: str, name: str, known: Iterable[str]) -> str:
    """``name`` if it is one of ``known``. Raises UsageError."""
    known = tuple(known)
    if name not in known:
        _wrong(where, key, f"one of {', '.join(known) or 'nothing: none is defined'}", name)
    return name


def _without_tables(content: SuiteFile, where: str, path: Path) -> Suite:
    """The suite but for its tables."""
    sets = {key: _set(key, entry, f"{where}, [sets.{key}]") for key, entry in content.sets.items()}
    suite = Suite(
        name=path.stem,
        title=content.title,
        note=content.note,
        model=content.model,
        mode=content.mode,
        shots=content.shots,
        seeds=content.seeds,
        stand_in=content.stand_in,
        sets=MappingProxyType(sets),
        ids={},
        steps={},
        tables={},
        folder=path.parent,
        features=path.parent / content.features if content.features else None,
    )
    ids = {key: _id(key, entry, f"{where}, [id.{key}]", suite) for key, entry in content.id.items()}
    steps = {key: _step(key, entry, suite) for key, entry in content.learn.items()}
    return replace(suite, ids=MappingProxyType(ids), steps=MappingProxyType(steps))


def _set(name: str, entry: SetEntry, where: str) -> Dataset:
    """The published set with the changes of the suite, or one of the suite's own."""
    known = published_datasets().get(name)
    if known is None and not (entry.title or "").strip():
        raise UsageError(f"{missing_key(where, 'title', 'a text')}.")
    changes = {key: value for key, value in vars(entry).items() if value is not None}
    dataset = replace(known or Dataset(name, title=""), **changes)
    if known is not None and dataset.images != known.images:  # another number is another choice of images
        dataset = replace(dataset, places=(), cifar="", beside="")
    if dataset.class_list:
        _one_of(where, "class_list", dataset.class_list, class_lists())
    return dataset


def _id(key: str, entry: IdEntry, where: str, suite: Suite) -> IdSet:
    _one_of(where, "test", entry.test, suite.sets)
    for name, value in (("train", entry.train), ("rest", entry.rest)):
        if value:
            _one_of(where, name, value, suite.sets)
    if entry.classes and entry.splits:
        _wrong(where, "splits", "either classes or splits", entry.splits)
    if bool(entry.rest) != bool(entry.splits):
        _wrong(where, "rest", "the set of the OOD classes where there are splits, and only there", entry.rest)
    if entry.splits:
        splits = open_set(_one_of(where, "splits", entry.splits, open_sets())).splits
        choices = tuple(ClassChoice(split.id_names, split.id_names, split.ood_names) for split in splits)
    else:
        choices = (_choice(where, entry.classes, suite.sets[entry.test]),)
        check_distinct(choices[0].names, where=f"{where}, classes")
    title = key if entry.title is None else entry.title
    return IdSet(key, title, entry.train, entry.test, entry.rest, choices)


def _choice(where: str, classes: str | tuple[str, ...], dataset: Dataset) -> ClassChoice:
    """All classes, those named one by one, or those of a class list, which may have other names for them."""
    if not isinstance(classes, str):
        return ClassChoice(classes, classes)
    if not classes:
        return ClassChoice()
    chosen = class_list(_one_of(where, "classes", classes, class_lists()))
    if not dataset.class_list:
        return ClassChoice(chosen.names, chosen.names)
    stored_names = class_list(dataset.class_list).by_key
    if any(entry.key not in stored_names for entry in chosen.classes):
        _wrong(where, "classes", f"classes of the set '{dataset.name}' ({dataset.class_list})", classes)
    return ClassChoice(tuple(stored_names[entry.key] for entry in chosen.classes), chosen.names)


def _step(name: str, entry: StepEntry, suite: Suite) -> Step:
    settings = entry.settings
    if entry.kind in ("positive", "negative"):
        settings = {"mode": suite.mode, "learner": "coop"} | settings
    return Step(name, entry.kind, MappingProxyType(settings))


def _table(key: str, entry: TableEntry, where: str, suite: Suite) -> TableSpec:
    for name, value in entry.ood.items():
        _one_of(where, f"ood.{name}", value, suite.sets)
    for name, value in entry.ids.items():
        _one_of(where, f"ids.{name}", value, suite.ids)
    if bool(entry.ood) == bool(entry.ids):
        _wrong(where, "ood", "OOD sets by column, or under the key 'ids' ID sets with splits", entry.ood)
    for name, value in entry.ids.items():
        if not suite.ids[value].rest:
            _wrong(where, f"ids.{name}", "an ID set with splits", value)
    groups = [Group(name, ood=value) for name, value in entry.ood.items()]
    groups += [Group(name, id=value) for name, value in entry.ids.items()]
    default = RowSpec(
        name="",
        method="",
        learn=(),
        model=suite.model if entry.model is None else entry.model,
        id=_row_id(where, entry.id, suite.ids, bool(entry.ids)),
        shots=entry.shots or suite.shots,
    )
    rows = tuple(
        _row(name, row, f"{where}, [rows.{name}]", suite, default, bool(entry.ids))
        for name, row in entry.rows.items()
    )
    if not rows:
        _wrong(where, "rows", "at least one row", {})
    return TableSpec(key, entry.title, tuple(groups), rows, entry.note)


def _row(name: str, entry: RowEntry, where: str, suite: Suite, default: RowSpec, own_ids: bool) -> RowSpec:
    """A row; ``default`` holds what the table says, ``own_ids`` whether its columns have ID sets."""
    row = replace(
        default,
        name=name,
        method=entry.method,
        learn=_steps(where, entry.learn, suite.steps),
        model=default.model if entry.model is None else entry.model,
        id=_row_id(where, default.id if entry.id is None else entry.id, suite.ids, own_ids),
        shots=entry.shots or default.shots,
        vocabulary=_vocabulary(where, entry.vocabulary, suite.folder),
        note=entry.note,
        unavailable=entry.unavailable,
    )
    if not row.id and not own_ids:
        _wrong(where, "id", f"one of {', '.join(suite.ids)} here or in the table", "")
    if row.learn and row.id and not suite.ids[row.id].train and not row.unavailable:
        _wrong(where, "learn", f"nothing, for the ID set '{row.id}' has no 'train'", row.learn[0].name)
    return row


def _vocabulary(where: str, name: str, folder: Path) -> str:
    """A class list, or a file of words beside the suite's."""
    if not name or name in class_lists():
        return name
    path = folder / name
    if not path.is_file():
        _wrong(where, "vocabulary", f"one of {', '.join(class_lists())} or a file of words", name)
    return str(path)


def _row_id(where: str, name: str, ids: Iterable[str], own_ids: bool) -> str:
    if name and own_ids:
        _wrong(where, "id", "none where the columns have ID sets of their own", name)
    return _one_of(where, "id", name, ids) if name else ""


def _steps(where: str, names: Iterable[str], known: Mapping[str, Step]) -> tuple[Step, ...]:
    steps = tuple(known[_one_of(where, "learn", name, known)] for name in names)
    kinds = [step.kind for step in steps]
    if len(set(kinds)) < len(kinds):
        _wrong(where, "learn", "at most one of a kind", [step.name for step in steps])
    return steps
