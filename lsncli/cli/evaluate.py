"""``lsn eval``: many methods on many OOD splits in one sorted table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lsncli.cli import options
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.train_prompts import workspace_backbone
from lsncli.console import brief, progress_bar, remarks, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, Column, render
from lsncli.store import check_exists

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lsncli.artefacts.detector import SavedDetector
    from lsncli.evaluation.evaluate import Evaluation, MethodResult
    from lsncli.intervals import Interval
    from lsncli.methods.spec import Method

COLUMNS = [
    Column("method", "Method", identifies=True),
    Column("head", "Head", detail=True),
    Column("ood", "OOD set", identifies=True),
    Column("fpr95", "FPR95↓", digits=2, percent=True),
    Column("fpr95_ood", "OOD+↓", digits=2, percent=True, detail=True),
    Column("auroc", "AUROC↑", digits=2, percent=True),
    Column("aupr_in", "AUPR-in", digits=2, percent=True, detail=True),
    Column("aupr_out", "AUPR-out", digits=2, percent=True, detail=True),
    Column("id_accuracy", "ID acc", digits=2, percent=True, detail=True),
]
COUNTS = [Column("n_id", "ID images", digits=0), Column("n_ood", "OOD images", digits=0)]
COSTS = [Column("seconds", "Seconds", digits=2), Column("peak_mib", "MiB", digits=0)]
ERROR = [Column("error", "Not evaluated because", wide=True)]
DEFINITIONS = (
    "OOD+: FPR95 with OOD as the positive class, over all thresholds (OpenOOD drops some; its number can be "
    "higher where scores tie). AUPR: average precision (OpenOOD's is the trapezoid rule)."
)

IntervalName = Literal["delong", "bootstrap"]
BOUNDED: dict[str, tuple[str, ...]] = {"delong": ("auroc",), "bootstrap": ("fpr95", "auroc")}
"""The metrics of each kind of interval."""


def evaluate(
    id: Annotated[str, typer.Option("--id", help="Labelled ID split to test on.")] = "test",
    ood: Annotated[
        list[str] | None,
        typer.Option("--ood", help="OOD split, repeatable.", show_default="every other split"),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="SCORE[:HEAD][,SETTING=VALUE...], repeatable; 'all' takes every score whose needs the "
            "store meets.",
            show_default="a few quick ones",
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Training split: classes, and rows for scores that learn from them.",
            show_default="train; without one the classes of --id",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="SPLIT=FOLDER, repeatable: what a split was extracted from, for odin with eps > 0.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    average: Annotated[
        bool, typer.Option("--average", help="Only the average over OOD splits, one row a method.")
    ] = False,
    costs: Annotated[
        bool,
        typer.Option(
            "--costs",
            help="Show seconds and peak memory; nothing is taken from the cache.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    intervals: Annotated[
        IntervalName | None,
        typer.Option(help="Add 95% intervals: delong (AUROC) or bootstrap (AUROC and FPR95)."),
    ] = None,
    save_scores: Annotated[
        Path | None,
        typer.Option(help="Write every score to FILE.csv or FILE.npz.", rich_help_panel=ADVANCED),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Draw score histograms and ROC curves of each method into a folder.")
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache", help="Keep scores in the workspace by content.", rich_help_panel=ADVANCED
        ),
    ] = True,
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    timeout: options.Timeout = None,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how well methods tell ID from OOD: FPR95, AUROC and more, in percent.

    Examples:
        lsn eval
        lsn eval --method lsn --method energy --ood textures
        lsn eval --method all --average --format csv > all.csv

    FPR95 (ID+) is the paper's: OOD images kept when 95 % of ID images are kept. FPR95 (OOD+) counts ID images
    rejected when 95 % of OOD images are rejected, over all thresholds; OpenOOD drops some thresholds, so that
    its number can be higher where scores tie. AUPR is average precision; OpenOOD's is the trapezoid rule.
    Programs (csv, json, jsonl) get fractions.
    """
    options.set_timeouts(timeout, image_timeout)
    workspace = Workspace(work)
    check_exists(workspace.features)
    from lsncli.device import pick_device
    from lsncli.evaluation import evaluate as use
    from lsncli.evaluation.evaluate import all_methods, check_target, choose_splits, default_methods, has_rows
    from lsncli.evaluation.evaluate import save_scores as write_scores
    from lsncli.methods.inputs import ImageAccess
    from lsncli.methods.spec import parse_method
    from lsncli.report.evaluation_plots import draw_evaluation
    from lsncli.report.plots import check_available

    if save_scores is not None:
        check_target(save_scores)
    if plots is not None:
        check_available("--plots")
    inside, outside = choose_splits(workspace, id, ood or (), train)
    rows = has_rows(workspace, train)
    detector = _detector(workspace, inside.classes)
    names = [
        name
        for text in method or default_methods(workspace, rows=rows)
        for name in (all_methods(workspace, rows=rows) if text == "all" else [text])
    ]
    plan = use.plan_evaluation(
        workspace,
        [parse_method(name) for name in dict.fromkeys(names)],
        inside,
        outside,
        train,
        model=partial(workspace_backbone, workspace, pretrained, device, quiet=quiet),
        device=str(pick_device(device)),
        images=ImageAccess(
            folders_of(images or ()), options.images_at_once(batch_size, device), options.threads(workers)
        ),
        keep=cache and not costs,
        detector=None if method else detector,
        remark=remarks(quiet),
    )
    for warning in plan.doubts:
        say(f"Warning: {warning}", quiet=quiet, style="yellow")
    with progress_bar("scores", plan.rows, quiet=quiet) as progress:
        evaluation = use.evaluate(plan, progress)
    if save_scores is not None:
        write_scores(save_scores, evaluation.methods, [inside, *outside])
    if plots is not None:
        with progress_bar("figures", len(evaluation.methods), quiet=quiet) as progress:
            files = draw_evaluation(plots, evaluation, [split.name for split in outside], progress)
        say(f"Wrote {len(files)} figures (png, svg) and their numbers (csv) to {plots}", quiet=quiet)
    results = [
        result
        for result in evaluation.ranked()
        if result.ood == use.AVERAGE or len(outside) == 1 or not average
    ]
    table = [result_row(result, use.intervals_of(evaluation, result, intervals)) for result in results]
    table += [failed_row(failed, reason) for failed, reason in evaluation.failed]
    title = f"ID: {id} ({len(inside.labels)} images). Higher score = more ID; values in percent."
    people = FORMATS[format].people
    if people:
        table = with_short_labels(table)
    shown_columns = columns(people, costs, intervals, bool(evaluation.failed))
    render(table, told_apart(shown_columns, table), format, output, title, wide=wide)
    if people and wide:
        say(DEFINITIONS, quiet=quiet)
    for failed, reason in evaluation.failed:
        say(f"{failed}: not evaluated. {reason}", style="yellow")
    if not evaluation.results:
        raise typer.Exit(1)
    say(conclusion(evaluation, detector, work), quiet=quiet)


def _detector(workspace: Workspace, classes: "Sequence[str]") -> "SavedDetector | None":
    """Return the detector of the workspace if it has the model of its features and ``classes``."""
    from lsncli.artefacts.detector import find_detector
    from lsncli.store.reader import read_fingerprint

    detector = find_detector(workspace.detector)
    if detector is None or detector.fingerprint.digest != read_fingerprint(workspace.features).digest:
        return None
    return detector if set(classes) <= set(detector.head.classes) else None


def conclusion(evaluation: "Evaluation", detector: "SavedDetector | None", work: Path) -> str:
    """Return which method is best here, which one the workspace's detector has, and what switches."""
    from lsncli.evaluation.evaluate import has_method_of

    best = evaluation.best()
    if best is None:
        return "None of these methods can be a detector."
    result, present = evaluation.result_of(best), "" if detector is None else detector.label
    alike = brief(result.label) == brief(present) and result.label != present  # settings differ
    name, own_name = (label if alike else brief(label) for label in (result.label, present))
    text = f"Best on these OOD images: {name} (AUROC {result.metrics.auroc:.2%})."
    if detector is not None and has_method_of(detector, best):
        return f"{text} The workspace's detector has this method."
    switch = f"`{options.in_workspace(f'lsn calibrate --method {best.method}', work)}`"
    if detector is None:
        return f"{text} {switch} makes it the workspace's detector."
    own = [each for each in evaluation.methods if has_method_of(detector, each)]
    auroc = f" (AUROC {evaluation.result_of(own[0]).metrics.auroc:.2%})" if own else ""
    return f"{text} The workspace's detector is {own_name}{auroc}; {switch} switches."


def folders_of(texts: Sequence[str]) -> dict[str, list[Path]]:
    """Parse texts of the form ``SPLIT=FOLDER``; return folders by split. Raises UsageError."""
    folders: dict[str, list[Path]] = {}
    for text in texts:
        split, _, folder = text.partition("=")
        if not split or not folder:
            raise UsageError(f"--images: expected SPLIT=FOLDER, found '{text}'.")
        folders.setdefault(split, []).append(Path(folder))
    return folders


def columns(people: bool, costs: bool, intervals: IntervalName | None, failures: bool) -> list[Column]:
    """Return the columns of the output; programs get the ends of intervals as numbers, and counts."""
    extra = COSTS if costs else []
    bounded = BOUNDED.get(intervals or "", ())
    if not people:
        ends = [Column(f"{metric}_{end}", "") for metric in bounded for end in ("low", "high")]
        return [*COLUMNS, *extra, *ends, *COUNTS, *(ERROR if failures else [])]
    shown = []
    for column in COLUMNS:
        shown.append(column)
        if column.key in bounded:
            shown.append(Column(f"{column.key}_interval", f"{column.key.upper()} 95 %"))
    return [*shown, *extra]


def with_short_labels(rows: "list[dict[str, object]]") -> "list[dict[str, object]]":
    """Return rows with methods without settings where these do not tell two methods apart (--verbose)."""
    labels = {str(row["method"]) for row in rows}
    taken = Counter(map(brief, labels))
    return [
        row | {"method": brief(label)} if taken[brief(label)] == 1 else row
        for row in rows
        for label in [str(row["method"])]
    ]


def told_apart(columns: Sequence[Column], rows: Sequence["Mapping[str, object]"]) -> list[Column]:
    """Return the columns with the head always shown if two methods on one OOD set differ in it alone."""
    names = [(row["method"], row["ood"]) for row in rows]
    needed = len(set(names)) < len(names)
    return [
        replace(column, detail=False, identifies=True) if needed and column.key == "head" else column
        for column in columns
    ]


def result_row(result: "MethodResult", intervals: "Mapping[str, Interval]") -> dict[str, object]:
    """Return a row of the evaluation table, in fractions; ``*_interval`` is text in percent, for people."""
    metrics = result.metrics
    bounds: dict[str, object] = {}
    for key, interval in intervals.items():
        bounds |= {f"{key}_low": interval.low, f"{key}_high": interval.high}
        bounds[f"{key}_interval"] = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    return bounds | {
        "method": result.label,
        "head": result.method.head,
        "ood": result.ood,
        "fpr95": metrics.fpr95,
        "fpr95_ood": metrics.fpr95_ood,
        "auroc": metrics.auroc,
        "aupr_in": metrics.aupr_in,
        "aupr_out": metrics.aupr_out,
        "id_accuracy": result.id_accuracy,
        "n_id": metrics.n_id,
        "n_ood": metrics.n_ood,
        "seconds": result.cost.seconds,
        "peak_mib": result.cost.peak_mib,
    }


def failed_row(method: "Method", reason: str) -> dict[str, object]:
    """Return the row of a method that failed, with the reason, which people see below the table."""
    return {"method": str(method), "head": method.head, "ood": "not evaluated", "error": reason}
