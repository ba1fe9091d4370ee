"""``lsn train-head``: a classifier of your classes, on stored features or with the image tower tuned."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from lsncli.cli import options, train_dual
from lsncli.cli import sources as images
from lsncli.cli.configured import ONLY_READ
from lsncli.cli.heads import Asked, show
from lsncli.cli.tuning import tuned
from lsncli.console import progress, say
from lsncli.errors import UsageError
from lsncli.images.columns import Columns
from lsncli.methods.workspace import Workspace

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
        Asked(
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


def _linear(asked: Asked) -> None:
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
    with progress("linear head", None, quiet=asked.quiet) as tick:
        done = train_linear(
            place, split_name=asked.split, c=asked.c, device=pick_device(asked.device), tick=tick
        )
    show(done, asked)
    say(f"Wrote {done.path}. Next: lsn calibrate --method msp:linear", quiet=asked.quiet)


KINDS: dict[str, Callable[[Asked], None]] = {"linear": _linear, "dualcoop": train_dual.dualcoop}
"""What can make a head, by the name that ``--kind`` gives it."""
