"""Suites and tables from TOML files; every error names the file, the table and the key.

Nothing but text is looked at here: ``lsncli.bench.suite`` looks at methods and settings.

A table of a TOML file, read key by key: what is missing, unknown or of another kind is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from lsncli import validation
from lsncli.bench.suite import KINDS, ClassChoice, Group, IdSet, RowSpec, Step, Suite, TableSpec
from lsncli.errors import UsageError
from lsncli.images.class_names import check_distinct
from lsncli.reference.classes import class_list, class_lists, open_set, open_sets
from lsncli.reference.datasets import Dataset, published_datasets


class Section:
    """One table; ``where`` is the file and the table, as messages name it. All raise UsageError."""

    def __init__(self, where: str, content: Mapping[str, Any]) -> None:
        self.where = where
        self.content = content
        self._known: list[str] = []

    def text(self, key: str, default: str | None = None) -> str:
        """A string; without a default it must be there."""
        value = self._get(key, "a text" if default is None else "")
        if value is None:
            return default or ""
        if not isinstance(value, str) or (default is None and not value.strip()):
            self.wrong(key, "a text", value)
        return value

    def number(self, key: str, default: int | None = None) -> int | None:
        """A whole number above 0."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.wrong(key, "a whole number above 0", value)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key)
        if value is not None and not isinstance(value, bool):
            self.wrong(key, "true or false", value)
        return default if value is None else value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty if the key is not there."""
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.wrong(key, "a list of texts", value)
        return tuple(value)

    def text_or_texts(self, key: str) -> str | tuple[str, ...]:
        """A string, or a list of them; "" if the key is not there."""
        return self.texts(key) if isinstance(self.content.get(key), list) else self.text(key, "")

    def table(self, key: str) -> dict[str, Any]:
        """A table as it is, empty if the key is not there."""
        value = self._get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(key, f"a table [{key}]", value)
        return value

    def sections(self, key: str) -> dict[str, "Section"]:
        """A table of tables."""
        found = {}
        for name, content in self.table(key).items():
            if not isinstance(content, dict):
                self.wrong(f"{key}.{name}", "a table", content)
            found[name] = Section(f"{self.where}, [{key}.{name}]", content)
        return found

    def one_of(self, key: str, name: str, known: Iterable[str]) -> str:
        """``name`` if it is one of ``known``."""
        known = tuple(known)
        if name not in known:
            self.wrong(key, f"one of {', '.join(known) or 'nothing: none is defined'}", name)
        return name

    def rest(self) -> dict[str, Any]:
        """Everything that was not asked for yet."""
        left = {key: value for key, value in self.content.items() if key not in self._known}
        self._known += left
        return left

    def end(self) -> None:
        """Nothing may be left."""
        left = [key for key in self.content if key not in self._known]
        if left:
            raise UsageError(
                f"{self.where}: there is no key '{left[0]}'.", f"Expected {', '.join(sorted(self._known))}."
            )

    def wrong(self, key: str, expected: str, found: Any) -> NoReturn:
        """Say that ``key`` holds an invalid value."""
        raise UsageError(f"{self.where}, key '{key}': expected {expected}, found {found!r}.")

    def _get(self, key: str, needed: str = "") -> Any:
        self._known.append(key)
        if needed and key not in self.content:
            raise UsageError(f"{self.where}: expected {needed} under the key '{key}', found none.")
        return self.content.get(key)


def read_toml(path: Path, what: str) -> Section:
    """The whole file. Raises UsageError if it cannot be read or is not TOML."""
    try:
        return Section(str(path), validation.read_toml(path))
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error


SUITES = ("paper", "mini")
"""The suites that come with lsn; any other is a file."""


def load_suite(name: str) -> Suite:
    """A suite of ``SUITES``, or a TOML file. Raises UsageError that names file, table and key."""
    if name in SUITES:
        path = Path(str(files("lsncli.bench") / "suites" / f"{name}.toml"))
        section = read_toml(path, "The suite")
        section.where = f"{name}.toml"
    elif name.endswith(".toml"):
        path = Path(name)
        section = read_toml(path, "--suite")
    else:
        raise UsageError(f"There is no suite '{name}'.", f"Expected {', '.join(SUITES)} or a FILE.toml.")
    suite = _head(section, path)
    tables = {key: _table(key, one, suite) for key, one in section.sections("tables").items()}
    section.end()
    return replace(suite, tables=MappingProxyType(tables))


def read_table(path: Path, suite: Suite) -> TableSpec:
    """A table from a file of its own, with the keys of a suite's ``[tables.NAME]``. Raises UsageError."""
    return _table(path.stem, read_toml(path, "--table"), suite)


def _head(top: Section, path: Path) -> Suite:
    """Everything but the tables."""
    features = top.text("features", "")
    suite = Suite(
        name=path.stem,
        title=top.text("title"),
        note=top.text("note", ""),
        model=top.text("model"),
        mode=top.text("mode", "paper"),
        shots=top.number("shots"),
        seeds=top.number("seeds", 1) or 1,
        stand_in=top.flag("stand_in", False),
        sets=MappingProxyType({key: _set(key, one) for key, one in top.sections("sets").items()}),
        ids={},
        steps={},
        tables={},
        folder=path.parent,
        features=path.parent / features if features else None,
    )
    ids = {key: _id(key, one, suite) for key, one in top.sections("id").items()}
    steps = {key: _step(key, one, suite) for key, one in top.sections("learn").items()}
    return replace(suite, ids=MappingProxyType(ids), steps=MappingProxyType(steps))


def _set(name: str, section: Section) -> Dataset:
    """A published set with what the suite says otherwise, or one of the suite's own."""
    known = published_datasets().get(name)
    base = known or Dataset(name, title=section.text("title"))
    found = Dataset(
        name=name,
        title=section.text("title", base.title),
        images=section.number("images", base.images),
        classes=section.number("classes", base.classes),
        per_class=section.number("per_class", base.per_class),
        class_list=section.text("class_list", base.class_list),
        labelled=section.flag("labelled", base.labelled),
        source=section.text("source", base.source),
        address=section.text("address", base.address),
        layout=section.text("layout", base.layout),
        note=section.text("note", base.note),
    )
    if known is not None and found.images == known.images:  # another number is another choice of images
        found = replace(found, places=known.places, cifar=known.cifar, beside=known.beside)
    if found.class_list:
        section.one_of("class_list", found.class_list, class_lists())
    section.end()
    return found


def _id(key: str, section: Section, suite: Suite) -> IdSet:
    test = section.one_of("test", section.text("test"), suite.sets)
    train = section.text("train", "")
    if train:
        section.one_of("train", train, suite.sets)
    rest = section.text("rest", "")
    if rest:
        section.one_of("rest", rest, suite.sets)
    classes, splits = section.text_or_texts("classes"), section.text("splits", "")
    if classes and splits:
        section.wrong("splits", "either classes or splits", splits)
    if bool(rest) != bool(splits):
        section.wrong("rest", "the set of the OOD classes where there are splits, and only there", rest)
    title = section.text("title", key)
    section.end()
    if splits:
        found = open_set(section.one_of("splits", splits, open_sets()))
        choices = tuple(ClassChoice(one.inside, one.inside, one.outside) for one in found.splits)
    else:
        choices = (_choice(section, classes, suite.sets[test]),)
        check_distinct(choices[0].names, where=f"{section.where}, classes")
    return IdSet(key, title, train, test, rest, choices)


def _choice(section: Section, classes: str | tuple[str, ...], stored: Dataset) -> ClassChoice:
    """All classes, those named one by one, or those of a class list, which may call them otherwise."""
    if not isinstance(classes, str):
        return ClassChoice(classes, classes)
    if not classes:
        return ClassChoice()
    wanted = class_list(section.one_of("classes", classes, class_lists()))
    if not stored.class_list:
        return ClassChoice(wanted.names, wanted.names)
    there = class_list(stored.class_list).by_key
    missing = [one.key for one in wanted.classes if one.key not in there]
    if missing:
        section.wrong("classes", f"classes of the set '{stored.name}' ({stored.class_list})", classes)
    return ClassChoice(tuple(there[one.key] for one in wanted.classes), wanted.names)


def _step(name: str, section: Section, suite: Suite) -> Step:
    named = section.one_of("kind", section.text("kind"), KINDS)
    kind = next(one for one in KINDS if one == named)
    settings = section.rest()
    if kind in ("positive", "negative"):
        settings = {"mode": suite.mode, "learner": "coop"} | settings
    return Step(name, kind, MappingProxyType(settings))


def _table(key: str, section: Section, suite: Suite) -> TableSpec:
    ood = {name: section.one_of(f"ood.{name}", one, suite.sets) for name, one in section.table("ood").items()}
    ids = {name: section.one_of(f"ids.{name}", one, suite.ids) for name, one in section.table("ids").items()}
    if bool(ood) == bool(ids):
        section.wrong("ood", "OOD sets by column, or under the key 'ids' ID sets with splits", ood)
    for name, one in ids.items():
        if not suite.ids[one].rest:
            section.wrong(f"ids.{name}", "an ID set with splits", one)
    groups = [Group(name, ood=one) for name, one in ood.items()]
    groups += [Group(name, id=one) for name, one in ids.items()]
    usual = replace(
        RowSpec("", "", (), suite.model, "", suite.shots),
        model=section.text("model", suite.model),
        id=_row_id(section, "", suite.ids, own=bool(ids)),
        shots=section.number("shots", suite.shots),
    )
    title, note = section.text("title", ""), section.text("note", "")
    rows = tuple(_row(name, one, suite, usual, bool(ids)) for name, one in section.sections("rows").items())
    section.end()
    if not rows:
        section.wrong("rows", "at least one row", {})
    return TableSpec(key, title, tuple(groups), rows, note)


def _row(name: str, section: Section, suite: Suite, usual: RowSpec, own: bool) -> RowSpec:
    row = replace(
        usual,
        name=name,
        method=section.text("method"),
        learn=_steps(section, suite.steps),
        model=section.text("model", usual.model),
        id=_row_id(section, usual.id, suite.ids, own),
        shots=section.number("shots", usual.shots),
        vocabulary=_vocabulary(section, suite.folder),
        note=section.text("note", ""),
        unavailable=section.text("unavailable", ""),
    )
    section.end()
    if not row.id and not own:
        section.wrong("id", f"one of {', '.join(suite.ids)} here or in the table", "")
    if row.learn and row.id and not suite.ids[row.id].train and not row.unavailable:
        section.wrong("learn", f"nothing, for the ID set '{row.id}' has no 'train'", row.learn[0].name)
    return row


def _vocabulary(section: Section, folder: Path) -> str:
    """A class list, or a file of words beside the suite's."""
    name = section.text("vocabulary", "")
    if not name or name in class_lists():
        return name
    path = folder / name
    if not path.is_file():
        section.wrong("vocabulary", f"one of {', '.join(class_lists())} or a file of words", name)
    return str(path)


def _row_id(section: Section, usual: str, ids: Iterable[str], own: bool) -> str:
    found = section.text("id", usual)
    if found and own:
        section.wrong("id", "none where the columns have ID sets of their own", found)
    return section.one_of("id", found, ids) if found else ""


def _steps(section: Section, known: Mapping[str, Step]) -> tuple[Step, ...]:
    steps = tuple(known[section.one_of("learn", name, known)] for name in section.texts("learn"))
    kinds = [step.kind for step in steps]
    if len(set(kinds)) < len(kinds):
        section.wrong("learn", "at most one of a kind", [step.name for step in steps])
    return steps
