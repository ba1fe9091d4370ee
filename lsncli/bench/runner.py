"""Run the jobs of a table that are left: extract, learn, score. Each result is written at once.

After a kill at any moment the same call resumes: finished sets, prompts and results are found by their keys,
an unfinished extraction or training by its last checkpoint. A failed row does not stop the others. The time
left is estimated from earlier jobs of the same kind.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path

from lsncli.bench.extraction import describe_outdated, extract_set
from lsncli.bench.jobs import ScoreJob, TableRow
from lsncli.bench.measure import measure
from lsncli.bench.plan import BenchPlan, make_plan, score_label, training_label, training_name
from lsncli.bench.results import Results
from lsncli.bench.suite_workspace import SuiteWorkspace, learned_file, same_backbone
from lsncli.bench.training_jobs import LearningSpec, PoolTask, TrainingJob, run_trainings, shared_loader
from lsncli.console import ProgressCallback, duration, err, printable, progress_bar, say
from lsncli.device import gpus, pick_device
from lsncli.errors import LsnError
from lsncli.locks import locked


class Rates:
    """Seconds per unit of work by label, from earlier jobs."""

    def __init__(self, timings: Results) -> None:
        self._rates: dict[str, list[float]] = defaultdict(list)
        for record in timings.lines():
            if isinstance(record.get("seconds"), float) and isinstance(record.get("units"), int):
                self.add(str(record.get("label")), record["units"], record["seconds"])

    def estimate(self, label: str, units: int | None) -> float | None:
        """Return the seconds for some units of a label, by the median rate; None without an earlier job."""
        if units is None or not self._rates.get(label):
            return None
        return statistics.median(self._rates[label]) * units

    def add(self, label: str, units: int, seconds: float) -> None:
        """Count a finished job."""
        self._rates[label].append(seconds / max(1, units))


LINE_SECONDS = 10.0
"""Seconds between two lines of progress where there is no bar."""

Waiting = tuple[str, int | None]
"""The label and the units of a job that is left."""


class Progress:
    """Count jobs and estimate the time left. Jobs have the names that messages give them."""

    def __init__(
        self,
        waiting: dict[str, Waiting],
        rates: Rates,
        progress: ProgressCallback,
        quiet: bool,
        later: Sequence[Waiting] = (),
    ) -> None:
        self._waiting, self._rates, self._progress, self._quiet = dict(waiting), rates, progress, quiet
        self._later = later
        self._total, self._last_line = len(waiting), time.monotonic()

    def start(self, what: str) -> None:
        """Show that a job runs."""
        self._progress(0, f"{what}{self._left()}")
        if not err.is_terminal and time.monotonic() - self._last_line >= LINE_SECONDS:
            done = self._total - len(self._waiting)
            say(f"{done} of {self._total} jobs done; now {what}{self._left()}", quiet=self._quiet)
            self._last_line = time.monotonic()

    def finish(self, what: str, units: int = 0, seconds: float = 0.0) -> None:
        """Count a job that is done, or cannot run; later estimates use its ``seconds``."""
        label, _ = self._waiting.pop(what, ("", None))
        if label and seconds:
            self._rates.add(label, units, seconds)
        self._progress(1)

    def _left(self) -> str:
        estimates = [self._rates.estimate(*job) for job in (*self._waiting.values(), *self._later)]
        known = [seconds for seconds in estimates if seconds is not None]
        if not known:
            return ""
        at_least = "at least " if len(known) < len(estimates) else "about "
        return f"; {at_least}{duration(sum(known))} left"


@contextmanager
def show_progress(
    waiting: dict[str, Waiting], rates: Rates, quiet: bool, later: Sequence[Waiting] = ()
) -> Iterator[Progress]:
    """Show a bar over the ``waiting`` jobs.

    The notes have the time left, which differs from job to job, with that of jobs that come ``later``.
    """
    with progress_bar("jobs", len(waiting), quiet=quiet, time_left=False) as progress:
        yield Progress(waiting, rates, progress, quiet, later)


@dataclass
class Run:
    """A run: its plan, and why scores failed, by their names in messages."""

    suite_work: SuiteWorkspace
    about: Mapping[str, str]
    """Suite and table, for the records of results."""
    plan: BenchPlan
    failed: dict[str, str] = field(default_factory=dict)


def run(
    suite_work: SuiteWorkspace,
    rows: Sequence[TableRow],
    *,
    about: Mapping[str, str],
    seeds: int = 1,
    jobs: int = 1,
    quiet: bool = False,
    later: Sequence[BenchPlan] = (),
) -> Run:
    """Run every job of ``rows`` that is left; ``jobs`` trainings run in parallel.

    ``about`` goes into each record. The time left includes the plans that the caller runs ``later``.
    Missing images are reported first; a set is extracted only if some score has all its images. Raises
    UsageError for an invalid method, LsnError if another process works on the suite; ``Run.failed`` has the
    errors of jobs.
    """
    with locked(suite_work.results.path):
        this_run = Run(suite_work, about, make_plan(suite_work, rows, seeds))
        rates = Rates(suite_work.timings)
        if not this_run.plan.waiting:
            return this_run
        for why in this_run.plan.lacks:
            say(printable(f"There are {why}."), quiet=quiet)
        after = waiting_later(this_run.plan, later)
        with show_progress(_waiting(this_run.plan), rates, quiet, after) as progress:
            missing = _extract(this_run, progress)
            this_run.plan = make_plan(suite_work, rows, seeds)  # features are there, so keys are final
            _learn_and_score(this_run, missing, jobs, progress)
        return this_run


def _waiting(plan: BenchPlan) -> dict[str, Waiting]:
    """All jobs that are left, by their names in messages."""
    waiting: dict[str, Waiting] = {str(job): (job.label, None) for job in plan.extracts}
    for training, score in plan.trainings.values():
        waiting[training_name(training, score)] = (
            training_label(training, score),
            plan.units_of(training, score),
        )
    return waiting | {str(score): (score_label(score), plan.scoring_work(score)) for score in plan.waiting}


def waiting_later(plan: BenchPlan, later: Sequence[BenchPlan]) -> list[Waiting]:
    """Return the trainings and scores of ``later`` plans that ``plan`` does not make, each once."""
    made: set[object] = {*plan.trainings, *(frozenset(score.keys.values()) for score in plan.waiting)}
    waiting: list[Waiting] = []
    for one in later:
        jobs: list[tuple[object, Waiting]] = [
            (path, (training_label(*job), one.units_of(*job))) for path, job in one.trainings.items()
        ]
        jobs += [
            (frozenset(score.keys.values()), (score_label(score), one.scoring_work(score)))
            for score in one.waiting
        ]
        for key, job in jobs:
            if key not in made:
                made.add(key)
                waiting.append(job)
    return waiting


def _extract(this_run: Run, progress: Progress) -> dict[tuple[str, str], str]:
    """Extract the missing splits; return why splits of a model cannot be used."""
    plan = this_run.plan
    problems = {key: f"There are {why}." for key, why in plan.blocked.items()}
    possible = [score for score in plan.waiting if not plan.why_blocked(score)]
    needed = {(score.row.model, name) for score in possible for name in score.missing}
    for job in plan.extracts:
        if (job.model, job.split) not in needed:
            progress.finish(str(job))
            continue
        progress.start(str(job))
        began = time.perf_counter()
        try:
            units = extract_set(job)
        except LsnError as error:
            problems[job.model, job.split] = str(error)
            progress.finish(str(job))
            continue
        _record_time(this_run, progress, str(job), job.label, units, time.perf_counter() - began)
    parts = {
        (score.row.model, part.set): (part, score) for score in plan.waiting for part in score.split.parts
    }
    for (model, split), (part, score) in parts.items():
        info = score.store.sets.get(split)
        why = describe_outdated(split, part.image_set, this_run.suite_work, info) if info else ""
        if why:
            folder = this_run.suite_work.workspace(model).folder
            problems[model, split] = f"{why}. Remove {folder} to start again, or call the set otherwise."
    return problems


def _learn_and_score(
    this_run: Run, missing: Mapping[tuple[str, str], str], jobs: int, progress: Progress
) -> None:
    """Learn in the order of the scores; score each as soon as its prompts and heads are learned."""
    todo: list[ScoreJob] = []
    for score in this_run.plan.waiting:
        problems = [missing[key] for name in score.split.sets if (key := (score.row.model, name)) in missing]
        if problems:
            _fail(this_run, progress, score, problems[0])
        else:
            todo.append(score)
    needed = {path for score in todo for path in _needs(score)}
    trainings = {path: training for path, training in this_run.plan.trainings.items() if path in needed}
    devices = cycle(_devices(this_run.suite_work.device, jobs))
    tasks = [
        _pool_task(this_run.suite_work, path, *training, device=device)
        for (path, training), device in zip(trainings.items(), devices, strict=False)
    ]
    left = set(trainings)
    names = {path: training_name(*training) for path, training in trainings.items()}
    with run_trainings(tasks, jobs) as finished:
        todo = _settle(this_run, todo, left, progress)
        if tasks:
            progress.start(names[tasks[0].path])
        for result in finished:
            name = names[result.task.path]
            if result.error:
                progress.finish(name)
                for score in [score for score in todo if result.task.path in _needs(score)]:
                    _fail(this_run, progress, score, result.error)
                    todo.remove(score)
                continue
            training, score = trainings[result.task.path]
            units = this_run.plan.units_of(training, score) or 0
            _record_time(this_run, progress, name, training_label(training, score), units, result.seconds)
            left.discard(result.task.path)
            todo = _settle(this_run, todo, left, progress)
            rest = [names[path] for path in trainings if path in left]
            progress.start(rest[0] if rest else name)


def _settle(this_run: Run, todo: Sequence[ScoreJob], left: set[Path], progress: Progress) -> list[ScoreJob]:
    """Score what has its prompts and heads; return the other scores."""
    later = []
    for score in todo:
        if _needs(score) & left:
            later.append(score)
            continue
        if this_run.plan.done(score):  # an equal score was measured in the meantime
            progress.finish(str(score))
            continue
        progress.start(str(score))
        try:
            _score(this_run, score, progress)
        except LsnError as error:
            _fail(this_run, progress, score, str(error))
    return later


def _score(this_run: Run, score: ScoreJob, progress: Progress) -> None:
    began, suite_work = time.perf_counter(), this_run.suite_work
    work = suite_work.workspace(score.row.model)
    weights, device = suite_work.weights(score.row.model), str(pick_device(suite_work.device))
    known = this_run.plan.known
    records = measure(
        score,
        [name for name, key in score.keys.items() if key not in known],
        work,
        shared_loader(work.features).load(score.split),
        lambda: same_backbone(work.features, weights, device),
        about=this_run.about,
        device=device,
    )
    suite_work.results.append(records)
    known.update({record["key"]: record for record in records})
    seconds = time.perf_counter() - began
    _record_time(
        this_run, progress, str(score), score_label(score), this_run.plan.scoring_work(score) or 0, seconds
    )


def _devices(name: str, jobs: int) -> list[str]:
    """Return the devices to give to trainings in turn: one, or all GPUs for several jobs."""
    return (gpus(name) if jobs > 1 else []) or [str(pick_device(name))]


def _pool_task(
    suite_work: SuiteWorkspace, path: Path, learning: LearningSpec, score: ScoreJob, *, device: str
) -> PoolTask:
    row_work = replace(suite_work.workspace(score.row.model), files={learning.kind: path})
    training = TrainingJob(learning, score.seed, row_work, device)
    return PoolTask(training, score.split, path, suite_work.weights(score.row.model))


def _needs(score: ScoreJob) -> set[Path]:
    return {learned_file(score.work, key) for _, key in score.learned.values()}


def _record_time(
    this_run: Run, progress: Progress, what: str, label: str, units: int, seconds: float
) -> None:
    this_run.suite_work.timings.append([{"what": what, "label": label, "units": units, "seconds": seconds}])
    progress.finish(what, units, seconds)


def _fail(this_run: Run, progress: Progress, score: ScoreJob, why: str) -> None:
    this_run.failed[str(score)] = why
    progress.finish(str(score))
