"""What a figure is made from and what was drawn; images behind stored rows; figures of measured rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from PIL.Image import Image

from lsncli.bench.costs import FOR_FIGURES, cost_rows, estimate_costs
from lsncli.bench.extraction import extract_set
from lsncli.bench.jobs import ScoreJob
from lsncli.bench.measure import score_splits
from lsncli.bench.measured_table import MeasuredTable, measure_table
from lsncli.bench.plan import BenchPlan
from lsncli.bench.speeds import Speeds
from lsncli.bench.suite import Suite, TableSpec
from lsncli.bench.suite_workspace import SuiteWorkspace, same_backbone
from lsncli.bench.training_jobs import shared_loader
from lsncli.console import progress_bar, say
from lsncli.device import pick_device
from lsncli.errors import LsnError, UsageError
from lsncli.images.dataset_layouts import DatasetLayout
from lsncli.images.decode import decode
from lsncli.images.read import Undecodable, read_bytes
from lsncli.locks import locked
from lsncli.report.evaluation_plots import draw_scores
from lsncli.report.formats import Column
from lsncli.report.plots import unique_stem
from lsncli.store.format import Split

Record = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A suite, where the files go, and how things are measured."""

    suite: Suite
    to: Path
    """Folder of the files."""
    named: str
    """The suite as the user wrote it."""
    given: dict[str, Any]
    """What ``measure_table`` takes besides suite, table and rows: work, data, seeds, model and so on."""
    spec: TableSpec | None = None
    """The table whose sets and rows are taken; None for the paper's own."""
    rows: Sequence[str] = ()
    shots: Sequence[int] = ()
    dry: bool = False
    """Only say what would be done."""
    quiet: bool = False
    table_named: str = ""
    """The table as the user wrote it."""

    def table(self, usual: str) -> TableSpec:
        """The table asked for, else the suite's table ``usual``. Raises UsageError if there is none."""
        if self.spec is not None:
            return self.spec
        if usual not in self.suite.tables:
            known = ", ".join(self.suite.tables) or "none"
            raise UsageError(
                f"The suite '{self.suite.name}' has no table {usual}, which this figure is made from.",
                f"Name one of its own with --table: {known}.",
            )
        return self.suite.table(usual)

    def measure(self, spec: TableSpec, *, dry: bool = False) -> tuple[MeasuredTable, BenchPlan]:
        """Every row of ``spec``; what is known already is not measured again."""
        return measure_table(
            self.suite,
            spec,
            named=(self.named, spec.key),
            **self.given,
            dry=dry or self.dry,
            quiet=self.quiet,
        )

    def command(self, number: int) -> str:
        """What draws the same figure again."""
        said: dict[str, object] = {
            "figure": number,
            "suite": self.named,
            "table": self.table_named,
            **{name: self.given.get(name) for name in ("data", "mode", "model", "pretrained", "seeds")},
        }
        options = [f"--{name} {quote(str(value))}" for name, value in said.items() if value]
        return " ".join(["lsn bench", *options, *(f"--shots {one}" for one in self.shots)])


@dataclass(frozen=True)
class FigureResult:
    """Rows for stdout, the files written, and what belongs under the picture."""

    title: str
    rows: Sequence[Record]
    columns: Sequence[Column]
    files: Sequence[Path] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def figure_paths(request: Request, name: str) -> tuple[Path, Path, Path]:
    """The picture as png and svg, and its numbers as csv."""
    base = f"{name}-{request.suite.name}" if request.suite.name else name
    png, svg, numbers = (request.to / f"{base}.{ending}" for ending in ("png", "svg", "csv"))
    return png, svg, numbers


def extract_sets(request: Request, spec: TableSpec, names: Iterable[str]) -> tuple[SuiteWorkspace, BenchPlan]:
    """Make the features of the stored splits ``names`` of a table, unless they are there.

    The plan holds the extractions that were missing. Raises LsnError for a set whose images are not there.
    """
    _, plan = request.measure(spec, dry=True)
    wanted = set(names)
    needed = tuple(one for one in plan.extracts if one.split in wanted and not one.model)
    plan = replace(plan, extracts=needed, scores=())
    if request.dry or not needed:
        return plan.suite_work, plan
    with locked(plan.suite_work.results.path):
        for one in needed:
            if one.blocked:
                raise LsnError(
                    f"There are {one.blocked}.",
                    f"`lsn datasets --suite {request.named}` says what is needed.",
                )
            say(f"Extracting {one} ...", quiet=request.quiet)
            extract_set(one)
    return plan.suite_work, plan


def describe_costs(title: str, plans: Iterable[BenchPlan]) -> FigureResult:
    """What would be done, and its cost."""
    rows = [row for plan in plans for row in cost_rows(estimate_costs(plan, Speeds(plan.suite_work)))]
    return FigureResult(title, rows, FOR_FIGURES)


def spread_rows(split: Split, count: int) -> list[int]:
    """The first row of each of ``count`` classes, spread over all classes; fewer if there are not so many."""
    labels = np.unique(split.labels[split.labels >= 0])
    chosen = labels[np.linspace(0, len(labels) - 1, min(count, len(labels))).astype(int)]
    return [int(np.flatnonzero(split.labels == label)[0]) for label in chosen]


def load_pictures(source: DatasetLayout | None, keys: Sequence[str]) -> dict[str, Image]:
    """The images of ``keys`` in a set, RGB; those that are not there or broken are left out."""
    if source is None:
        return {}
    found = {}
    items = {item.key: item for item in source.listing().items if item.key in set(keys)}
    for key, item in items.items():
        try:
            found[key] = decode(read_bytes(item))
        except Undecodable:
            continue
    return found


def draw_rows(plan: BenchPlan, folder: Path, *, quiet: bool = False) -> list[Path]:
    """Draw what ``plan`` has measured from the first seed, a figure for each row and split of an ID set.

    The png files; beside each are an svg and the numbers as csv. Scores come from the suite's cache, or are
    computed again. Raises LsnError if a file cannot be written or features are gone.
    """
    todo = [score for score in plan.scores if score.seed == 0 and score.keys and plan.done(score)]
    written: list[Path] = []
    several = {score.split.id for score in todo if score.split.number}
    with progress_bar("figures", len(todo), quiet=quiet) as progress:
        for score in sorted(todo, key=lambda one: (one.row.model, str(one.split))):  # a place is read once
            where = str(score.split) if score.split.id in several else score.split.id
            name = unique_stem(f"{score.row.name} on {where}", [path.stem for path in written])
            written.append(_draw_row(plan, score, folder, name, where))
            progress(1, str(score))
    return written


def _draw_row(plan: BenchPlan, score: ScoreJob, folder: Path, name: str, where: str) -> Path:
    suite_work = plan.suite_work
    work, weights = suite_work.workspace(score.row.model), suite_work.weights(score.row.model)
    device = str(pick_device(suite_work.device))
    task = shared_loader(work.features).load(score.split)
    found, _ = score_splits(
        score,
        list(score.keys),
        work,
        task,
        lambda: same_backbone(work.features, weights, device),
        device=device,
    )
    scores = found.methods[0].scores
    outside = {ood: scores[split.name] for ood, split in task.ood.items()}
    title = f"{score.row.name} ({score.method}), ID: {where}"
    return draw_scores(folder, name, title, score.split.id, scores[task.test.name], outside)
