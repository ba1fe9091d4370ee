"""A measured table: mean and spread of the results beside the published numbers, and footnotes.

Footnotes name the images, the models and the number of seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from shlex import quote

from lsncli.bench.jobs import ScoreJob, check_methods, table_rows
from lsncli.bench.plan import BenchPlan, make_plan
from lsncli.bench.results import Record, mean_and_spread
from lsncli.bench.runner import Run, run
from lsncli.bench.suite import Group, Suite, TableSpec
from lsncli.bench.suite_workspace import SuiteWorkspace
from lsncli.reference.datasets import published_datasets
from lsncli.reference.published import TABLES, PublishedColumn, PublishedTable, parse_column
from lsncli.reference.published import load_table as load_table


def is_published_set(suite: Suite, name: str) -> bool:
    """Return whether a set of the suite is one of the paper's sets."""
    return name in published_datasets() and name in suite.sets


def list_stand_ins(suite: Suite, spec: TableSpec, names: Sequence[str]) -> list[str]:
    """Return descriptions of the images that replace the paper's."""
    chosen = dict.fromkeys(row.id for row in spec.rows if row.id and row.name in names)
    ids = [suite.ids[name] for name in chosen]
    id_sets = [f"ID: {each.title}" for each in ids if not is_published_set(suite, each.test)]
    return id_sets + [
        f"{group.name}: {suite.sets[group.ood].title}"
        for group in spec.groups
        if group.ood and not is_published_set(suite, group.ood)
    ]


def footnotes(
    suite: Suite, spec: TableSpec, records: Sequence[Record], names: Sequence[str], fpr: str
) -> list[str]:
    """Return the footnotes of the rows ``names``, a paragraph each; ``fpr`` says what FPR95 is."""
    notes = [suite.note.strip(), spec.note.strip()]
    if stands := list_stand_ins(suite, spec, names):
        notes.append(f"Measured on stand-ins. {'; '.join(stands)}.")
    noted = sorted((row.note.strip(), row.name) for row in spec.rows if row.note and row.name in names)
    for note, rows in groupby(noted, lambda pair: pair[0]):
        notes.append(f"{', '.join(name for _, name in rows)}: {note}.")
    if records:
        models = " and ".join(sorted({record["model"] for record in records}))
        seeds = len({record["seed"] for record in records})
        modes = sorted(
            {one["settings"]["mode"] for r in records for one in r["learned"].values() if "settings" in one}
        )
        learned = f" Prompts learned in mode {' and '.join(modes)}." if modes else ""
        last = max(record["date"] for record in records)[:10]
        notes.append(
            f"Measured by {models}, {seeds} seed{'s' if seeds > 1 else ''}, last on {last}.{learned} {fpr}"
        )
    return [note for note in notes if note]


ID_POSITIVE = "FPR95: ID is the positive class."
BOTH = (
    "FPR95 ID+: OOD images kept when 95 % of ID images are. OOD+: ID images rejected when 95 % of OOD images "
    "are. Only numbers of one kind can be compared."
)
AVERAGE = "Average"
METRICS = ("fpr95", "auroc")
OOD_POSITIVE = "fpr95_ood"
ACCURACY = "id_accuracy"
NOT_YET = "not measured yet"


@dataclass(frozen=True)
class Cell:
    """One number of a measured table, in percent; None where there is none."""

    mean: float | None = None
    """Mean of ``n`` values, one for each split and seed; an average first averages the groups of each."""
    spread: float | None = None
    """Standard deviation of the values (n - 1)."""
    n: int = 0
    of: int = 0
    """Number of values when everything is measured."""
    published: float | None = None
    difference: float | None = None
    """Measured minus published; None if the images are not the paper's."""
    why_missing: str = ""
    command: str = ""
    """The command that fills the cell; empty if the reason says what is needed first."""


@dataclass(frozen=True)
class MeasuredTable:
    """Cells by row and column key, in the order of the suite's rows and of ``columns``."""

    key: str
    title: str
    suite: str
    stand_in: bool
    """Whether some images are not those of the paper's table."""
    columns: tuple[PublishedColumn, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    published: PublishedTable | None
    notes: tuple[str, ...]
    """Footnotes: images, stand-ins, models, seeds, dates."""
    records: tuple[Record, ...]
    """The records that it summarises, each once."""
    command: str = ""
    """The command that measures it, without ``--rows``."""
    row_notes: Mapping[str, str] = field(default_factory=dict)
    """How rows differ from the published ones, by name."""


def summarise(suite: Suite, spec: TableSpec, run: Run, command: str, names: Sequence[str]) -> MeasuredTable:
    """Return the rows ``names`` of a table, summarised from the results in ``plan.known``."""
    plan = run.plan
    printed = load_table(spec.key) if spec.key in TABLES else None
    columns = _columns(spec, printed)
    both = any(column.metric == OOD_POSITIVE for column in columns)
    rows: dict[str, dict[str, Cell]] = {}
    used: dict[str, Record] = {}
    for row in spec.rows:
        if row.name not in names:
            continue
        scores = [score for score in plan.scores if score.row.name == row.name]
        used |= {key: plan.known[key] for score in scores for key in score.keys.values() if key in plan.known}
        published = (
            next((each.values for each in printed.rows if each.name == row.name), {}) if printed else {}
        )
        why = plan.skipped.get(row.name, "") or next(
            (run.failed[str(score)] for score in scores if str(score) in run.failed), NOT_YET
        )
        ids = [row.id] if row.id else [group.id for group in spec.groups]
        own = all(is_published_set(suite, suite.ids[name].test) for name in ids)
        rows[row.name] = {
            column.key: _cell(
                _values(column, scores, plan.known, spec.groups),
                published.get(column.key),
                own and _same_images(suite, column, spec.groups),
                why,
                "" if row.name in plan.skipped else f"{command} --rows {quote(row.name)}",
            )
            for column in columns
        }
    records = tuple(used.values())
    return MeasuredTable(
        spec.key,
        spec.title or (printed.title if printed else ""),
        suite.name,
        bool(list_stand_ins(suite, spec, names)),
        columns,
        rows,
        printed,
        tuple(footnotes(suite, spec, records, names, BOTH if both else ID_POSITIVE)),
        records,
        command,
        {row.name: row.note.strip() for row in spec.rows if row.note and row.name in names},
    )


def _columns(spec: TableSpec, printed: PublishedTable | None) -> tuple[PublishedColumn, ...]:
    """The columns as published; else both metrics of every group and of the average, and the accuracy."""
    names = [group.name for group in spec.groups]
    if printed is not None and {one.group for one in printed.columns} - {"", AVERAGE} == set(names):
        return printed.columns
    names += [AVERAGE] if len(names) > 1 else []
    metrics = list(METRICS)
    if printed is not None and any(one.metric == OOD_POSITIVE for one in printed.columns):
        metrics.insert(1, OOD_POSITIVE)
    return (
        *(parse_column(f"{name}/{metric}") for name in names for metric in metrics),
        parse_column(ACCURACY),
    )


Values = list[dict[tuple[int, int], float | None]]
"""For every group the values by split and seed; None for a value that is not measured."""


def _values(
    column: PublishedColumn, scores: Sequence[ScoreJob], known: Mapping[str, Record], groups: Sequence[Group]
) -> Values:
    groups_values: Values = []
    for group in groups:
        if column.group not in ("", AVERAGE, group.name):
            continue
        values: dict[tuple[int, int], float | None] = {}
        for score in scores:
            if group.id and score.split.id != group.name:
                continue
            for ood, key in score.keys.items():
                if group.id or ood == group.name:
                    values[score.split.number, score.seed] = known.get(key, {}).get(column.metric)
        groups_values.append(values)
    return groups_values


def _cell(values: Values, published: float | None, same: bool, why: str, command: str) -> Cell:
    """Mean and spread of the values that are measured, in percent; a reason if some are missing."""
    total = sum(map(len, values))
    measured = [[100 * value for value in group.values() if value is not None] for group in values]
    count = sum(map(len, measured))
    if not measured or not all(measured):
        return Cell(of=total, published=published, why_missing=why, command=command)
    if all(group.keys() == values[0].keys() for group in values) and count == total:
        rows = zip(*([value or 0.0 for value in group.values()] for group in values), strict=True)
        mean, spread = mean_and_spread([100 * sum(row) / len(row) for row in rows])
    else:
        mean, spread = mean_and_spread([mean_and_spread(group)[0] for group in measured])[0], None
    missing = f"{count} of {total} measured" if count < total else ""
    missing += f": {why}" if missing and why != NOT_YET else ""
    return Cell(
        mean=mean,
        spread=spread,
        n=min(map(len, measured)),
        of=max(map(len, values)),
        published=published,
        difference=mean - published if same and published is not None else None,
        why_missing=missing,
        command=command if missing else "",
    )


def _same_images(suite: Suite, column: PublishedColumn, groups: Sequence[Group]) -> bool:
    """Whether the OOD images of a column are the paper's."""
    chosen = [group for group in groups if column.group in (AVERAGE, group.name)]
    return all(is_published_set(suite, group.ood or suite.ids[group.id].rest) for group in chosen)


def measure_table(
    suite: Suite,
    spec: TableSpec,
    *,
    named: tuple[str, str] | None = None,
    work: Path,
    data: Path | None = None,
    rows: Sequence[str] = (),
    seeds: int | None = None,
    splits: int | None = None,
    mode: str = "",
    model: str = "",
    pretrained: str = "",
    device: str = "auto",
    batch_size: int = 16,
    workers: int = 1,
    jobs: int = 1,
    dry: bool = False,
    quiet: bool = False,
    later: Sequence[BenchPlan] = (),
) -> tuple[MeasuredTable, BenchPlan]:
    """Measure what is missing of a table (nothing if ``dry``); return the table and the plan with its jobs.

    ``named`` are suite and table as the user wrote them, for the commands in cells. ``data`` is the folder of
    the images; without it the features must be in the workspace ``work``. ``rows`` are names of rows,
    ``seeds`` and ``splits`` are counts; ``mode``, ``model`` and ``pretrained`` replace those of the suite.
    The time left includes the plans that follow ``later``. Raises UsageError as ``table_rows`` does, and
    LsnError if another process works on the suite.
    """
    check_methods(suite, spec)
    chosen = table_rows(suite, spec, rows=rows, splits=splits, mode=mode, model=model)
    used = model or suite.model
    bundle = suite.features if used == suite.model and not pretrained else None
    suite_work = SuiteWorkspace(
        work, suite.name, used, data, pretrained, device, batch_size, workers, bundle, suite.sets
    )
    about = {"suite": suite.name, "table": spec.key}
    count = suite.seeds if seeds is None else seeds
    if dry:
        this_run = Run(suite_work, about, make_plan(suite_work, chosen, count))
    else:
        this_run = run(suite_work, chosen, about=about, seeds=count, jobs=jobs, quiet=quiet, later=later)
    written = named or (suite.name, spec.key)
    given: dict[str, object] = {
        "table": written[1],
        "suite": written[0],
        "data": data,
        "mode": mode,
        "model": model,
    }
    given |= {"pretrained": pretrained, "seeds": seeds, "splits": splits}
    options = (f"--{name} {quote(str(value))}" for name, value in given.items() if value)
    command = " ".join(["lsn bench", *options])
    table = summarise(suite, spec, this_run, command, [row.name for row in chosen])
    return table, this_run.plan
