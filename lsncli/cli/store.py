"""``lsn store``: inspect a feature store, check it, find copies, import and export features."""

from pathlib import Path
from typing import Annotated

import typer

from lsncli.cli import options
from lsncli.cli.configured import ONLY_READ, Configured
from lsncli.cli.duplicates import duplicates
from lsncli.cli.help_page import ADVANCED, Group
from lsncli.console import say
from lsncli.credentials import mask_credentials
from lsncli.errors import LsnError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import Column, render

app = typer.Typer(
    cls=Group, help="Inspect the feature store, check it, import and export features.", no_args_is_help=True
)


@app.command(cls=Configured)
def info(
    work: options.WorkFolder = options.DEFAULT_WORK,
    failures: Annotated[
        bool, typer.Option("--failures", help="List the images that failed, with reasons.")
    ] = False,
    format: options.Format = "table",
    output: options.Output = None,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
) -> None:
    """List the splits of the store: rows, classes, failures and sources.

    Examples:
        lsn store info
        lsn store info --failures
    """
    from lsncli.store.reader import list_splits, read_fingerprint

    path = Workspace(work).features
    say(f"{path}: features of {read_fingerprint(path)}", quiet=quiet)
    splits = list_splits(path).values()
    rows: list[dict[str, object]]
    if failures:
        rows = [{"split": s.name, "key": f.key, "reason": f.reason} for s in splits for f in s.failures]
        columns = [
            Column("split", "Split", identifies=True),
            Column("key", "Image", wide=True, identifies=True),
            Column("reason", "Reason", wide=True),
        ]
    else:
        rows = [
            {
                "split": split.name,
                "rows": split.rows,
                "dim": split.dim,
                "classes": len(split.classes),
                "failures": len(split.failures),
                "source": mask_credentials(split.source),  # older versions stored it unmasked
            }
            for split in splits
        ]
        columns = [
            Column("split", "Split"),
            Column("rows", "Rows", digits=0),
            Column("dim", "D", digits=0, detail=True),
            Column("classes", "Classes", digits=0),
            Column("failures", "Failures", digits=0),
            Column("source", "Source", wide=True),
        ]
    render(rows, columns, format, output, wide=wide)


app.command(cls=Configured)(duplicates)


@app.command(cls=Configured)
def verify(work: options.WorkFolder = options.DEFAULT_WORK, quiet: options.Quiet = False) -> None:
    """Check every split of the store; exit with 1 if it is not sound.

    Examples:
        lsn store verify --work ./lsn-work

    Checksums, counts, labels, finite features, unique keys. The parts of unfinished splits are checked, too.
    """
    from lsncli.store.merge import unfinished_splits
    from lsncli.store.reader import read_fingerprint
    from lsncli.store.verify import verify as check

    path = Workspace(work).features
    unfinished = unfinished_splits(path)
    if not path.exists() and not unfinished:
        read_fingerprint(path)  # raises the error for a missing store
    problems = check(path) if path.exists() else []
    for split in unfinished:
        say(
            f"Split '{split.split}' is unfinished: {split.made} of {split.parts} parts are made.", quiet=quiet
        )
        problems += [f"Unfinished split '{split.split}': {problem}" for problem in split.problems]
    for problem in problems:
        say(problem, style="red")
    if problems:
        raise LsnError(f"{path} is not sound: {len(problems)} problems.", "Extract the named splits again.")
    say(f"{path if path.exists() else 'What is made'} is sound.", quiet=quiet)


@app.command(cls=Configured)
def merge(
    split: Annotated[str, typer.Option(help="Split to finish.")] = "train",
    copy: Annotated[
        bool, typer.Option("--copy", help="Write all rows into the store, as lsn extract itself does.")
    ] = False,
    max_failure_rate: options.MaxFailureRate = 0.05,
    work: options.WorkFolder = options.DEFAULT_WORK,
    quiet: options.Quiet = False,
) -> None:
    """Finish a split from its parts; exit with 1 if they are not complete.

    Examples:
        lsn store merge --split train

    All parts must be of one extraction.
    Without --copy the rows stay in part files beside the store, in features.h5.rows: nothing is copied, and
    both belong together. With --copy, a split that was merged so before is written into the store.
    """
    from lsncli.extraction.extract import check_split
    from lsncli.extraction.runner import merge as use

    workspace = Workspace(work)
    info = use(workspace.features, split, copy=copy, record=workspace.extraction(split))
    location = workspace.features if copy else "part files beside the store"
    say(
        f"Split '{split}' is finished: {info.rows} rows, {len(info.failures)} failures, in {location}.",
        quiet=quiet,
    )
    check_split(info, max_failure_rate, workspace.features)


@app.command("import", cls=Configured)
def import_split(
    source: Annotated[
        Path, typer.Argument(help="Features (N, D): .npy, .npz, .safetensors, .parquet, .csv or .tsv.")
    ],
    model: Annotated[str, typer.Option(help="Name of the model that computed them.")],
    split: Annotated[str, typer.Option(help="Name of the new split.")] = "train",
    labels: Annotated[
        Path | None, ONLY_READ, typer.Option(help="Labels (N,): .npy, .json, .csv, or text, one a line.")
    ] = None,
    label_column: Annotated[
        str,
        typer.Option(
            help="Column or array of labels, in --labels or else in SOURCE; 'none' leaves them out.",
            metavar="COLUMN",
        ),
    ] = "",
    classes: Annotated[Path | None, ONLY_READ, typer.Option(help="Class names, one a line.")] = None,
    text: Annotated[Path | None, ONLY_READ, typer.Option(help="Class text features (C, D) as .npy.")] = None,
    logit_scale: Annotated[
        float, typer.Option(help="The model's logit scale.", rich_help_panel=ADVANCED)
    ] = 100.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the split.")] = False,
    work: options.WorkFolder = options.DEFAULT_WORK,
    quiet: options.Quiet = False,
) -> None:
    """Import features computed elsewhere, to evaluate them like our own.

    Examples:
        lsn store import train.npz --model theirs
        lsn store import test.npy --model theirs --split test --labels test.csv

    They are stored as float16; features whose direction that would change are refused, with a factor to scale
    them by.
    """
    from lsncli.interchange.exchange import import_features

    path = Workspace(work).features
    imported = import_features(
        path,
        split,
        source,
        labels_file=labels,
        classes_file=classes,
        text_file=text,
        model_name=model,
        logit_scale=logit_scale,
        label_column=label_column,
        remark=lambda text: say(text, quiet=quiet),
        replace=overwrite,
    )
    say(
        f"{path}: split '{split}' has {len(imported.labels)} rows of {len(imported.classes)} classes.",
        quiet=quiet,
    )


@app.command(cls=Configured)
def export(
    target: Annotated[Path, typer.Argument(help="File to write: .npz, .npy, .parquet or .csv.")],
    split: Annotated[str, typer.Option(help="Split to export.")] = "train",
    work: options.WorkFolder = options.DEFAULT_WORK,
    quiet: options.Quiet = False,
) -> None:
    """Write the features, labels and keys of a split for other tools.

    Examples:
        lsn store export train.parquet
        lsn store export test.csv --split test
    """
    from lsncli.interchange.exchange import export_features

    export_features(Workspace(work).features, split, target)
    say(f"Wrote {target}.", quiet=quiet)
