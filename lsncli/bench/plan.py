"""What must be done for a table: images to extract, prompts to learn, lines to score; the cost of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lsncli.bench.extraction import Extract, StoredSets
from lsncli.bench.jobs import ScoreJob, StoreSnapshot, TableRow, stored
from lsncli.bench.results import Record
from lsncli.bench.suite_workspace import RowWorkspace, SuiteWorkspace, learned_file
from lsncli.bench.tasks import ClassSubset, TaskSplit
from lsncli.bench.training_jobs import LearningSpec


@dataclass(frozen=True)
class Job:
    """A piece of work, as people see it."""

    kind: str
    """extract, learn or score."""
    what: str
    label: str
    """Jobs of one label take time in proportion to their ``units``."""
    units: int | None
    """None where its size is not known yet."""
    done: bool
    blocked: str = ""
    """Why it cannot be done; empty if it can."""
    score: ScoreJob | None = None
    """What it is for; None for an extraction."""
    learning: LearningSpec | None = None
    model: str = ""
    copied: bool = False
    """Whether the features came with the suite: nothing is encoded."""


@dataclass(frozen=True)
class BenchPlan:
    """All jobs of some lines by the state of the disk when it was made; ``known`` are results by key."""

    suite_work: SuiteWorkspace
    extracts: tuple[Extract, ...]
    scores: tuple[ScoreJob, ...]
    known: dict[str, Record]
    """Results by key."""
    skipped: dict[str, str]
    """Why lines have no jobs, by their names."""

    def done(self, score: ScoreJob) -> bool:
        """Whether all its results are known."""
        return all(key in self.known for key in score.keys.values())

    @cached_property
    def waiting(self) -> tuple[ScoreJob, ...]:
        """What must be scored, in an order in which those that share rows follow each other."""
        todo = [one for one in self.scores if not self.done(one)]
        places = [(one.line.model, str(one.place)) for one in todo]
        first = {place: number for number, place in reversed(list(enumerate(places)))}
        return tuple(
            one for _, one in sorted(zip(places, todo, strict=True), key=lambda pair: first[pair[0]])
        )

    @cached_property
    def trainings(self) -> dict[Path, tuple[LearningSpec, ScoreJob]]:
        """What the waiting scores need to have been learned and is not, by the file it goes to."""
        found: dict[Path, tuple[LearningSpec, ScoreJob]] = {}
        for score in self.waiting:
            for learning, key in score.learned.values():
                path = learned_file(score.work, key)
                if path not in found and not path.is_file():
                    found[path] = learning, score
        return found

    @cached_property
    def blocked(self) -> dict[tuple[str, str], str]:
        """Why splits of a model cannot be extracted, by model and split."""
        return {(one.model, one.split): one.blocked for one in self.extracts if one.blocked}

    @property
    def lacks(self) -> list[str]:
        """What is missing of the images, a clause each."""
        if self.suite_work.data is None and self.blocked:
            names = dict.fromkeys(one.set for one in self.extracts if one.blocked)
            return [f"no features of the sets {', '.join(names)}, and no --data DIR to make them from"]
        return list(dict.fromkeys(self.blocked.values()))

    def why_blocked(self, score: ScoreJob) -> str:
        """Why a score cannot be made; empty if it can."""
        keys = ((score.line.model, name) for name in score.missing)
        return next((self.blocked[key] for key in keys if key in self.blocked), "")

    def jobs(self) -> Iterator[Job]:
        """Everything, done or not, in the order it is done in."""
        for one in self.extracts:
            yield Job(
                "extract",
                str(one),
                one.label,
                one.images,
                False,
                one.blocked,
                None,
                None,
                one.model,
                one.bundle is not None,
            )
        seen: set[Path] = set()
        for score in self.scores:
            why = self.why_blocked(score)
            for learning, key in score.learned.values():
                path = learned_file(score.work, key)
                if path not in seen:
                    seen.add(path)
                    done = path.is_file() or path not in self.trainings
                    yield Job(
                        "learn",
                        training_name(learning, score),
                        label_of(learning, score),
                        self.units_of(learning, score),
                        done,
                        "" if done else why,
                        score,
                        learning,
                        score.line.model,
                    )
            work, done = self.scoring_work(score), self.done(score)
            yield Job("score", str(score), score_label(score), work, done, why, score, None, score.line.model)

    def extraction(self, score: ScoreJob, split: str) -> Extract | None:
        """The job that makes a split that a score needs."""
        return self._extracts.get((score.line.model, split))

    def train_rows(self, score: ScoreJob) -> int | None:
        """About how many images a score's line learns from, of all classes; 0 if from none."""
        if score.place.train is None:
            return 0
        rows, classes, shots = self.images(score, score.place.train), self.classes(score), score.line.shots
        return rows if rows is None or classes is None or shots is None else min(rows, classes * shots)

    def units_of(self, learning: LearningSpec, score: ScoreJob) -> int | None:
        """The work of a training; None if its size is not known."""
        rows, classes = self.train_rows(score), self.classes(score)
        return None if rows is None or classes is None else learning.work(rows, classes)

    def rows_of(self, score: ScoreJob) -> int | None:
        """How many rows a score looks at; None if that is not known."""
        counts = [self.images(score, part) for part in (score.place.test, *score.place.ood.values())]
        return None if None in counts else sum(count for count in counts if count is not None)

    def scoring_work(self, score: ScoreJob) -> int | None:
        """What the seconds of scoring grow with: rows times classes, for each set of prompts that depends on
        the image."""
        rows, classes = self.rows_of(score), self.classes(score)
        return None if rows is None or classes is None else rows * classes * max(1, conditional_sets(score))

    def images(self, score: ScoreJob, part: ClassSubset) -> int | None:
        """About how many images a part has: as stored, as listed, or as published."""
        if part.set in score.there.sets:
            return score.there.rows(part)
        one = self._extracts.get((score.line.model, part.set))
        if one is None or one.images is None or not part.classes or part.set != part.image_set:
            return one.images if one else None
        known = self.suite_work.sets.get(part.image_set)
        total = known.classes if known else None
        return round(one.images * len(part.classes) / total) if total else one.images

    def classes(self, score: ScoreJob) -> int | None:
        """How many classes are ID."""
        known = self.suite_work.sets.get(score.place.known.image_set)
        return len(score.there.classes(score.place.known)) or (known.classes if known else None)

    @cached_property
    def _extracts(self) -> dict[tuple[str, str], Extract]:
        return {(one.model, one.split): one for one in self.extracts}


def make_plan(suite_work: SuiteWorkspace, lines: Sequence[TableRow], seeds: int = 1) -> BenchPlan:
    """The jobs of ``lines`` from ``seeds`` seeds; those that are unavailable have none.

    Raises UsageError for an invalid method, LsnError for a store that cannot be read.
    """
    there: dict[str, StoreSnapshot] = {}
    todo: list[tuple[TableRow, TaskSplit, int]] = []
    skipped: dict[str, str] = {}
    for line in lines:
        work: RowWorkspace = suite_work.workspace(line.model)
        if line.unavailable and not line.supplied(work):
            skipped[line.name] = line.unavailable
            continue
        there.setdefault(line.model, stored(work.features))
        todo += [(line, place, seed) for place in line.places for seed in line.seeds(seeds)]
    choices = {model: StoredSets(suite_work, model, one, todo) for model, one in there.items()}
    scores = tuple(
        ScoreJob(
            line,
            choices[line.model].place(line, place, seed),
            seed,
            there[line.model],
            suite_work.workspace(line.model),
        )
        for line, place, seed in todo
    )
    extracts: dict[tuple[str, str], Extract] = {}
    for score in scores:
        for name in score.missing:
            key = score.line.model, name
            extracts[key] = choices[score.line.model].extract(name)
    return BenchPlan(suite_work, tuple(extracts.values()), scores, suite_work.results.read(), skipped)


def training_name(learning: LearningSpec, score: ScoreJob) -> str:
    """What people call a training."""
    return f"{learning} for {score.place}, seed {score.seed}"


def conditional_sets(score: ScoreJob) -> int:
    """How many sets of prompts that a line learns depend on the image (CoCoOp): a text pass each."""
    settings = [one.settings for one in score.line.learnings if one.settings]
    return sum(one.sets for one in settings if one.learner == "cocoop")


def score_label(score: ScoreJob) -> str:
    """What seconds of scoring are compared with."""
    learners = sorted(one.settings.learner for one in score.line.learnings if one.settings)
    return f"score {', '.join([score.method.score, *learners])} by {score.line.model or 'the model'}"


def label_of(learning: LearningSpec, score: ScoreJob) -> str:
    """What seconds of learning are compared with."""
    return f"learn {learning} by {score.line.model or 'the model'}"
