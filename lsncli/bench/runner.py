"""Do what is missing of a table: extract, learn, score; every result is on the disk as soon as it is there.

Killed at any moment, the same call goes on: finished sets, prompts and results are found by their content, an
unfinished extraction or training at its last checkpoint. One row's failure does not stop the others.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lsncli.bench.features import extract_set, outdated
from lsncli.bench.jobs import ScoreJob, TableRow
from lsncli.bench.measure import measure
from lsncli.bench.plan import BenchPlan, label_of, make_plan, score_label, training_name
from lsncli.bench.progress import Progress, Rates, Waiting, shown
from lsncli.bench.suite_workspace import SuiteWorkspace, learned_file, same_backbone
from lsncli.bench.training_jobs import LearningSpec, PoolTask, TrainingJob, learning, loader
from lsncli.console import printable, say
from lsncli.device import pick_device
from lsncli.errors import LsnError
from lsncli.locks import locked


@dataclass
class Run:
    """One run: its plan, and why scores could not be made, by what people call them."""

    suite_work: SuiteWorkspace
    about: Mapping[str, str]
    """Suite and table, for the records."""
    plan: BenchPlan
    failed: dict[str, str] = field(default_factory=dict)


def run(
    suite_work: SuiteWorkspace,
    lines: Sequence[TableRow],
    *,
    about: Mapping[str, str],
    seeds: int = 1,
    jobs: int = 1,
    quiet: bool = False,
) -> Run:
    """Do every job of ``lines`` that is not done; ``jobs`` trainings at a time.

    ``about`` goes into each record. What is missing of the images is said first, and sets that only scores
    without all their images need are not extracted. Raises UsageError for an invalid method,
    LsnError if another process works on the suite; what goes wrong with a job is in ``Run.failed``.
    """
    with locked(suite_work.results.path):
        started = Run(suite_work, about, make_plan(suite_work, lines, seeds))
        rates = Rates(suite_work.timings)
        if not started.plan.waiting:
            return started
        for why in started.plan.lacks:
            say(printable(f"There are {why}."), quiet=quiet)
        with shown(_waiting(started.plan), rates, quiet) as progress:
            missing = _extract(started, progress)
            started.plan = make_plan(suite_work, lines, seeds)  # keys are known where features are there
            _learn_and_score(started, missing, jobs, progress)
        return started


def _waiting(plan: BenchPlan) -> dict[str, Waiting]:
    """Everything that is to be done, by what people call it."""
    found: dict[str, Waiting] = {str(one): (one.label, None) for one in plan.extracts}
    for training, score in plan.trainings.values():
        found[training_name(training, score)] = label_of(training, score), plan.units_of(training, score)
    return found | {str(score): (score_label(score), plan.scoring_work(score)) for score in plan.waiting}


def _extract(started: Run, progress: Progress) -> dict[tuple[str, str], str]:
    """Extract what is not there; returns why splits of a model cannot be used."""
    plan = started.plan
    bad = {key: f"There are {why}." for key, why in plan.blocked.items()}
    possible = [one for one in plan.waiting if not plan.why_blocked(one)]
    wanted = {(one.line.model, name) for one in possible for name in one.missing}
    for one in plan.extracts:
        if (one.model, one.split) not in wanted:
            progress.over(str(one))
            continue
        progress.now(str(one))
        began = time.perf_counter()
        try:
            units = extract_set(one)
        except LsnError as error:
            bad[one.model, one.split] = str(error)
            progress.over(str(one))
            continue
        _took(started, progress, str(one), one.label, units, time.perf_counter() - began)
    parts = {(one.line.model, part.set): (part, one) for one in plan.waiting for part in one.place.parts}
    for (model, split), (part, score) in parts.items():
        there = score.there.sets.get(split)
        why = outdated(split, part.image_set, started.suite_work, there) if there else ""
        if why:
            folder = started.suite_work.workspace(model).folder
            bad[model, split] = f"{why}. Remove {folder} to start again, or call the set otherwise."
    return bad


def _learn_and_score(
    started: Run, missing: Mapping[tuple[str, str], str], jobs: int, progress: Progress
) -> None:
    """Learn in the order of the scores, and score whatever has all that it needs."""
    todo: list[ScoreJob] = []
    for score in started.plan.waiting:
        bad = [missing[key] for name in score.place.sets if (key := (score.line.model, name)) in missing]
        if bad:
            _fail(started, progress, score, bad[0])
        else:
            todo.append(score)
    needed = {path for score in todo for path in _needs(score)}
    wanted = {path: one for path, one in started.plan.trainings.items() if path in needed}
    tasks = [_pool_task(started.suite_work, path, *one) for path, one in wanted.items()]
    left = set(wanted)
    names = {path: training_name(*one) for path, one in wanted.items()}
    with learning(tasks, jobs) as finished:
        todo = _settle(started, todo, left, progress)
        if tasks:
            progress.now(names[tasks[0].path])
        for done in finished:
            name = names[done.work.path]
            if done.error:
                progress.over(name)
                for one in [one for one in todo if done.work.path in _needs(one)]:
                    _fail(started, progress, one, done.error)
                    todo.remove(one)
                continue
            training, score = wanted[done.work.path]
            units = started.plan.units_of(training, score) or 0
            _took(started, progress, name, label_of(training, score), units, done.seconds)
            left.discard(done.work.path)
            todo = _settle(started, todo, left, progress)
            rest = [names[path] for path in wanted if path in left]
            progress.now(rest[0] if rest else name)


def _settle(started: Run, todo: Sequence[ScoreJob], left: set[Path], progress: Progress) -> list[ScoreJob]:
    """Score what has all that it needs; returns what has not."""
    later = []
    for score in todo:
        if _needs(score) & left:
            later.append(score)
            continue
        if started.plan.done(score):  # an equal one was measured in the meantime
            progress.over(str(score))
            continue
        progress.now(str(score))
        try:
            _score(started, score, progress)
        except LsnError as error:
            _fail(started, progress, score, str(error))
    return later


def _score(started: Run, score: ScoreJob, progress: Progress) -> None:
    began, suite_work = time.perf_counter(), started.suite_work
    work = suite_work.workspace(score.line.model)
    weights, device = suite_work.weights(score.line.model), str(pick_device(suite_work.device))
    known = started.plan.known
    records = measure(
        score,
        [name for name, key in score.keys.items() if key not in known],
        work,
        loader(work.features).load(score.place),
        lambda: same_backbone(work.features, weights, device),
        about=started.about,
        device=device,
    )
    suite_work.results.append(records)
    known.update({record["key"]: record for record in records})
    seconds = time.perf_counter() - began
    _took(started, progress, str(score), score_label(score), started.plan.scoring_work(score) or 0, seconds)


def _pool_task(suite_work: SuiteWorkspace, path: Path, learning: LearningSpec, score: ScoreJob) -> PoolTask:
    place = replace(suite_work.workspace(score.line.model), files={learning.kind: path})
    device = str(pick_device(suite_work.device))
    training = TrainingJob(learning, score.seed, place, device)
    return PoolTask(training, score.place, path, suite_work.weights(score.line.model))


def _needs(score: ScoreJob) -> set[Path]:
    return {learned_file(score.work, key) for _, key in score.learned.values()}


def _took(started: Run, progress: Progress, what: str, label: str, units: int, seconds: float) -> None:
    started.suite_work.timings.append([{"what": what, "label": label, "units": units, "seconds": seconds}])
    progress.over(what, units, seconds)


def _fail(started: Run, progress: Progress, score: ScoreJob, why: str) -> None:
    started.failed[str(score)] = why
    progress.over(str(score))
