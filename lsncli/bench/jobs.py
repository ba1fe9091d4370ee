"""The jobs of a table: which row is measured on which split, from which seed.

The key of a result is a digest of everything that the result depends on.
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
from lsncli.methods.spec import Method, parse_method, word_list
from lsncli.methods.words import list_digest
from lsncli.methods.workspace import Workspace
from lsncli.prompts.dualcoop import dual_settings
from lsncli.prompts.settings import preset
from lsncli.scores import load_score, score_settings
from lsncli.store.format import SplitInfo
from lsncli.store.reader import list_splits, read_checksums, read_fingerprint

CODE = (
    "lsncli.bench.measure:score_splits",
    "lsncli.bench.measure:result_numbers",
    "lsncli.bench.suite_workspace:same_backbone",
)
"""The code that computes results from features and prompts, beside the score, its inputs and the model."""

IN_THE_KEY = (
    Backbone,
    ResourceUse,
    metered,
    "lsncli.methods.spec:LEARNER_LABELS",
    "lsncli.methods.spec:SCORE_LABELS",
    "lsncli.bench.jobs:ScoreJob",
    "lsncli.bench.measure:write_candidates",
    read_vocabulary,
)
"""Definitions that ``CODE`` uses and that change no result, or are in the key by their content."""


@dataclass(frozen=True)
class TableRow:
    """A row of a table with the splits it is measured on."""

    name: str
    """As the published table prints it, without marks."""
    method: str
    """As ``lsn eval --method`` takes it."""
    splits: tuple[TaskSplit, ...]
    learnings: tuple[LearningSpec, ...] = ()
    shots: int | None = None
    """Training rows per class for a score that is fitted; None for all that are not held out."""
    model: str = ""
    """Empty for the model of the suite."""
    vocabulary: str = ""
    """A class list or a file of words, from which candidates are chosen for each image."""
    unavailable: str = ""
    """Why the suite cannot measure it; empty if it can."""

    def method_from(self, seed: int) -> Method:
        """Return the method; a score with a random part takes the seed, unless its settings have one.

        Raises UsageError for an invalid method.
        """
        method = parse_method(self.method)
        if "seed" in score_settings(method.score):
            method = replace(method, settings={"seed": seed} | method.settings)
        return method

    @property
    def fits_rows(self) -> bool:
        """Whether its score is fitted to training rows."""
        return self.method_from(0).learns_from_rows

    def supplied(self, work: Workspace) -> bool:
        """Whether the workspace holds what an unavailable row lacks: an imported head, candidates."""
        names = dict.fromkeys(name for split in self.splits for name in split.tested)
        files = self.external_files(work, list(names))
        return bool(files) and all(path.is_file() for path in files)

    def external_files(self, work: Workspace, sets: Sequence[str]) -> list[Path]:
        """Return the files that no job writes: imported heads, candidates for the images of ``sets``."""
        method, files = self.method_from(0), []
        if method.head in COMMANDS and method.head not in [learning.kind for learning in self.learnings]:
            files.append(work.head(method.head))
        if "candidates" in method.needs and not self.vocabulary:
            files += [work.candidates(name) for name in sets]
        return files

    def seeds(self, count: int) -> range:
        """Return ``count`` seeds, or one seed if nothing is random."""
        return range(count if self.learnings or self.fits_rows else 1)


@dataclass(frozen=True)
class StoreSnapshot:
    """The metadata of a store: the model and its fingerprint, the sets and their checksums.

    All of it is empty before the first extraction; keys of results are provisional then.
    """

    model: str
    fingerprint: str
    sets: Mapping[str, SplitInfo]
    checksums: Mapping[str, str]

    def part(self, part: ClassSubset) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Return what the rows of a part depend on: the checksum of the set, the classes and their names."""
        return self.checksums.get(part.set, ""), self.classes(part), part.names

    def classes(self, part: ClassSubset) -> tuple[str, ...]:
        """Return the classes of a part: its own, else those of the stored set."""
        known = self.sets.get(part.set)
        return part.classes or (known.classes if known else ())

    def rows(self, part: ClassSubset) -> int | None:
        """Return about how many rows a part has; None for a set that is not stored."""
        known = self.sets.get(part.set)
        if known is None:
            return None
        return round(known.rows * len(part.classes or known.classes) / max(1, len(known.classes)))


def snapshot_store(path: Path) -> StoreSnapshot:
    """Return the metadata of a store, empty without a file. Raises LsnError if it cannot be read."""
    if not path.is_file():
        return StoreSnapshot("", "", {}, {})
    model = read_fingerprint(path)
    return StoreSnapshot(model.model, model.digest, list_splits(path), read_checksums(path))


@dataclass(frozen=True)
class ScoreJob:
    """A job: score one row on one split from one seed, with all OOD sets of the split."""

    row: TableRow
    split: TaskSplit
    seed: int
    store: StoreSnapshot
    work: Workspace

    def __str__(self) -> str:
        return f"{self.row.name} on {self.split}, seed {self.seed}"

    @cached_property
    def method(self) -> Method:
        """The method with its seed. Raises UsageError if it is invalid."""
        return self.row.method_from(self.seed)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The word list of the row, or empty. Raises UsageError if it cannot be read."""
        return read_vocabulary(self.row.vocabulary) if self.row.vocabulary else ()

    @property
    def word_list(self) -> str:
        """Digest of what the candidates of an image depend on; empty without a word list."""
        if not self.words:
            return ""
        code = code_of(propose, *loader_of(self.store.model), without=(Backbone, Workspace))
        return digest("words", code, self.words, TOP)[:16]

    @cached_property
    def code(self) -> str:
        """Digest of the code that computes its results."""
        score = load_score(self.method.score, **self.method.settings)
        inputs = [INPUTS[name]] if (name := score.inputs()) else []
        return code_of(*CODE, *score.code(), *inputs, *loader_of(self.store.model), without=IN_THE_KEY)

    @property
    def missing(self) -> list[str]:
        """The sets that are not stored yet."""
        return [name for name in self.split.sets if name not in self.store.sets]

    @cached_property
    def learned(self) -> dict[str, tuple[LearningSpec, str]]:
        """What must be learned before, by kind: the learning and its key."""
        train = self.store.part(self.split.known)
        learned = {}
        for learning in self.row.learnings:
            key = learning.key(self.store.model, self.store.fingerprint, train, self.seed)
            if learning.kind == "clipn":
                key = digest(key, _content_digest(self.work.no_tower))[:32]
            learned[learning.kind] = learning, key
        return learned

    @cached_property
    def keys(self) -> dict[str, str]:
        """The key of the result for each OOD set."""
        store = self.store
        common = digest(
            self.code,
            store.fingerprint,
            str(self.method),
            store.classes(self.split.known),
            self.split.known.names,
            self._rows(),
            store.part(self.split.test),
            {kind: key for kind, (_, key) in self.learned.items()},
            self._file_digests() | self._word_digests(),
        )
        parts = self.split.ood.items()
        return {name: digest("result", common, store.part(part))[:32] for name, part in parts}

    def _rows(self) -> tuple[str | float | None, ...]:
        """What the training rows of a fitted score depend on; empty if the score is not fitted."""
        if not self.row.fits_rows:
            return ()
        return self.store.checksums.get(self.split.known.set, ""), HELD_OUT, self.row.shots, self.seed

    def _word_digests(self) -> dict[str, str]:
        """Digests of word lists, which may be files: of candidates, and of a score's own vocabulary."""
        digests = {"vocabulary": self.word_list} if self.words else {}
        if "words" in self.method.needs:
            digests["words"] = list_digest(word_list(self.method), self.store.model)
        return digests

    def _file_digests(self) -> dict[str, str]:
        """Digests of the files that no job writes, by name."""
        return {
            path.name: _content_digest(path) for path in self.row.external_files(self.work, self.split.tested)
        }


def _content_digest(path: Path) -> str:
    """sha256 of a file; empty if there is none."""
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def table_rows(
    suite: Suite,
    table: TableSpec,
    *,
    rows: Sequence[str] = (),
    splits: int | None = None,
    mode: str = "",
    model: str = "",
) -> tuple[TableRow, ...]:
    """Return the rows of a table, or those named by ``rows``, with at most ``splits`` splits of each ID set.

    ``mode`` replaces the mode of every learning. ``model`` replaces the model of the suite, the only model of
    a table, and a row's model of the same architecture. Raises UsageError for an unknown row, for invalid
    settings and for less than one split.
    """
    if splits is not None and splits < 1:
        raise UsageError(f"--splits: expected 1 or more, found {splits}.")
    names = {normalise_name(row.name): row for row in table.rows}
    unknown = [name for name in rows if normalise_name(name) not in names]
    if unknown:
        known = ", ".join(f"'{row.name}'" for row in table.rows)
        raise UsageError(
            f"--rows: table {table.key} of the suite '{suite.name}' has no row '{unknown[0]}'.",
            f"Expected one of {known}.",
        )
    chosen = [names[normalise_name(name)] for name in dict.fromkeys(rows)] or list(table.rows)
    return tuple(_table_row(suite, table, row, splits, mode, model) for row in table.rows if row in chosen)


def _table_row(
    suite: Suite, table: TableSpec, row: RowSpec, splits: int | None, mode: str, model: str
) -> TableRow:
    alone = {other.model for other in table.rows} == {row.model} and not row.unavailable
    same = row.model == suite.model or _architecture(row.model) == _architecture(model)
    replaced = bool(model) and (alone or same)
    name = model if replaced else row.model
    return TableRow(
        name=row.name,
        method=row.method,
        splits=_task_splits(suite, table.groups, row, splits),
        learnings=tuple(_learning(step, row.shots, mode) for step in row.learn),
        shots=row.shots,
        model="" if name == (model or suite.model) else name,
        vocabulary=row.vocabulary,
        unavailable="" if replaced else row.unavailable,
    )


def _task_splits(
    suite: Suite, groups: Sequence[Group], row: RowSpec, splits: int | None
) -> tuple[TaskSplit, ...]:
    """The splits of the row's ID set with every OOD set, or of each group's ID set with its other classes."""
    task_splits: list[TaskSplit] = []
    outside = {group.name: ClassSubset(group.ood) for group in groups if group.ood}
    if outside:
        ids = suite.ids[row.id]
        task_splits += [
            _task_split(ids, ids.title, number, choice, outside)
            for number, choice in enumerate(ids.choices[:splits])
        ]
    for group in groups:
        if group.id:
            ids = suite.ids[group.id]
            for number, choice in enumerate(ids.choices[:splits]):
                rest = {f"{len(choice.outside)} other classes": ClassSubset(ids.rest, choice.outside)}
                task_splits.append(_task_split(ids, group.name, number, choice, rest))
    return tuple(task_splits)


def _task_split(
    ids: IdSet, name: str, number: int, choice: ClassChoice, ood: dict[str, ClassSubset]
) -> TaskSplit:
    test = ClassSubset(ids.test, choice.inside, choice.names if choice.names != choice.inside else ())
    return TaskSplit(name, number, replace(test, set=ids.train) if ids.train else None, test, ood)


def _learning(step: Step, shots: int | None, mode: str) -> LearningSpec:
    settings = dict(step.settings)
    if step.kind in ("positive", "negative"):
        settings |= {"mode": mode} if mode else {}
        prompts = preset("positive" if step.kind == "positive" else "negative", **settings)
        return LearningSpec(step.kind, prompts, shots)
    return LearningSpec(step.kind, dual_settings(**settings) if step.kind == "dualcoop" else None, shots)


def _architecture(model: str) -> str:
    return model.partition(":")[0].removesuffix("-quickgelu")


def normalise_name(name: str) -> str:
    """Return a row's name for comparison: without case, blanks and "(ours)"."""
    return "".join(name.casefold().replace("(ours)", "").split())


def check_methods(suite: Suite, table: TableSpec) -> None:
    """Raise UsageError for an invalid method or setting; the message names suite, table and row.

    A method must not need what the row does not learn, or training images that its ID set does not have,
    unless the row is unavailable.
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
    except TypeError as error:  # an unknown setting, or a value of another type
        raise UsageError(
            f"learn '{step.name}': {error}.", "Settings are those of `lsn train-pos`."
        ) from error
    except UsageError as error:
        raise UsageError(f"learn '{step.name}': {error.message}", error.hint) from error


def _missing(suite: Suite, row: RowSpec) -> str:
    """What the method of a row lacks, as a clause; empty if nothing."""
    method = parse_method(row.method)
    needed = {method.head} & {"positive", *COMMANDS}
    if "negative" in method.needs and method.head not in COMMANDS:
        needed.add("negative")
    absent = sorted(needed - {step.kind for step in row.learn})
    if absent:
        return f"needs something of the kind '{absent[0]}' under the key 'learn'"
    if row.id and not suite.ids[row.id].train and method.learns_from_rows:
        return f"looks at training images, and the ID set '{row.id}' has no 'train'"
    return ""
