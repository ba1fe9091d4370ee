"""A measured table: results as mean and spread, beside the published numbers, with its footnotes.

Footnotes say whose images, which models, how often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from shlex import quote

from lsncli.bench.jobs import ScoreJob, check_methods, lines_of
from lsncli.bench.plan import BenchPlan, make_plan
from lsncli.bench.results import Record, mean_and_spread
from lsncli.bench.runner import Run, run
from lsncli.bench.suite import Group, Suite, TableSpec
from lsncli.bench.suite_workspace import SuiteWorkspace
from lsncli.reference.datasets import published_datasets
from lsncli.reference.published import NUMBERS, PublishedColumn, PublishedTable, parse_column
from lsncli.reference.published import load_table as load_table


def papers_own(suite: Suite, name: str) -> bool:
    """Whether a set of the suite is one of the paper's."""
    return name in published_datasets() and name in suite.sets


def stand_ins(suite: Suite, spec: TableSpec, names: Sequence[str]) -> list[str]:
    """What takes the place of the paper's images."""
    chosen = dict.fromkeys(row.id for row in spec.rows if row.id and row.name in names)
    ids = [suite.ids[name] for name in chosen]
    found = [f"ID: {one.title}" for one in ids if not papers_own(suite, one.test)]
    return found + [
        f"{group.name}: {suite.sets[group.ood].title}"
        for group in spec.groups
        if group.ood and not papers_own(suite, group.ood)
    ]


def notes_of(suite: Suite, spec: TableSpec, records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """A paragraph each."""
    notes = [suite.note.strip(), spec.note.strip()]
    if stands := stand_ins(suite, spec, names):
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
            f"Measured by {models}, {seeds} seed{'s' if seeds > 1 else ''}, last on {last}.{learned} "
            "FPR95: ID is the positive class."
        )
    return [note for note in notes if note]


AVERAGE = "Average"
METRICS = ("fpr95", "auroc")
ACCURACY = "id_accuracy"
NOT_YET = "not measured yet"


@dataclass(frozen=True)
class Cell:
    """One number of a measured table, in percent; None where there is none."""

    mean: float | None = None
    """Over ``n`` values, one for each split and seed (of an average: of the same over all groups)."""
    spread: float | None = None
    """Their standard deviation (n - 1)."""
    n: int = 0
    of: int = 0
    """How many there are when everything is measured."""
    published: float | None = None
    difference: float | None = None
    """Measured less published; None where the images are not the paper's."""
    why_missing: str = ""
    command: str = ""
    """What to type to fill the cell; empty where the reason says what is needed first."""


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
    """What belongs under it: data, stand-ins, models, seeds, dates."""
    records: tuple[Record, ...]
    """What it was folded from, each once."""
    command: str = ""
    """What measures it, without ``--rows``."""


def fold(
    suite: Suite, spec: TableSpec, run: Run, plan: BenchPlan, command: str, names: Sequence[str]
) -> MeasuredTable:
    """The rows ``names`` of a table from the results that are known to ``plan``."""
    number = int(spec.key) if spec.key.isdecimal() else 0
    printed = load_table(number) if number in NUMBERS else None
    columns = _columns(spec, printed)
    rows: dict[str, dict[str, Cell]] = {}
    used: dict[str, Record] = {}
    for row in spec.rows:
        if row.name not in names:
            continue
        scores = [score for score in plan.scores if score.line.name == row.name]
        used |= {key: plan.known[key] for one in scores for key in one.keys.values() if key in plan.known}
        values = next((one.values for one in printed.rows if one.name == row.name), {}) if printed else {}
        why = plan.skipped.get(row.name, "") or next(
            (run.failed[str(one)] for one in scores if str(one) in run.failed), NOT_YET
        )
        ids = [row.id] if row.id else [group.id for group in spec.groups]
        own = all(papers_own(suite, suite.ids[name].test) for name in ids)
        rows[row.name] = {
            one.key: _cell(
                _values(one, scores, plan.known, spec.groups),
                values.get(one.key),
                own and _same_images(suite, one, spec.groups),
                why,
                "" if row.name in plan.skipped else f"{command} --rows {quote(row.name)}",
            )
            for one in columns
        }
    records = tuple(used.values())
    return MeasuredTable(
        spec.key,
        spec.title or (printed.title if printed else ""),
        suite.name,
        bool(stand_ins(suite, spec, names)),
        columns,
        rows,
        printed,
        tuple(notes_of(suite, spec, records, names)),
        records,
        command,
    )


def _columns(spec: TableSpec, printed: PublishedTable | None) -> tuple[PublishedColumn, ...]:
    """As published; else both metrics of every group, of their average, and the accuracy."""
    names = [group.name for group in spec.groups]
    if printed is not None and {one.group for one in printed.columns} - {"", AVERAGE} == set(names):
        return printed.columns
    names += [AVERAGE] if len(names) > 1 else []
    return (
        *(parse_column(f"{name}/{metric}") for name in names for metric in METRICS),
        parse_column(ACCURACY),
    )


Values = list[dict[tuple[int, int], float | None]]
"""For every group the values by split and seed; None where one is not measured."""


def _values(
    one: PublishedColumn, scores: Sequence[ScoreJob], known: Mapping[str, Record], groups: Sequence[Group]
) -> Values:
    found: Values = []
    for group in groups:
        if one.group not in ("", AVERAGE, group.name):
            continue
        values: dict[tuple[int, int], float | None] = {}
        for score in scores:
            if group.id and score.place.id != group.name:
                continue
            for ood, key in score.keys.items():
                if group.id or ood == group.name:
                    values[score.place.split, score.seed] = known.get(key, {}).get(one.metric)
        found.append(values)
    return found


def _cell(values: Values, published: float | None, same: bool, why: str, command: str) -> Cell:
    """Mean and spread of what is measured; a group or an average lacks nothing or says what."""
    wanted = sum(len(one) for one in values)
    there = [[100 * value for value in one.values() if value is not None] for one in values]
    count = sum(map(len, there))
    if not there or not all(there):
        return Cell(of=wanted, published=published, why_missing=why, command=command)
    if all(one.keys() == values[0].keys() for one in values) and count == wanted:
        rows = zip(*([value or 0.0 for value in one.values()] for one in values), strict=True)
        mean, spread = mean_and_spread([100 * sum(row) / len(row) for row in rows])
    else:
        mean, spread = mean_and_spread([mean_and_spread(one)[0] for one in there])[0], None
    missing = f"{count} of {wanted} measured" if count < wanted else ""
    missing += f": {why}" if missing and why != NOT_YET else ""
    return Cell(
        mean=mean,
        spread=spread,
        n=min(map(len, there)),
        of=max(map(len, values)),
        published=published,
        difference=mean - published if same and published is not None else None,
        why_missing=missing,
        command=command if missing else "",
    )


def _same_images(suite: Suite, one: PublishedColumn, groups: Sequence[Group]) -> bool:
    """Whether what a column tells ID from are the paper's images."""
    chosen = [group for group in groups if one.group in (AVERAGE, group.name)]
    return all(papers_own(suite, group.ood or suite.ids[group.id].rest) for group in chosen)


def measured(
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
) -> tuple[MeasuredTable, BenchPlan]:
    """Measure what is missing of a table (nothing if ``dry``) and fold what is known; the plan has the jobs.

    ``named`` are suite and table as the user wrote them (their own names otherwise), for commands that
    fill cells in. ``data`` is the folder of the images; without it, features must be in the workspace
    ``work`` already. ``rows`` are names of rows, ``seeds`` and ``splits`` how many; ``mode``, ``model`` and
    ``pretrained`` take the place of the suite's. Raises UsageError as ``lines_of`` does, and LsnError if
    another process works on the suite.
    """
    check_methods(suite, spec)
    lines = lines_of(suite, spec, rows=rows, splits=splits, mode=mode, model=model)
    used = model or suite.model
    bundle = suite.features if used == suite.model and not pretrained else None
    suite_work = SuiteWorkspace(
        work, suite.name, used, data, pretrained, device, batch_size, workers, bundle, suite.sets
    )
    about = {"suite": suite.name, "table": spec.key}
    count = suite.seeds if seeds is None else seeds
    if dry:
        done = Run(suite_work, about, make_plan(suite_work, lines, count))
    else:
        done = run(suite_work, lines, about=about, seeds=count, jobs=jobs, quiet=quiet)
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
    table = fold(suite, spec, done, done.plan, command, [line.name for line in lines])
    return table, done.plan
