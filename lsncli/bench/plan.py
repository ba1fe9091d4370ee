"""The jobs of a table that are left: sets to extract, prompts to learn, rows to score; how large they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lsncli.bench.extraction import Extract, StoredSets
from lsncli.bench.jobs import ScoreJob, StoreSnapshot, TableRow, snapshot_store
from lsncli.bench.results import Record
from lsncli.bench.suite_workspace import RowWorkspace, SuiteWorkspace, learned_file
from lsncli.bench.tasks import ClassSubset, TaskSplit
from lsncli.bench.training_jobs import LearningSpec


@dataclass(frozen=True)
class Job:
    """A job as `--dry-run` lists it."""

    kind: str
    """``extract``, ``learn`` or ``score``."""
    what: str
    label: str
    """The time of jobs with one label is proportional to their ``units``."""
    units: int | None
    """None if its size is unknown."""
    done: bool
    blocked: str = ""
    """Why it cannot run; empty if it can."""
    score: ScoreJob | None = None
    """The score that needs it; None for an extraction."""
    learning: LearningSpec | None = None
    model: str = ""
    copied: bool = False
    """Whether the features come with the suite, so that nothing is encoded."""


@dataclass(frozen=True)
class BenchPlan:
    """All jobs of some rows of a table, planned from what is on the disk."""

    suite_work: SuiteWorkspace
    extracts: tuple[Extract, ...]
    scores: tuple[ScoreJob, ...]
    known: dict[str, Record]
    """Results by key."""
    skipped: dict[str, str]
    """Why rows have no jobs, by the names of the rows."""

    def done(self, score: ScoreJob) -> bool:
        """Return whether all results of a score are known."""
        return all(key in self.known for key in score.keys.values())

    @cached_property
    def waiting(self) -> tuple[ScoreJob, ...]:
        """The scores without results; those that read the same rows follow each other."""
        groups: dict[tuple[str, str], list[ScoreJob]] = {}
        for score in self.scores:
            if not self.done(score):
                groups.setdefault((score.row.model, str(score.split)), []).append(score)
        return tuple(score for group in groups.values() for score in group)

    @cached_property
    def trainings(self) -> dict[Path, tuple[LearningSpec, ScoreJob]]:
        """What the waiting scores need and is not learned yet, by the path of its file."""
        trainings: dict[Path, tuple[LearningSpec, ScoreJob]] = {}
        for score in self.waiting:
            for learning, key in score.learned.values():
                path = learned_file(score.work, key)
                if path not in trainings and not path.is_file():
                    trainings[path] = learning, score
        return trainings

    @cached_property
    def blocked(self) -> dict[tuple[str, str], str]:
        """Why splits of a model cannot be extracted, by model and split."""
        return {(job.model, job.split): job.blocked for job in self.extracts if job.blocked}

    @property
    def lacks(self) -> list[str]:
        """What is missing of the images, as clauses."""
        if self.suite_work.data is None and self.blocked:
            names = dict.fromkeys(job.set for job in self.extracts if job.blocked)
            return [f"no features of the sets {', '.join(names)}, and no --data DIR to make them from"]
        return list(dict.fromkeys(self.blocked.values()))

    def why_blocked(self, score: ScoreJob) -> str:
        """Return why a score cannot be measured; empty if it can."""
        keys = ((score.row.model, name) for name in score.missing)
        return next((self.blocked[key] for key in keys if key in self.blocked), "")

    def jobs(self) -> Iterator[Job]:
        """Yield all jobs, done or not, in the order of a run."""
        for job in self.extracts:
            yield Job(
                "extract",
                str(job),
                job.label,
                job.images,
                False,
                job.blocked,
                model=job.model,
                copied=job.bundle is not None,
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
                        training_label(learning, score),
                        self.units_of(learning, score),
                        done,
                        "" if done else why,
                        score,
                        learning,
                        score.row.model,
                    )
            work, done = self.scoring_work(score), self.done(score)
            yield Job("score", str(score), score_label(score), work, done, why, score, None, score.row.model)

    def extraction(self, score: ScoreJob, split: str) -> Extract | None:
        """Return the job that extracts a split for a score; None if there is none."""
        return self._extracts.get((score.row.model, split))

    def train_rows(self, score: ScoreJob) -> int | None:
        """Return about how many images the row of a score learns from; 0 for none, None if unknown."""
        if score.split.train is None:
            return 0
        rows, classes, shots = self.images(score, score.split.train), self.classes(score), score.row.shots
        return rows if rows is None or classes is None or shots is None else min(rows, classes * shots)

    def units_of(self, learning: LearningSpec, score: ScoreJob) -> int | None:
        """Return the units of work of a training; None if its size is unknown."""
        rows, classes = self.train_rows(score), self.classes(score)
        return None if rows is None or classes is None else learning.work(rows, classes)

    def rows_of(self, score: ScoreJob) -> int | None:
        """Return how many rows are scored; None if unknown."""
        counts = [self.images(score, part) for part in (score.split.test, *score.split.ood.values())]
        return None if None in counts else sum(count for count in counts if count is not None)

    def scoring_work(self, score: ScoreJob) -> int | None:
        """Return the units of work of scoring.

        They are rows times classes, times the sets of prompts that depend on the image.
        """
        rows, classes = self.rows_of(score), self.classes(score)
        if rows is None or classes is None:
            return None
        return rows * classes * max(1, count_conditional_sets(score))

    def images(self, score: ScoreJob, part: ClassSubset) -> int | None:
        """Return about how many images a part has, as stored, as listed or as published; None if unknown."""
        if part.set in score.store.sets:
            return score.store.rows(part)
        job = self._extracts.get((score.row.model, part.set))
        if job is None or job.images is None or not part.classes or part.set != part.image_set:
            return job.images if job else None
        known = self.suite_work.sets.get(part.image_set)
        total = known.classes if known else None
        return round(job.images * len(part.classes) / total) if total else job.images

    def classes(self, score: ScoreJob) -> int | None:
        """Return the number of ID classes; None if unknown."""
        known = self.suite_work.sets.get(score.split.known.image_set)
        return len(score.store.classes(score.split.known)) or (known.classes if known else None)

    @cached_property
    def _extracts(self) -> dict[tuple[str, str], Extract]:
        return {(job.model, job.split): job for job in self.extracts}


def make_plan(suite_work: SuiteWorkspace, rows: Sequence[TableRow], seeds: int = 1) -> BenchPlan:
    """Return the jobs of ``rows`` from ``seeds`` seeds; unavailable rows have none.

    Raises UsageError for an invalid method, LsnError for a store that cannot be read.
    """
    snapshots: dict[str, StoreSnapshot] = {}
    todo: list[tuple[TableRow, TaskSplit, int]] = []
    skipped: dict[str, str] = {}
    for row in rows:
        work: RowWorkspace = suite_work.workspace(row.model)
        if row.unavailable and not row.supplied(work):
            skipped[row.name] = row.unavailable
            continue
        snapshots.setdefault(row.model, snapshot_store(work.features))
        todo += [(row, split, seed) for split in row.splits for seed in row.seeds(seeds)]
    choices = {model: StoredSets(suite_work, model, snapshot, todo) for model, snapshot in snapshots.items()}
    scores = tuple(
        ScoreJob(
            row,
            choices[row.model].stored_split(row, split, seed),
            seed,
            snapshots[row.model],
            suite_work.workspace(row.model),
        )
        for row, split, seed in todo
    )
    extracts: dict[tuple[str, str], Extract] = {}
    for score in scores:
        for name in score.missing:
            key = score.row.model, name
            extracts[key] = choices[score.row.model].extract(name)
    return BenchPlan(suite_work, tuple(extracts.values()), scores, suite_work.results.read(), skipped)


def training_name(learning: LearningSpec, score: ScoreJob) -> str:
    """Return the name of a training in messages."""
    return f"{learning} for {score.split}, seed {score.seed}"


def count_conditional_sets(score: ScoreJob) -> int:
    """Return how many sets of prompts depend on the image (CoCoOp); each needs a text pass per image."""
    settings = [learning.settings for learning in score.row.learnings if learning.settings]
    return sum(each.sets for each in settings if each.learner == "cocoop")


def score_label(score: ScoreJob) -> str:
    """Return the label of a score, by which its time is estimated."""
    learners = sorted(each.settings.learner for each in score.row.learnings if each.settings)
    return f"score {', '.join([score.method.score, *learners])} by {score.row.model or 'the model'}"


def training_label(learning: LearningSpec, score: ScoreJob) -> str:
    """Return the label of a training, by which its time is estimated."""
    return f"learn {learning} by {score.row.model or 'the model'}"
