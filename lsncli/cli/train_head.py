"""``lsn train-head``: a linear probe on stored features, DualCoOp's prompts, or a tuned image encoder."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lsncli.cli import options
from lsncli.cli import sources as images
from lsncli.cli.configured import ONLY_READ
from lsncli.cli.interrupted import interruptible
from lsncli.cli.options import FormatName
from lsncli.cli.sources import list_sources
from lsncli.cli.train_prompts import kept_epochs, workspace_backbone
from lsncli.console import printable, progress_bar, remarks, say
from lsncli.errors import UsageError
from lsncli.images.columns import Columns
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import Column, render

if TYPE_CHECKING:
    from lsncli.training.linear_probe import TrainedHead

COLUMNS = [
    Column("head", "Head"),
    Column("tuned", "Tuned"),
    Column("classes", "Classes", digits=0),
    Column("rows", "Rows", digits=0),
    Column("c", "C", digits=2),
    Column("first_loss", "Loss first", digits=3),
    Column("last_loss", "last", digits=3),
    Column("held_out", "Val", digits=0),
    Column("accuracy", "Val acc %", digits=2, percent=True),
    Column("seconds", "Seconds", digits=1),
]


@dataclass(frozen=True)
class HeadOptions:
    """The command line, for whatever makes the head."""

    sources: list[Path]
    work: Path
    split: str
    c: float | None
    tune: str | None
    settings: dict[str, Any]
    """Of a training in epochs; None where it was not asked for."""
    resume: bool
    columns: Columns
    classes: Path | None
    model: str | None
    pretrained: str
    device: str
    workers: int
    max_failure_rate: float
    format: FormatName
    output: Path | None
    quiet: bool


def show(done: "TrainedHead", asked: HeadOptions, *, tuned: str | None = None) -> None:
    """One row about a trained head; ``tuned`` is the part of the image tower that was."""
    history = done.head.history
    row = {
        "head": done.head.kind,
        "tuned": tuned,
        "classes": len(done.head.classes),
        "rows": done.rows,
        "c": done.head.settings.get("c"),
        "first_loss": history[0] if history else None,
        "last_loss": history[-1] if history else None,
        "held_out": done.held_out,
        "accuracy": done.accuracy,
        "seconds": done.seconds,
    }
    render([row], COLUMNS, asked.format, asked.output)


def dualcoop(asked: HeadOptions) -> None:
    """Learn with a progress bar and show one row."""
    from lsncli.prompts.dualcoop import dual_settings
    from lsncli.prompts.learner import steps
    from lsncli.training import prompts as use

    given = {"SOURCE": asked.sources, "--tune": asked.tune, "--c": asked.c, "--loss": asked.settings["loss"]}
    given |= {f"--{name}": value for name, value in asked.columns.options().items()}
    for name, value in (given | {"--classes": asked.classes}).items():
        if value:
            raise UsageError(
                f"--kind dualcoop learns prompts from stored features: {name} is not for it.",
                f"Leave {name} out.",
            )
    settings = dual_settings(**{name: value for name, value in asked.settings.items() if name != "loss"})
    place = Workspace(asked.work)
    plan = use.plan_dual(place, asked.split)
    backbone = workspace_backbone(place, asked.pretrained, asked.device)
    total = steps(len(plan.rows.train), settings)
    kept = kept_epochs(place.checkpoint(use.KIND))
    with interruptible(kept), progress_bar("DualCoOp", total, quiet=asked.quiet) as progress:
        done = use.train_dual(
            place,
            backbone,
            plan,
            settings,
            resume=asked.resume,
            progress=progress,
            remark=lambda text: say(text, quiet=asked.quiet),
        )
    show(done, asked)
    say(f"Wrote {done.path}. Next: lsn calibrate --method dualcoop", quiet=asked.quiet)


def tuned(asked: HeadOptions, tune: str) -> None:
    """Fine-tune the image tower and write it with its linear head. On Ctrl-C, say how to go on."""
    from lsncli.backbones import DEFAULT_MODEL, load_backbone
    from lsncli.device import pick_device
    from lsncli.images.listing import named
    from lsncli.training.finetune import KIND, check_place, plan_tuning, tune_tower
    from lsncli.training.finetune_loop import tune_settings
    from lsncli.training.finetune_losses import LOSSES

    if not asked.sources:
        raise UsageError(
            "--tune needs images.", "Write lsn train-head FOLDER --tune ...; one folder per class."
        )
    place, settings = Workspace(asked.work), tune_settings(tune=tune, **asked.settings)
    check_place(place)
    listing = list_sources(asked.sources, asked.columns, quiet=asked.quiet)
    backbone = load_backbone(asked.model or DEFAULT_MODEL, pretrained=asked.pretrained, device=asked.device)
    encoding = {
        "batch_size": options.images_at_once(0, asked.device),
        "workers": options.threads(asked.workers),
    }
    with progress_bar("reading images", len(listing.items), quiet=asked.quiet) as progress:
        plan = plan_tuning(
            listing,
            backbone,
            source=printable(named(asked.sources)),
            split_name=asked.split,
            names_file=asked.classes,
            max_failure_rate=asked.max_failure_rate,
            progress=progress,
            remark=remarks(asked.quiet),
            **encoding,
        )
    if plan.split.failures:
        first = plan.split.failures[0]
        say(
            f"{len(plan.split.failures)} images failed, such as {printable(first.key)}: {first.reason}",
            quiet=asked.quiet,
        )
    total = settings.epochs * len(plan.training)
    kept = kept_epochs(place.checkpoint(KIND))
    with interruptible(kept), progress_bar(f"tuning {tune}", total, quiet=asked.quiet) as progress:
        done = tune_tower(
            place,
            plan,
            settings,
            pick_device(asked.device),
            c=asked.c,
            resume=asked.resume,
            progress=progress,
            remark=remarks(asked.quiet),
            **encoding,
        )
    show(done.trained, asked, tuned=tune)
    again = [
        "lsn",
        "extract",
        *map(str, asked.sources),
        "--model",
        done.model,
        "--pretrained",
        str(done.tower),
    ]
    again += [] if asked.split == "train" else ["--split", asked.split]
    again += [] if asked.classes is None else ["--classes", str(asked.classes)]
    again += [word for name, value in asked.columns.options().items() for word in (f"--{name}", value)]
    again += ["--work", str(asked.work)]
    method = f"{LOSSES[settings.loss].TESTED_BY}:linear"
    say(
        f"Wrote {done.tower} and {done.trained.path}. The tuned tower is a model of its own; next:",
        quiet=asked.quiet,
    )
    say(f"  {shlex.join(again)}", quiet=asked.quiet)
    say(
        f"  {shlex.join(['lsn', 'calibrate', '--method', method, '--work', str(asked.work)])}",
        quiet=asked.quiet,
    )


TUNING = "Tuning the image tower"


def train_head(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="With --tune: folders (one per class), lists, tars.", metavar="SOURCE"),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="linear: logistic regression on features; dualcoop: a pair of prompts.")
    ] = "linear",
    split: Annotated[
        str, typer.Option(help="Labelled split to learn from; with --tune, to be extracted afterwards.")
    ] = "train",
    c: Annotated[
        float | None,
        typer.Option("--c", help="Strength C of the linear probe. (the best of 1 to 1000 on held-out rows)"),
    ] = None,
    tune: Annotated[
        Literal["last-blocks", "all"] | None,
        typer.Option(help="Fine-tune the image tower, too: its last blocks, or all.", rich_help_panel=TUNING),
    ] = None,
    loss: Annotated[
        Literal["ce", "vos", "npos"] | None,
        typer.Option(help="Cross-entropy, or with outliers made from features. (ce)", rich_help_panel=TUNING),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images. (10)", rich_help_panel=TUNING)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step. (64)", rich_help_panel=TUNING)
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Learning rate of AdamW, at first. (3e-5)", rich_help_panel=TUNING),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--restart", help="Go on with an interrupted tuning.", rich_help_panel=TUNING),
    ] = True,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal steps.", rich_help_panel=TUNING)] = 0,
    classes: Annotated[
        Path | None,
        ONLY_READ,
        typer.Option(help="Class names, as lsn extract reads them.", rich_help_panel=TUNING),
    ] = None,
    path_column: images.PathColumn = "",
    label_column: images.LabelColumn = "",
    model: Annotated[
        str | None,
        typer.Option(
            envvar="LSN_MODEL",
            help="The model to tune. (ViT-B-16-quickgelu:openai)",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    workers: options.Workers = 0,
    max_failure_rate: options.MaxFailureRate = 0.05,
    timeout: options.Timeout = None,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a linear classifier on the workspace's features: the head of msp:linear, energy:linear and so on.

    It learns from the rows that prompts learn from. With --tune and images, the image tower is fine-tuned
    below it; that makes another model, written to tower.safetensors in a workspace without features.
    """
    options.set_timeouts(timeout, image_timeout)
    if kind not in KINDS:
        raise UsageError(f"--kind: expected one of {', '.join(KINDS)}, found '{kind}'.")
    KINDS[kind](
        HeadOptions(
            sources=sources or [],
            work=work,
            split=split,
            c=c,
            tune=tune,
            settings={"loss": loss, "epochs": epochs, "batch_size": batch_size, "rate": rate, "seed": seed},
            resume=resume,
            columns=Columns(path_column, label_column),
            classes=classes,
            model=model,
            pretrained=pretrained,
            device=device,
            workers=workers,
            max_failure_rate=max_failure_rate,
            format=format,
            output=output,
            quiet=quiet,
        )
    )


def _linear(asked: HeadOptions) -> None:
    if asked.tune is not None:
        return tuned(asked, asked.tune)
    given = [name for name, value in asked.settings.items() if value is not None and name != "seed"]
    given += asked.columns.options()
    if asked.sources or given:
        what = f"'{asked.sources[0]}'" if asked.sources else f"--{given[0].replace('_', '-')}"
        raise UsageError(
            f"A linear head is trained on stored features: {what} is for fine-tuning.",
            "Add --tune last-blocks or --tune all, or leave it out.",
        )
    from lsncli.device import pick_device
    from lsncli.training.linear_probe import train_linear

    place = Workspace(asked.work)
    with progress_bar("linear head", None, quiet=asked.quiet) as progress:
        done = train_linear(
            place, split_name=asked.split, c=asked.c, device=pick_device(asked.device), progress=progress
        )
    show(done, asked)
    say(f"Wrote {done.path}. Next: lsn calibrate --method msp:linear", quiet=asked.quiet)


KINDS: dict[str, Callable[[HeadOptions], None]] = {"linear": _linear, "dualcoop": dualcoop}
"""What can make a head, by the name that ``--kind`` gives it."""
