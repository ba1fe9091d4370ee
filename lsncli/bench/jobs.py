"""The jobs of a table: which scores are measured on which splits, with what learned and by which model.

Results are known by digests of everything that they depend on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from lsncli.artefacts.heads import COMMANDS
from lsncli.backbones import Backbone, loader_of
from lsncli.bench.suite import ClassChoice, Group, IdSet, RowSpec, Step, Suite, TableSpec
from lsncli.bench.tasks import HELD_OUT, ClassSubset, TaskSplit
from lsncli.bench.training_jobs import LearningSpec
from lsncli.errors import UsageError
from lsncli.methods.cache import digest
from lsncli.methods.candidates import TOP, propose, read_vocabulary
from lsncli.methods.inputs import INPUTS
from lsncli.methods.prepared import ResourceUse, metered
from lsncli.methods.source_digest import code_of
from lsncli.methods.spec import Method, parse_method
from lsncli.methods.workspace import Workspace
from lsncli.prompts.dualcoop import dual_settings
from lsncli.prompts.settings import preset
from lsncli.scores import load_score, score_settings
from lsncli.store.format import SplitInfo
from lsncli.store.reader import list_splits, read_checksums, read_fingerprint

CODE = (
    "lsncli.bench.measure:scored",
    "lsncli.bench.measure:numbers_of",
    "lsncli.bench.suite_workspace:same_backbone",
)
"""What makes numbers of given features and prompts, beside the score, its inputs and the model."""

IN_THE_KEY = (
    Backbone,
    ResourceUse,
    metered,
    "lsncli.methods.spec:LEARNER_LABELS",
    "lsncli.methods.spec:SCORE_LABELS",
    "lsncli.bench.jobs:ScoreJob",
    "lsncli.bench.measure:lay_out_words",
)
"""What ``CODE`` uses and what changes no number, or has a key of its own."""


@dataclass(frozen=True)
class TableRow:
    """A row of a table and how it is measured."""

    name: str
    """As the published table prints it, without marks."""
    method: str
    """As ``lsn eval --method`` takes it."""
    places: tuple[TaskSplit, ...]
    learnings: tuple[LearningSpec, ...] = ()
    shots: int | None = None
    """Training rows of each class for a score that learns from rows; None for all that are not held out."""
    model: str = ""
    """Empty for the suite's."""
    vocabulary: str = ""
    """A class list or a file of words, from which every image's words are chosen."""
    unavailable: str = ""
    """Why this suite cannot measure it; empty if it can."""

    def method_from(self, seed: int) -> Method:
        """The method; a score that draws at random takes the seed, unless one is named.

        Raises UsageError for an invalid method.
        """
        method = parse_method(self.method)
        if "seed" in score_settings(method.score):
            method = replace(method, settings={"seed": seed} | method.settings)
        return method

    @property
    def looks_at_rows(self) -> bool:
        """Whether its score learns from training rows by itself."""
        return self.method_from(0).learns_from_rows

    def supplied(self, work: Workspace) -> bool:
        """Whether the user left in the workspace what an unavailable line lacks: a head, words for images."""
        names = dict.fromkeys(name for place in self.places for name in place.tested)
        files = self.outside(work, list(names))
        return bool(files) and all(path.is_file() for path in files)

    def outside(self, work: Workspace, sets: Sequence[str]) -> list[Path]:
        """Files that no job makes: imported heads, words for the images of ``sets``."""
        method, files = self.method_from(0), []
        if method.head in COMMANDS and method.head not in [one.kind for one in self.learnings]:
            files.append(work.head(method.head))
        if "candidates" in method.needs and not self.vocabulary:
            files += [work.candidates(name) for name in sets]
        return files

    def seeds(self, count: int) -> range:
        """``count`` seeds, but one where nothing is drawn."""
        return range(count if self.learnings or self.looks_at_rows else 1)


@dataclass(frozen=True)
class StoreSnapshot:
    """What a store says of itself without its rows: the model and its digest, the sets, their checksums.

    For sets that are not there yet everything is empty: what depends on them has a provisional key.
    """

    model: str
    fingerprint: str
    sets: Mapping[str, SplitInfo]
    checksums: Mapping[str, str]

    def part(self, part: ClassSubset) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """What its rows depend on: the checksum of their set, the classes, and what those are called."""
        return self.checksums.get(part.set, ""), self.classes(part), part.names

    def classes(self, part: ClassSubset) -> tuple[str, ...]:
        """The named ones, else those of the set."""
        known = self.sets.get(part.set)
        return part.classes or (known.classes if known else ())

    def rows(self, part: ClassSubset) -> int | None:
        """About how many; None for a set that is not there."""
        known = self.sets.get(part.set)
        if known is None:
            return None
        return round(known.rows * len(part.classes or known.classes) / max(1, len(known.classes)))


def stored(store: Path) -> StoreSnapshot:
    """Raises LsnError for a store that cannot be read."""
    if not store.is_file():
        return StoreSnapshot("", "", {}, {})
    model = read_fingerprint(store)
    return StoreSnapshot(model.model, model.digest, list_splits(store), read_checksums(store))


@dataclass(frozen=True)
class ScoreJob:
    """A job: one line at one place from one seed, on all OOD sets of the place."""

    line: TableRow
    place: TaskSplit
    seed: int
    there: StoreSnapshot
    work: Workspace

    def __str__(self) -> str:
        return f"{self.line.name} on {self.place}, seed {self.seed}"

    @cached_property
    def method(self) -> Method:
        """Raises UsageError for an invalid method."""
        return self.line.method_from(self.seed)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The word list of the line; empty if it has none. Raises UsageError if it cannot be read."""
        return read_vocabulary(self.line.vocabulary) if self.line.vocabulary else ()

    @property
    def word_list(self) -> str:
        """Digest of what decides about the words of an image; empty if they are not chosen from a list."""
        if not self.words:
            return ""
        code = code_of(propose, *loader_of(self.there.model), without=(Backbone, Workspace))
        return digest("words", code, self.words, TOP)[:16]

    @cached_property
    def code(self) -> str:
        """Digest of the code that makes its numbers."""
        score = load_score(self.method.score, **self.method.settings)
        inputs = [INPUTS[name]] if (name := score.inputs()) else []
        return code_of(*CODE, type(score), *inputs, *loader_of(self.there.model), without=IN_THE_KEY)

    @property
    def missing(self) -> list[str]:
        """Sets that are not stored yet."""
        return [name for name in self.place.sets if name not in self.there.sets]

    @cached_property
    def learned(self) -> dict[str, tuple[LearningSpec, str]]:
        """What must have been learned, by kind: the learning and its key."""
        train = self.there.part(self.place.known)
        found = {}
        for one in self.line.learnings:
            key = one.key(self.there.model, self.there.fingerprint, train, self.seed)
            if one.kind == "clipn":
                key = digest(key, _content(self.work.no_tower))[:32]
            found[one.kind] = one, key
        return found

    @cached_property
    def keys(self) -> dict[str, str]:
        """The key of the result on each OOD set."""
        there = self.there
        common = digest(
            self.code,
            there.fingerprint,
            str(self.method),
            there.classes(self.place.known),
            self.place.known.names,
            self._rows(),
            there.part(self.place.test),
            {kind: key for kind, (_, key) in self.learned.items()},
            self._found() | ({"vocabulary": self.word_list} if self.words else {}),
        )
        parts = self.place.ood.items()
        return {name: digest("result", common, there.part(part))[:32] for name, part in parts}

    def _rows(self) -> tuple[str | float | None, ...]:
        """What the training rows that the score itself looks at depend on; empty if it looks at none."""
        if not self.line.looks_at_rows:
            return ()
        return self.there.checksums.get(self.place.known.set, ""), HELD_OUT, self.line.shots, self.seed

    def _found(self) -> dict[str, str]:
        """Digests of files in the suite's workspace that no job makes: imported heads, words for images."""
        return {path.name: _content(path) for path in self.line.outside(self.work, self.place.tested)}


def _content(path: Path) -> str:
    """sha256 of a file; empty if there is none."""
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def lines_of(
    suite: Suite,
    table: TableSpec,
    *,
    rows: Sequence[str] = (),
    splits: int | None = None,
    mode: str = "",
    model: str = "",
) -> tuple[TableRow, ...]:
    """The lines of a table, or those named by ``rows``; at most ``splits`` splits of every ID set.

    ``mode`` takes the place of the mode of every learning. ``model`` takes the place of the suite's model, of
    the only model of a table, and of one of the same architecture that a row names. Raises UsageError for a
    row that is not there, for invalid settings and for less than one split.
    """
    if splits is not None and splits < 1:
        raise UsageError(f"--splits: expected 1 or more, found {splits}.")
    names = {plain(row.name): row for row in table.rows}
    unknown = [name for name in rows if plain(name) not in names]
    if unknown:
        known = ", ".join(f"'{row.name}'" for row in table.rows)
        raise UsageError(
            f"--rows: table {table.key} of the suite '{suite.name}' has no row '{unknown[0]}'.",
            f"Expected one of {known}.",
        )
    chosen = [names[plain(name)] for name in dict.fromkeys(rows)] or list(table.rows)
    return tuple(_line(suite, table, row, splits, mode, model) for row in table.rows if row in chosen)


def _line(
    suite: Suite, table: TableSpec, row: RowSpec, splits: int | None, mode: str, model: str
) -> TableRow:
    alone = {one.model for one in table.rows} == {row.model} and not row.unavailable
    same = row.model == suite.model or _architecture(row.model) == _architecture(model)
    given = bool(model) and (alone or same)
    name = model if given else row.model
    return TableRow(
        name=row.name,
        method=row.method,
        places=_places(suite, table.groups, row, splits),
        learnings=tuple(_learning(step, row.shots, mode) for step in row.learn),
        shots=row.shots,
        model="" if name == (model or suite.model) else name,
        vocabulary=row.vocabulary,
        unavailable="" if given else row.unavailable,
    )


def _places(suite: Suite, groups: Sequence[Group], row: RowSpec, splits: int | None) -> tuple[TaskSplit, ...]:
    """Those of the row's ID set against every OOD set; or those of every group's ID set against its rest."""
    found: list[TaskSplit] = []
    outside = {group.name: ClassSubset(group.ood) for group in groups if group.ood}
    if outside:
        ids = suite.ids[row.id]
        found += [
            _place(ids, ids.title, number, choice, outside)
            for number, choice in enumerate(ids.choices[:splits])
        ]
    for group in groups:
        if group.id:
            ids = suite.ids[group.id]
            for number, choice in enumerate(ids.choices[:splits]):
                rest = {f"{len(choice.outside)} other classes": ClassSubset(ids.rest, choice.outside)}
                found.append(_place(ids, group.name, number, choice, rest))
    return tuple(found)


def _place(ids: IdSet, name: str, number: int, choice: ClassChoice, ood: dict[str, ClassSubset]) -> TaskSplit:
    test = ClassSubset(ids.test, choice.inside, choice.names if choice.names != choice.inside else ())
    return TaskSplit(name, number, replace(test, set=ids.train) if ids.train else None, test, ood)


def _learning(step: Step, shots: int | None, mode: str) -> LearningSpec:
    settings = dict(step.settings)
    if step.kind in ("positive", "negative"):
        settings |= {"mode": mode} if mode else {}
        made = preset("positive" if step.kind == "positive" else "negative", **settings)
        return LearningSpec(step.kind, made, shots)
    return LearningSpec(step.kind, dual_settings(**settings) if step.kind == "dualcoop" else None, shots)


def _architecture(model: str) -> str:
    return model.partition(":")[0].removesuffix("-quickgelu")


def plain(name: str) -> str:
    """A row's name as users type it: case, blanks and "(ours)" do not matter."""
    return "".join(name.casefold().replace("(ours)", "").split())


def check_methods(suite: Suite, table: TableSpec) -> None:
    """Raise UsageError, naming suite, table and row, for an invalid method or setting, and for
    a method that looks at what the row does not learn or at images that its ID set does not have.

    A row that is unavailable may lack those.
    """
    for row in table.rows:
        try:
            for step in row.learn:
                _check_step(step)
            missing = _missing(suite, row)
            if missing and not row.unavailable:
                raise UsageError(f"the method {row.method} {missing}.")
        except UsageError as error:
            where = f"Suite '{suite.name}', table {table.key}, row '{row.name}'"
            raise UsageError(f"{where}: {error.message}", error.hint) from error


def _check_step(step: Step) -> None:
    try:
        if step.kind in ("positive", "negative"):
            preset(step.kind, **step.settings)
        elif step.kind == "dualcoop":
            dual_settings(**step.settings)
        elif step.settings:
            raise UsageError(f"expected no settings for a head, found '{next(iter(step.settings))}'.")
    except TypeError as error:  # no such setting, or a value of another kind
        raise UsageError(
            f"learn '{step.name}': {error}.", "Settings are those of `lsn train-pos`."
        ) from error
    except UsageError as error:
        raise UsageError(f"learn '{step.name}': {error.message}", error.hint) from error


def _missing(suite: Suite, row: RowSpec) -> str:
    """What the method of a row lacks, in words; empty if nothing."""
    method = parse_method(row.method)
    needed = {method.head} & {"positive", *COMMANDS}
    if "negative" in method.needs and method.head not in COMMANDS:
        needed.add("negative")
    absent = sorted(needed - {step.kind for step in row.learn})
    if absent:
        return f"needs something of the kind '{absent[0]}' under the key 'learn'"
    if row.id and not suite.ids[row.id].train and method.needs & {"train", "labels"}:
        return f"looks at training images, and the ID set '{row.id}' has no 'train'"
    return ""
