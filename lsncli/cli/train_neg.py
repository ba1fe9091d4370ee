"""``lsn train-neg``: learn negative prompts, the paper's own part."""

from typing import Annotated

import typer

from lsncli.app.workspace import Workspace
from lsncli.cli import options
from lsncli.cli.training import Epochs, Mode, Seed, TrainBatch, show, workspace_backbone
from lsncli.console import progress


def train_neg(
    mode: Mode = "paper",
    epochs: Epochs = None,
    batch_size: TrainBatch = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate. (paper 0.001, official 0.002)")] = None,
    context_length: Annotated[int | None, typer.Option(help="Learned vectors. (16)")] = None,
    sets: Annotated[int | None, typer.Option(help="Sets of negative prompts, K. (3)")] = None,
    weight: Annotated[
        float | None, typer.Option(help="Lambda, weight of the orthogonality term. (paper 0.1, official 1)")
    ] = None,
    seed: Seed = 0,
    target_tpr: options.TargetTpr = 0.95,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Learn K sets of class-specific negative contexts (Eq. 5-8), then calibrate an LSN detector.

    Uses the rows that `lsn train-pos` learned from; writes negative.safetensors and detector.safetensors.
    """
    from lsncli.app import train
    from lsncli.prompts.negative import negative_steps
    from lsncli.prompts.settings import NEGATIVE, choose

    place = Workspace(work)
    settings = choose(
        NEGATIVE,
        mode,
        epochs=epochs,
        batch_size=batch_size,
        rate=rate,
        length=context_length,
        sets=sets,
        weight=weight,
        seed=seed,
    )
    plan = train.plan_negative(place)
    backbone = workspace_backbone(place, pretrained, device)
    with progress("negative prompts", negative_steps(len(plan.rows.train), settings), quiet=quiet) as tick:
        training = train.train_negative(place, backbone, plan, settings, target_tpr=target_tpr, tick=tick)
    show(training, format, output, quiet, following="lsn score ./images")
