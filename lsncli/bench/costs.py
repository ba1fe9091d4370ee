"""The jobs that are left of a table and their time on this machine: units of work times measured speeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from lsncli.bench.jobs import TableRow
from lsncli.bench.plan import BenchPlan, Job, count_conditional_sets
from lsncli.bench.runner import Rates
from lsncli.bench.speeds import Speeds
from lsncli.console import duration
from lsncli.methods.spec import word_list
from lsncli.methods.words import choice_for, count_texts
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
"""``blocked`` jobs wait for images; the work and the time of all others include theirs."""

FOR_FIGURES = [*FOR_PEOPLE, Column("seconds", "Seconds", digits=0)]

LONG_SECONDS = 86400.0
LONG_PASSES = 10_000_000
"""Trainings from here on get a remark: by time, or by text passes if the time is unknown."""

MANY_WORDS = 10_000
"""Texts of words from here on get a remark."""

ASSUMED = (
    "Estimated from earlier jobs of the same kind where there are some, else from the probe: one process, "
    "storage that keeps up. Not counted: listing images, loading models."
)

KINDS = ("extract", "learn", "score")


@dataclass(frozen=True)
class JobCost:
    """A job with its size in a known unit and its seconds; None if unknown."""

    job: Job
    units: int | None
    unit: str
    seconds: float | None


def estimate_costs(plan: BenchPlan, speeds: Speeds) -> list[JobCost]:
    """Return the costs of every job of a plan, from earlier jobs of the same kind or from the probe."""
    rates = Rates(plan.suite_work.timings)
    return [_cost(plan, job, rates, speeds) for job in plan.jobs()]


def _cost(plan: BenchPlan, job: Job, rates: Rates, speeds: Speeds) -> JobCost:
    units, unit = _units(plan, job)
    if job.done:
        return JobCost(job, 0, unit, 0.0)
    known = rates.estimate(job.label, job.units)
    return JobCost(job, units, unit, known if known is not None else _probed(plan, job, speeds))


def _units(plan: BenchPlan, job: Job) -> tuple[int | None, str]:
    if job.kind == "extract":
        return job.units, "images"
    if job.learning is not None:
        return job.units, "text passes" if job.learning.settings else "images"
    if job.score is not None and not count_conditional_sets(job.score):
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
    row = job.score.row
    train = rows if row.fits_rows else 0
    return speeds.scoring(job.model, job.score.method, row.learnings, train, scored, classes)


def total_seconds(costs: Iterable[JobCost]) -> float | None:
    """Return the seconds of all jobs; None if one is unknown."""
    seconds = [cost.seconds for cost in costs]
    return None if None in seconds else sum(each for each in seconds if each is not None)


def cost_rows(costs: Sequence[JobCost]) -> list[dict[str, Any]]:
    """Return a row for every label of jobs: what is left and how long it takes."""
    groups: dict[tuple[str, str], list[JobCost]] = {}
    for cost in sorted(costs, key=lambda each: KINDS.index(each.job.kind)):
        groups.setdefault((cost.job.kind, cost.job.label), []).append(cost)
    return [_row(kind, label.removeprefix(f"{kind} "), group) for (kind, label), group in groups.items()]


def cost_rows_with_totals(costs: Sequence[JobCost]) -> list[dict[str, Any]]:
    """Return ``cost_rows`` with a sum for each stage, for people."""
    rows = [row | {"what": row["what"].removesuffix(" by the model")} for row in cost_rows(costs)]
    for kind in KINDS:
        stage = [cost for cost in costs if cost.job.kind == kind]
        if stage:
            rows.append(_row("in all", kind, stage))
    rows.append(_row("in all", "", costs) | {"work": ""})
    return rows


def _row(kind: str, what: str, group: Sequence[JobCost]) -> dict[str, Any]:
    jobs, seconds = [cost.job for cost in group], total_seconds(group)
    known = [cost.units for cost in group if cost.units is not None]
    units = sum(known) if len(known) == len(group) else None
    names = {cost.unit for cost in group if cost.units}
    unit = next(iter(names)) if len(names) == 1 else ""
    return {
        "kind": kind,
        "what": what,
        "jobs": len(jobs),
        "done": sum(job.done for job in jobs),
        "blocked": sum(bool(job.blocked) for job in jobs),
        "units": units,
        "unit": unit,
        "work": f"{format_count(units)} {unit}" if units and unit else "",
        "seconds": seconds,
        "time": "" if seconds is None else duration(seconds),
        "unknown": sum(cost.seconds is None for cost in group),
    }


def format_count(number: int) -> str:
    """Return a number as 12,800 or 38.4 million."""
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number:,}"


def remarks(
    plan: BenchPlan, costs: Sequence[JobCost], fast: Sequence[TableRow], speeds: Speeds, command: str
) -> list[str]:
    """Return sentences about words, and about trainings that take days: another mode, or other rows only.

    ``fast`` are the same rows in mode fast; ``command`` measures the table, without ``--rows``.
    """
    long = [cost for cost in costs if cost.job.learning is not None and _is_long(cost)]
    if not long:
        return _on_words(plan)
    by_label: dict[str, list[JobCost]] = {}
    for cost in long:
        by_label.setdefault(cost.job.label, []).append(cost)
    names: dict[str, None] = {}
    sentences = []
    for group in by_label.values():
        rows = _rows_that_learn(plan, group[0])
        names |= dict.fromkeys(rows)
        sentences.append(_remark(plan, group, rows, fast, speeds))
    rest = [name for name in dict.fromkeys(score.row.name for score in plan.scores) if name not in names]
    if rest:
        seconds = total_seconds(cost for cost in costs if _is_for_rows(plan, cost, rest))
        takes = f" ({duration(seconds)})" if seconds is not None else ""
        options = " ".join(f"--rows {quote(name)}" for name in rest)
        sentences.append(f"Only the other rows{takes}: {command} {options}")
    return _on_words(plan) + sentences


def _on_words(plan: BenchPlan) -> list[str]:
    """A sentence for each list of many words that a row needs and that the estimate leaves out."""
    rows: dict[int, dict[str, None]] = {}
    for score in plan.scores:
        if "words" in score.method.needs and not plan.done(score):
            model = score.row.model or plan.suite_work.model
            texts = count_texts(choice_for(word_list(score.method), model))
            rows.setdefault(texts, {})[score.row.name] = None
    return [
        f"{', '.join(names)}: the words are {texts:,} texts, encoded once for each model; their time is not "
        "counted."
        for texts, names in rows.items()
        if texts >= MANY_WORDS
    ]


def _is_long(cost: JobCost) -> bool:
    if cost.seconds is None:
        return cost.unit == "text passes" and (cost.units or 0) >= LONG_PASSES
    return cost.seconds >= LONG_SECONDS


def _rows_that_learn(plan: BenchPlan, cost: JobCost) -> list[str]:
    """The rows that wait for trainings of this label."""
    names = [
        score.row.name
        for score in plan.scores
        for learning in score.row.learnings
        if learning == cost.job.learning and score.row.model == cost.job.model
    ]
    return list(dict.fromkeys(names))


def _remark(
    plan: BenchPlan, group: Sequence[JobCost], rows: Sequence[str], fast: Sequence[TableRow], speeds: Speeds
) -> str:
    seconds, passes = total_seconds(group), sum(cost.units or 0 for cost in group)
    takes = f", {duration(seconds)} here" if seconds is not None else ""
    work = f"{format_count(passes)} text passes{takes}"
    text = f"{', '.join(rows)}: to learn {group[0].job.learning} takes {work}."
    fast_passes, fast_seconds = 0, 0.0
    for cost in group:
        score, learning = cost.job.score, cost.job.learning
        if score is None or learning is None:
            continue
        other = next(
            (
                each
                for row in fast
                if row.name == score.row.name
                for each in row.learnings
                if each.kind == learning.kind
            ),
            learning,
        )
        trained, classes = plan.train_rows(score) or 0, plan.classes(score) or 0
        fast_passes += other.work(trained, classes)
        fast_seconds += speeds.learning(cost.job.model, other, trained, classes) or 0.0
    if fast_passes < passes:
        shorter = f", {duration(fast_seconds)}" if seconds is not None else ""
        return f"{text} With --mode fast: {format_count(fast_passes)}{shorter}."
    settings = group[0].job.learning.settings if group[0].job.learning else None
    if settings is not None and settings.learner == "cocoop":
        text += " --mode fast does not shorten it: CoCoOp learns from one image at a time in every mode."
    return f"{text} Fewer `shots` in a suite of your own shorten it in proportion."


def _is_for_rows(plan: BenchPlan, cost: JobCost, rows: Sequence[str]) -> bool:
    """Whether some of ``rows`` need a job."""
    scores = [score for score in plan.scores if score.row.name in rows]
    if cost.job.kind == "score":
        return cost.job.score in scores
    if cost.job.learning is not None:
        return any(
            learning == cost.job.learning and score.row.model == cost.job.model
            for score in scores
            for learning in score.row.learnings
        )
    return any(
        cost.job.what == str(plan.extraction(score, name)) for score in scores for name in score.missing
    )
