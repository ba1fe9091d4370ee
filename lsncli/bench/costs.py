"""What is left to do for a table, and how long that takes on this machine: counts times measured speeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from lsncli.bench.jobs import TableRow
from lsncli.bench.plan import BenchPlan, Job, conditional_sets
from lsncli.bench.progress import Rates
from lsncli.bench.speeds import Speeds
from lsncli.console import duration
from lsncli.report.formats import Column

FOR_PROGRAMS = [
    Column("kind", "kind"),
    Column("what", "what"),
    Column("jobs", "jobs"),
    Column("done", "done"),
    Column("blocked", "blocked"),
    Column("units", "units"),
    Column("unit", "unit"),
    Column("seconds", "seconds"),
    Column("unknown", "unknown"),
]
FOR_PEOPLE = [
    Column("kind", "Job"),
    Column("what", "What", wide=True),
    Column("jobs", "Jobs", digits=0),
    Column("done", "Done", digits=0),
    Column("blocked", "Blocked", digits=0),
    Column("work", "Work left"),
    Column("time", "Time here"),
]
"""``blocked`` jobs wait for images; their work and time count all the same."""

FOR_FIGURES = [*FOR_PEOPLE, Column("seconds", "Seconds", digits=0)]

LONG_SECONDS = 86400.0
LONG_PASSES = 10_000_000
"""A training from which on it is named: by its time, or by its text passes where no time is known."""

ASSUMED = (
    "Estimated from earlier jobs of the same kind where there are some, else from the probe: one process, "
    "storage that keeps up. Not counted: listing images, loading models."
)

KINDS = ("extract", "learn", "score")


@dataclass(frozen=True)
class JobCost:
    """A job that is left, in units that people know; None where the size or the time is not known."""

    job: Job
    units: int | None
    unit: str
    seconds: float | None


def costs_of(plan: BenchPlan, speeds: Speeds) -> list[JobCost]:
    """Every job of a plan. Times are those of earlier jobs of the same kind, else of the probe."""
    rates = Rates(plan.suite_work.timings)
    return [_cost(plan, job, rates, speeds) for job in plan.jobs()]


def _cost(plan: BenchPlan, job: Job, rates: Rates, speeds: Speeds) -> JobCost:
    units, unit = _units(plan, job)
    if job.done:
        return JobCost(job, 0, unit, 0.0)
    known = rates.guess(job.label, job.units)
    return JobCost(job, units, unit, known if known is not None else _probed(plan, job, speeds))


def _units(plan: BenchPlan, job: Job) -> tuple[int | None, str]:
    if job.kind == "extract":
        return job.units, "images"
    if job.learning is not None:
        return job.units, "text passes" if job.learning.settings else "images"
    if job.score is not None and not conditional_sets(job.score):
        return plan.rows_of(job.score), "images"
    return job.units, "text passes"


def _probed(plan: BenchPlan, job: Job, speeds: Speeds) -> float | None:
    if job.units is None:
        return None
    if job.copied:
        return 0.0
    if job.score is None:
        speed = speeds.images(job.model)
        return job.units / speed if speed else None
    classes, rows, scored = plan.classes(job.score), plan.train_rows(job.score), plan.rows_of(job.score)
    if classes is None or rows is None or scored is None:
        return None
    if job.learning is not None:
        return speeds.learning(job.model, job.learning, rows, classes)
    line = job.score.line
    train = rows if line.looks_at_rows else 0
    return speeds.scoring(job.model, job.score.method, line.learnings, train, scored, classes)


def total(costs: Iterable[JobCost]) -> float | None:
    """Seconds of all; None if one is not known."""
    seconds = [one.seconds for one in costs]
    return None if None in seconds else sum(one for one in seconds if one is not None)


def rows_of(costs: Sequence[JobCost]) -> list[dict[str, Any]]:
    """A row for every label of jobs: what is left of it and how long that takes."""
    groups: dict[tuple[str, str], list[JobCost]] = {}
    for one in sorted(costs, key=lambda one: KINDS.index(one.job.kind)):
        groups.setdefault((one.job.kind, one.job.label), []).append(one)
    return [_row(kind, label.removeprefix(f"{kind} "), group) for (kind, label), group in groups.items()]


def with_total(costs: Sequence[JobCost]) -> list[dict[str, Any]]:
    """``rows_of`` and what every stage takes, for people."""
    rows = [row | {"what": row["what"].removesuffix(" by the model")} for row in rows_of(costs)]
    for kind in KINDS:
        stage = [one for one in costs if one.job.kind == kind]
        if stage:
            rows.append(_row("in all", kind, stage))
    rows.append(_row("in all", "", costs) | {"work": ""})
    return rows


def _row(kind: str, what: str, group: Sequence[JobCost]) -> dict[str, Any]:
    jobs, seconds = [one.job for one in group], total(group)
    known = [one.units for one in group if one.units is not None]
    units = sum(known) if len(known) == len(group) else None
    names = {one.unit for one in group if one.units}
    unit = next(iter(names)) if len(names) == 1 else ""
    return {
        "kind": kind,
        "what": what,
        "jobs": len(jobs),
        "done": sum(job.done for job in jobs),
        "blocked": sum(bool(job.blocked) for job in jobs),
        "units": units,
        "unit": unit,
        "work": f"{count(units)} {unit}" if units and unit else "",
        "seconds": seconds,
        "time": "" if seconds is None else duration(seconds),
        "unknown": sum(one.seconds is None for one in group),
    }


def count(number: int) -> str:
    """A number as people say it: 12,800 or 38.4 million."""
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number:,}"


def remarks(
    plan: BenchPlan, costs: Sequence[JobCost], fast: Sequence[TableRow], speeds: Speeds, command: str
) -> list[str]:
    """What takes days, and what to do instead: another mode where that helps, or only the other rows.

    ``fast`` are the same lines in mode fast, ``command`` is what measures the table, without ``--rows``.
    """
    long = [one for one in costs if one.job.learning is not None and _is_long(one)]
    if not long:
        return []
    by_label: dict[str, list[JobCost]] = {}
    for one in long:
        by_label.setdefault(one.job.label, []).append(one)
    names: dict[str, None] = {}
    said = []
    for group in by_label.values():
        rows = _rows_that_learn(plan, group[0])
        names |= dict.fromkeys(rows)
        said.append(_remark(plan, group, rows, fast, speeds))
    rest = [line for line in dict.fromkeys(score.line.name for score in plan.scores) if line not in names]
    if rest:
        kept = [one for one in costs if _for_rows(plan, one, rest)]
        seconds = total(kept)
        takes = f" ({duration(seconds)})" if seconds is not None else ""
        options = " ".join(f"--rows {quote(name)}" for name in rest)
        said.append(f"Only the other rows{takes}: {command} {options}")
    return said


def _is_long(one: JobCost) -> bool:
    if one.seconds is None:
        return one.unit == "text passes" and (one.units or 0) >= LONG_PASSES
    return one.seconds >= LONG_SECONDS


def _rows_that_learn(plan: BenchPlan, cost: JobCost) -> list[str]:
    """The rows that wait for trainings of this label."""
    found = [
        score.line.name
        for score in plan.scores
        for learning in score.line.learnings
        if learning == cost.job.learning and score.line.model == cost.job.model
    ]
    return list(dict.fromkeys(found))


def _remark(
    plan: BenchPlan, group: Sequence[JobCost], rows: Sequence[str], fast: Sequence[TableRow], speeds: Speeds
) -> str:
    seconds, passes = total(group), sum(one.units or 0 for one in group)
    takes = f", {duration(seconds)} here" if seconds is not None else ""
    text = f"{', '.join(rows)}: to learn {group[0].job.learning} takes {count(passes)} text passes{takes}."
    less, time = 0, 0.0
    for one in group:
        score, learning = one.job.score, one.job.learning
        if score is None or learning is None:
            continue
        other = next(
            (
                each
                for line in fast
                if line.name == score.line.name
                for each in line.learnings
                if each.kind == learning.kind
            ),
            learning,
        )
        trained, classes = plan.train_rows(score) or 0, plan.classes(score) or 0
        less += other.work(trained, classes)
        time += speeds.learning(one.job.model, other, trained, classes) or 0.0
    if less < passes:
        shorter = f", {duration(time)}" if seconds is not None else ""
        return f"{text} With --mode fast: {count(less)}{shorter}."
    settings = group[0].job.learning.settings if group[0].job.learning else None
    if settings is not None and settings.learner == "cocoop":
        text += " --mode fast does not shorten it: CoCoOp learns from one image at a time in every mode."
    return f"{text} Fewer `shots` in a suite of your own shorten it in proportion."


def _for_rows(plan: BenchPlan, cost: JobCost, rows: Sequence[str]) -> bool:
    """Whether a job is needed for some of ``rows``."""
    scores = [score for score in plan.scores if score.line.name in rows]
    if cost.job.kind == "score":
        return cost.job.score in scores
    if cost.job.learning is not None:
        return any(
            learning == cost.job.learning and score.line.model == cost.job.model
            for score in scores
            for learning in score.line.learnings
        )
    return any(
        cost.job.what == str(plan.extraction(score, name)) for score in scores for name in score.missing
    )
