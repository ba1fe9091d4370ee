"""``lsn eval``: many methods on many OOD splits in one sorted table."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.evaluate_rows import (
    DEFINITIONS,
    IntervalName,
    about_differences,
    columns,
    difference_cells,
    difference_rows,
    failed_row,
    labelled_remark,
    result_row,
    told_apart,
    with_short_labels,
)
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.train_prompts import workspace_backbone
from lsncli.console import brief, progress_bar, remarks, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, render
from lsncli.store import check_exists

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.evaluation.differences import Comparison
    from lsncli.evaluation.evaluate import Evaluation, Groups
    from lsncli.methods.spec import Method


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
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Show how each method differs from this one on the same images, with 95% intervals and "
            "p-values.",
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SPLIT,SPLIT...",
            help="Also show the mean over these OOD splits, such as near and far; repeatable.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    average: Annotated[
        bool, typer.Option("--average", help="Only averages over OOD splits, one row a method.")
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
        Path | None,
        typer.Option(help="Draw histograms, ROC and OSCR curves of each method, and ranks, into a folder."),
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
        lsn eval --against mcm --group near=birds,dogs --group far=textures

    FPR95 (ID+) is the paper's: OOD images kept when 95 % of ID images are kept. FPR95 (OOD+) counts ID images
    rejected when 95 % of OOD images are rejected, over all thresholds; OpenOOD drops some thresholds, so that
    its number can be higher where scores tie. AUPR is average precision; OpenOOD's is the trapezoid rule.
    AUOSCR, AURC and ECE (--wide) also see the predicted classes of labelled ID images. Programs (csv, json,
    jsonl) get fractions.
    """
    options.set_timeouts(timeout, image_timeout)
    workspace = Workspace(work)
    check_exists(workspace.features)
    from lsncli.device import pick_device
    from lsncli.evaluation import evaluate as use
    from lsncli.evaluation.differences import baseline_of
    from lsncli.evaluation.evaluate import all_methods, choose_splits, default_methods, has_rows
    from lsncli.evaluation.score_files import check_target
    from lsncli.evaluation.score_files import save_scores as write_scores
    from lsncli.methods.inputs import ImageAccess
    from lsncli.methods.spec import parse_method
    from lsncli.report.evaluation_plots import draw_evaluation
    from lsncli.report.plots import check_available

    if save_scores is not None:
        check_target(save_scores)
    if plots is not None:
        check_available("--plots")
    inside, outside = choose_splits(workspace, id, ood or (), train)
    groups = groups_of(group or ())
    use.check_groups(groups, outside)
    rows = has_rows(workspace, train)
    detector = _detector(workspace, inside.classes)
    names = [
        name
        for text in method or default_methods(workspace, rows=rows)
        for name in (all_methods(workspace, rows=rows) if text == "all" else [text])
    ]
    baseline = None if against is None else parse_method(against)
    names += [] if baseline is None else [str(baseline)]
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
    if baseline is not None:
        baseline_of(plan, baseline)  # before the work
    with progress_bar("scores", plan.rows, quiet=quiet) as progress:
        evaluation = use.evaluate(plan, progress, groups)
    ood_names = [split.name for split in outside]
    compared = None if baseline is None else _compare(evaluation, baseline, ood_names, groups, quiet=quiet)
    if save_scores is not None:
        write_scores(save_scores, evaluation.methods, [inside, *outside])
    if plots is not None:
        with progress_bar("figures", len(evaluation.methods), quiet=quiet) as progress:
            files = draw_evaluation(plots, evaluation, ood_names, progress)
        say(f"Wrote {len(files)} figures (png, svg) and their numbers (csv) to {plots}", quiet=quiet)
    people = FORMATS[format].people
    results = [
        result
        for result in evaluation.ranked()
        if not (average and len(outside) > 1 and result.ood in ood_names)
    ]
    table = [
        result_row(result, use.intervals_of(evaluation, result, intervals))
        | ({} if compared is None else difference_cells(compared.values, result.method, result.ood))
        for result in results
    ]
    if people and compared is not None:
        table = difference_rows(table)
    table += [failed_row(failed, reason) for failed, reason in evaluation.failed]
    about = f"ID: {id} ({len(inside.labels)} images)"
    title = f"{about}. Higher score = more ID; values in percent."
    if compared is not None:
        title = f"{about}. In percent, differences from {compared.baseline.resolved.label}."
    if people:
        table = with_short_labels(table)
    shown_columns = columns(
        people,
        costs=costs,
        intervals=intervals,
        failures=bool(evaluation.failed),
        differences=compared is not None,
    )
    render(table, told_apart(shown_columns, table), format, output, title, wide=wide)
    if people and compared is not None:
        say(about_differences(compared), quiet=quiet)
    elif people and wide:
        say(DEFINITIONS + labelled_remark(evaluation), quiet=quiet)
    for failed, reason in evaluation.failed:
        say(f"{failed}: not evaluated. {reason}", style="yellow")
    if not evaluation.results:
        raise typer.Exit(1)
    say(conclusion(evaluation, detector, work), quiet=quiet)


def _compare(
    evaluation: "Evaluation", baseline: "Method", ood_splits: Sequence[str], groups: "Groups", *, quiet: bool
) -> "Comparison":
    from lsncli.comparison import REPEATS
    from lsncli.evaluation.differences import baseline_of, compare

    chosen = baseline_of(evaluation, baseline)
    with progress_bar("bootstrap", REPEATS, quiet=quiet) as progress:
        return compare(evaluation, chosen, ood_splits, groups, progress=progress)


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


def groups_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """Parse texts of the form ``NAME=SPLIT,SPLIT...``; return splits by group. Raises UsageError."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, _, splits = text.partition("=")
        members = splits.split(",")
        if not name or not all(members):
            raise UsageError(f"--group: expected NAME=SPLIT,SPLIT..., found '{text}'.")
        if name in groups:
            raise UsageError(
                f"--group {name}: given twice.", f"Name all splits at once: --group {name}=SPLIT,SPLIT."
            )
        groups[name] = members
    return groups


def folders_of(texts: Sequence[str]) -> dict[str, list[Path]]:
    """Parse texts of the form ``SPLIT=FOLDER``; return folders by split. Raises UsageError."""
    folders: dict[str, list[Path]] = {}
    for text in texts:
        split, _, folder = text.partition("=")
        if not split or not folder:
            raise UsageError(f"--images: expected SPLIT=FOLDER, found '{text}'.")
        folders.setdefault(split, []).append(Path(folder))
    return folders
