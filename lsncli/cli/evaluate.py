"""``lsn eval``: many methods on many OOD splits in one table."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.app.workspace import Workspace
from lsncli.cli import options
from lsncli.cli.training import workspace_backbone
from lsncli.console import progress, say
from lsncli.report.render import Column, render

if TYPE_CHECKING:
    from lsncli.app.evaluate import Result

COLUMNS = [
    Column("method", "Method"),
    Column("head", "Head"),
    Column("ood", "OOD"),
    Column("fpr95", "FPR95↓", digits=2, percent=True),
    Column("fpr95_ood", "OOD+↓", digits=2, percent=True),
    Column("auroc", "AUROC↑", digits=2, percent=True),
    Column("aupr_in", "AUPR-in", digits=2, percent=True),
    Column("aupr_out", "AUPR-out", digits=2, percent=True),
    Column("id_accuracy", "ID acc", digits=2, percent=True),
]
COUNTS = [Column("n_id", "ID images", digits=0), Column("n_ood", "OOD images", digits=0)]


def evaluate(
    id: Annotated[str, typer.Option("--id", help="Labelled ID split to test on.")] = "test",
    ood: Annotated[
        list[str] | None, typer.Option("--ood", help="OOD split, repeatable; every other split if left out.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="SCORE[:HEAD][,SETTING=VALUE...], repeatable; all if left out."),
    ] = None,
    train: Annotated[str, typer.Option(help="Training split: classes, and KNN's rows.")] = "train",
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure how well methods tell ID from OOD: FPR95, AUROC, AUPR and ID accuracy, in percent.

    FPR95 (ID+) is the paper's: OOD images kept when 95 % of ID images are kept. FPR95 (OOD+) is OpenOOD's:
    ID images rejected when 95 % of OOD images are rejected. Programs (csv, json, jsonl) get fractions.
    """
    from lsncli.app import evaluate as use
    from lsncli.app.methods import parse_method

    place = Workspace(work)
    methods = [parse_method(text) for text in method or use.default_methods(place)]
    inside, outside = use.choose_splits(place, id, ood or (), train)
    model = partial(workspace_backbone, place, pretrained, device)
    rows = sum(len(split.labels) for split in (inside, *outside))
    with progress("images", rows, quiet=quiet) as tick:
        found = use.evaluate(place, methods, inside, outside, train, model=model, tick=tick)
    columns = COLUMNS if format in ("table", "md", "tex") else [*COLUMNS, *COUNTS]
    title = f"ID: {id} ({len(inside.labels)} images). Higher score = more ID; values in percent."
    render([result_row(result) for result in found.results], columns, format, output, title)
    for failed, reason in found.failed:
        say(f"{failed}: not evaluated. {reason}", style="yellow")
    if not found.results:
        raise typer.Exit(1)


def result_row(result: "Result") -> dict[str, object]:
    """A result as a row of the evaluation table; fractions."""
    metrics = result.metrics
    return {
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
    }
