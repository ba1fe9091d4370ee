"""``lsn train-head``: a linear probe on stored features, DualCoOp's prompts, or a tuned image encoder."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lsncli.cli import options
from lsncli.cli.configured import ONLY_READ
from lsncli.cli.interrupts import interruptible
from lsncli.cli.options import list_sources
from lsncli.cli.train_prompts import how_to_resume, workspace_backbone
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
    Column("first_loss", "Loss first", digits=3, detail=True),
    Column("last_loss", "last", digits=3, detail=True),
    Column("held_out", "Held out", digits=0),
    Column("accuracy", "Accuracy %", digits=2, percent=True),
    Column("seconds", "Seconds", digits=1, detail=True),
]


TUNING = "Tuning the image tower"


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """The options of `lsn train-head`."""

    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="With --tune: folders (one per class), lists, tars.", metavar="SOURCE"),
    ] = None
    kind: Annotated[
        str, typer.Option(help="linear: logistic regression on features; dualcoop: a pair of prompts.")
    ] = "linear"
    split: Annotated[
        str, typer.Option(help="Labelled split to learn from; with --tune, to be extracted afterwards.")
    ] = "train"
    c: Annotated[
        float | None,
        typer.Option(
            "--c",
            help="Strength C of the linear probe.",
            show_default="the best of 1 to 1000 on held-out rows",
        ),
    ] = None
    tune: Annotated[
        Literal["last-blocks", "all"] | None,
        typer.Option(help="Fine-tune the image tower, too: its last blocks, or all.", rich_help_panel=TUNING),
    ] = None
    loss: Annotated[
        Literal["ce", "vos", "npos"] | None,
        typer.Option(
            help="Cross-entropy, or with outliers made from features.",
            show_default="ce",
            rich_help_panel=TUNING,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the images.", show_default="10", rich_help_panel=TUNING),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step.", show_default="64", rich_help_panel=TUNING)
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(help="Learning rate of AdamW, at first.", show_default="3e-5", rich_help_panel=TUNING),
    ] = None
    resume: Annotated[
        bool,
        typer.Option("--resume/--restart", help="Resume an interrupted tuning.", rich_help_panel=TUNING),
    ] = True
    seed: Annotated[int, typer.Option(help="Equal seeds give equal steps.", rich_help_panel=TUNING)] = 0
    classes: Annotated[
        Path | None,
        ONLY_READ,
        typer.Option(help="Class names, as lsn extract reads them.", rich_help_panel=TUNING),
    ] = None
    path_column: options.PathColumn = ""
    label_column: options.LabelColumn = ""
    model: Annotated[
        str | None,
        options.model_option("The model to tune.", "ViT-B-16-quickgelu:openai"),
    ] = None
    pretrained: options.Pretrained = ""
    device: options.Device = "auto"
    workers: options.Workers = 0
    max_failure_rate: options.MaxFailureRate = 0.05
    timeout: options.Timeout = None
    image_timeout: options.ImageTimeout = None
    work: options.WorkFolder = options.DEFAULT_WORK
    format: options.Format = "table"
    output: options.Output = None
    wide: options.Wide = False
    quiet: options.Quiet = False

    @property
    def paths(self) -> list[Path]:
        """The images named; none if left out."""
        return self.sources or []

    @property
    def columns(self) -> Columns:
        """The columns of lists and tables."""
        return Columns(self.path_column, self.label_column)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a training in epochs; None for those that were left out."""
        return {
            "loss": self.loss,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "rate": self.rate,
            "seed": self.seed,
        }


def print_head(result: "TrainedHead", arguments: HeadOptions, *, tuned: str | None = None) -> None:
    """Print one row about a trained head; ``tuned`` names the part of the image tower that was tuned."""
    history = result.head.history
    row = {
        "head": result.head.kind,
        "tuned": tuned,
        "classes": len(result.head.classes),
        "rows": result.rows,
        "c": result.head.settings.get("c"),
        "first_loss": history[0] if history else None,
        "last_loss": history[-1] if history else None,
        "held_out": result.held_out,
        "accuracy": result.accuracy,
        "seconds": result.seconds,
    }
    render([row], COLUMNS, arguments.format, arguments.output, wide=arguments.wide)


def train_dualcoop(arguments: HeadOptions) -> None:
    """Learn DualCoOp's prompts with a progress bar and print one row."""
    from lsncli.prompts.dualcoop import dual_settings
    from lsncli.prompts.learner import steps
    from lsncli.training import prompts as training

    refused: dict[str, object] = {
        "SOURCE": arguments.paths,
        "--tune": arguments.tune,
        "--c": arguments.c,
        "--loss": arguments.loss,
    }
    refused |= {f"--{name}": value for name, value in arguments.columns.options().items()}
    refused["--classes"] = arguments.classes
    for name, value in refused.items():
        if value:
            raise UsageError(
                f"--kind dualcoop learns prompts from stored features: {name} is not for it.",
                f"Leave {name} out.",
            )
    settings = dual_settings(**{name: value for name, value in arguments.settings.items() if name != "loss"})
    workspace = Workspace(arguments.work)
    plan = training.plan_dualcoop(workspace, arguments.split)
    with options.loading(arguments.quiet):
        backbone = workspace_backbone(workspace, arguments.pretrained, arguments.device)
    total = steps(len(plan.rows.train), settings)
    message = how_to_resume(workspace.checkpoint(training.KIND))
    with interruptible(message), progress_bar("DualCoOp", total, quiet=arguments.quiet) as progress:
        result = training.train_dualcoop(
            workspace,
            backbone,
            plan,
            settings,
            resume=arguments.resume,
            progress=progress,
            remark=lambda text: say(text, quiet=arguments.quiet),
        )
    print_head(result, arguments)
    say(f"Wrote {result.path}. Next: lsn calibrate --method dualcoop", quiet=arguments.quiet)


def fine_tune(arguments: HeadOptions, tune: str) -> None:
    """Fine-tune the image tower, write it with its linear head, and print one row."""
    from lsncli.backbones import DEFAULT_MODEL, load_backbone
    from lsncli.device import pick_device
    from lsncli.images.listing import named
    from lsncli.training.finetune import KIND, check_no_features, plan_tuning, tune_tower
    from lsncli.training.finetune_loop import tune_settings
    from lsncli.training.finetune_losses import LOSSES

    if not arguments.paths:
        raise UsageError(
            "--tune needs images.", "Write lsn train-head FOLDER --tune ...; one folder per class."
        )
    workspace, settings = Workspace(arguments.work), tune_settings(tune=tune, **arguments.settings)
    check_no_features(workspace)
    listing = list_sources(arguments.paths, arguments.columns, quiet=arguments.quiet)
    with options.loading(arguments.quiet):
        backbone = load_backbone(
            arguments.model or DEFAULT_MODEL, pretrained=arguments.pretrained, device=arguments.device
        )
    encoding = {
        "batch_size": options.images_at_once(0, arguments.device),
        "workers": options.threads(arguments.workers),
    }
    with progress_bar("reading images", len(listing.items), quiet=arguments.quiet) as progress:
        plan = plan_tuning(
            listing,
            backbone,
            source=printable(named(arguments.paths)),
            split_name=arguments.split,
            names_file=arguments.classes,
            max_failure_rate=arguments.max_failure_rate,
            progress=progress,
            remark=remarks(arguments.quiet),
            **encoding,
        )
    if plan.split.failures:
        first = plan.split.failures[0]
        say(
            f"{len(plan.split.failures)} images failed, such as {printable(first.key)}: {first.reason}",
            quiet=arguments.quiet,
        )
    total = settings.epochs * len(plan.training)
    message = how_to_resume(workspace.checkpoint(KIND))
    with interruptible(message), progress_bar(f"tuning {tune}", total, quiet=arguments.quiet) as progress:
        model = tune_tower(
            workspace,
            plan,
            settings,
            pick_device(arguments.device),
            c=arguments.c,
            resume=arguments.resume,
            progress=progress,
            remark=remarks(arguments.quiet),
            **encoding,
        )
    print_head(model.trained, arguments, tuned=tune)
    sources = map(str, arguments.paths)
    extract = ["lsn", "extract", *sources, "--model", model.model, "--pretrained", str(model.tower)]
    extract += [] if arguments.split == "train" else ["--split", arguments.split]
    extract += [] if arguments.classes is None else ["--classes", str(arguments.classes)]
    extract += [word for name, value in arguments.columns.options().items() for word in (f"--{name}", value)]
    extract += ["--work", str(arguments.work)]
    method = f"{LOSSES[settings.loss].TESTED_BY}:linear"
    calibrate = ["lsn", "calibrate", "--method", method, "--work", str(arguments.work)]
    say(
        f"Wrote {model.tower} and {model.trained.path}. The tuned tower is a model of its own; next:",
        quiet=arguments.quiet,
    )
    for words in (extract, calibrate):
        say(f"  {shlex.join(words)}", quiet=arguments.quiet)


@options.command(HeadOptions)
def train_head(arguments: HeadOptions) -> None:
    """Train a classifier on the workspace's features, or tune the image tower.

    Examples:
        lsn train-head                          # for msp:linear and energy:linear
        lsn train-head --kind dualcoop
        lsn train-head ./photos --tune last-blocks --work ./tuned

    A linear classifier is the head of msp:linear, energy:linear and so on.
    It learns from the rows that prompts learn from. With --tune and images, the image tower is fine-tuned
    below it; that makes another model, written to tower.safetensors in a workspace without features.
    """
    options.set_timeouts(arguments.timeout, arguments.image_timeout)
    if arguments.kind not in KINDS:
        raise UsageError(f"--kind: expected one of {', '.join(KINDS)}, found '{arguments.kind}'.")
    KINDS[arguments.kind](arguments)


def train_linear_head(arguments: HeadOptions) -> None:
    """Train a linear probe, with --tune on top of a fine-tuned image tower, and print one row."""
    if arguments.tune is not None:
        return fine_tune(arguments, arguments.tune)
    refused = [name for name, value in arguments.settings.items() if value is not None and name != "seed"]
    refused += arguments.columns.options()
    if arguments.paths or refused:
        first = f"'{arguments.paths[0]}'" if arguments.paths else f"--{refused[0].replace('_', '-')}"
        raise UsageError(
            f"A linear head is trained on stored features: {first} is for fine-tuning.",
            "Add --tune last-blocks or --tune all, or leave it out.",
        )
    from lsncli.device import pick_device
    from lsncli.training.linear_probe import train_linear

    workspace = Workspace(arguments.work)
    with progress_bar("linear head", None, quiet=arguments.quiet) as progress:
        result = train_linear(
            workspace,
            split_name=arguments.split,
            c=arguments.c,
            device=pick_device(arguments.device),
            progress=progress,
        )
    print_head(result, arguments)
    say(f"Wrote {result.path}. Next: lsn calibrate --method msp:linear", quiet=arguments.quiet)


KINDS: dict[str, Callable[[HeadOptions], None]] = {"linear": train_linear_head, "dualcoop": train_dualcoop}
"""The training of each ``--kind`` of head."""
