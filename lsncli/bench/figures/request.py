"""What all figures share: the request, the result, features and images of stored sets; plots of a table."""

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
    """A figure to draw: the suite, the folder for the files, and the options for measuring."""

    suite: Suite
    to: Path
    """Folder for the files."""
    named: str
    """The suite as the user wrote it."""
    given: dict[str, Any]
    """Options of ``measure_table``: work, data, seeds, model and so on."""
    spec: TableSpec | None = None
    """The table whose sets and rows are used; None for the default of the figure."""
    rows: Sequence[str] = ()
    shots: Sequence[int] = ()
    dry: bool = False
    """Only list the jobs that are left."""
    quiet: bool = False
    table_named: str = ""
    """The table as the user wrote it."""

    def table(self, usual: str) -> TableSpec:
        """Return ``spec``, else the table ``usual`` of the suite. Raises UsageError if there is none."""
        if self.spec is not None:
            return self.spec
        if usual not in self.suite.tables:
            known = ", ".join(self.suite.tables) or "none"
            raise UsageError(
                f"The suite '{self.suite.name}' has no table {usual}, which this figure is made from.",
                f"Name one of its own with --table: {known}.",
            )
        return self.suite.table(usual)

    def measure(
        self, spec: TableSpec, *, dry: bool = False, later: Sequence[BenchPlan] = ()
    ) -> tuple[MeasuredTable, BenchPlan]:
        """Measure what is missing of ``spec``; return the table and the plan.

        The time left includes that of plans which follow ``later``.
        """
        return measure_table(
            self.suite,
            spec,
            named=(self.named, spec.key),
            **self.given,
            dry=dry or self.dry,
            quiet=self.quiet,
            later=later,
        )

    def command(self, number: int) -> str:
        """Return the command that draws the same figure."""
        values: dict[str, object] = {
            "figure": number,
            "suite": self.named,
            "table": self.table_named,
            **{name: self.given.get(name) for name in ("data", "mode", "model", "pretrained", "seeds")},
        }
        options = [f"--{name} {quote(str(value))}" for name, value in values.items() if value]
        return " ".join(["lsn bench", *options, *(f"--shots {number}" for number in self.shots)])


@dataclass(frozen=True)
class FigureResult:
    """A drawn figure: rows for stdout, the files, and notes."""

    title: str
    rows: Sequence[Record]
    columns: Sequence[Column]
    files: Sequence[Path] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def figure_paths(request: Request, name: str) -> tuple[Path, Path, Path]:
    """Return the paths of the png, the svg and the csv with the numbers."""
    base = f"{name}-{request.suite.name}" if request.suite.name else name
    png, svg, numbers = (request.to / f"{base}.{ending}" for ending in ("png", "svg", "csv"))
    return png, svg, numbers


def extract_sets(request: Request, spec: TableSpec, names: Iterable[str]) -> tuple[SuiteWorkspace, BenchPlan]:
    """Extract the splits ``names`` of a table that are missing; return the workspace and the plan.

    The plan holds the extractions that were missing. Raises LsnError for a set without images.
    """
    _, plan = request.measure(spec, dry=True)
    splits = set(names)
    needed = tuple(job for job in plan.extracts if job.split in splits and not job.model)
    plan = replace(plan, extracts=needed, scores=())
    if request.dry or not needed:
        return plan.suite_work, plan
    with locked(plan.suite_work.results.path):
        for job in needed:
            if job.blocked:
                raise LsnError(
                    f"There are {job.blocked}.",
                    f"`lsn datasets --suite {request.named}` says what is needed.",
                )
            say(f"Extracting {job} ...", quiet=request.quiet)
            extract_set(job)
    return plan.suite_work, plan


def describe_costs(title: str, plans: Iterable[BenchPlan]) -> FigureResult:
    """Return the jobs that are left with their costs, for a dry run."""
    rows = [row for plan in plans for row in cost_rows(estimate_costs(plan, Speeds(plan.suite_work)))]
    return FigureResult(title, rows, FOR_FIGURES)


def spread_rows(split: Split, count: int) -> list[int]:
    """Return the first row of each of ``count`` classes spread over all classes, or of all classes."""
    labels = np.unique(split.labels[split.labels >= 0])
    chosen = labels[np.linspace(0, len(labels) - 1, min(count, len(labels))).astype(int)]
    return [int(np.flatnonzero(split.labels == label)[0]) for label in chosen]


def load_pictures(source: DatasetLayout | None, keys: Sequence[str]) -> dict[str, Image]:
    """Return the images of ``keys`` in a set, RGB; missing and broken ones are left out."""
    if source is None:
        return {}
    images = {}
    items = {item.key: item for item in source.listing().items if item.key in set(keys)}
    for key, item in items.items():
        try:
            images[key] = decode(read_bytes(item))
        except Undecodable:
            continue
    return images


def draw_rows(plan: BenchPlan, folder: Path, *, quiet: bool = False) -> list[Path]:
    """Draw score histograms and ROC curves of the measured rows, from the first seed.

    Each row and split gets a png, which is returned, an svg and the numbers as csv. Scores are cached, or
    computed again. Raises LsnError if a file cannot be written or features are gone.
    """
    todo = [score for score in plan.scores if score.seed == 0 and score.keys and plan.done(score)]
    written: list[Path] = []
    several = {score.split.id for score in todo if score.split.number}
    with progress_bar("figures", len(todo), quiet=quiet) as progress:
        for score in sorted(todo, key=lambda each: (each.row.model, str(each.split))):  # a split is read once
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
