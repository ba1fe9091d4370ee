"""``lsn train-pos``: learn positive prompts (CoOp) from the store."""

from typing import Annotated

import typer

from lsncli.app.workspace import Workspace
from lsncli.cli import options
from lsncli.cli.training import Epochs, Mode, Seed, TrainBatch, show, workspace_backbone
from lsncli.console import progress


def train_pos(
    split: Annotated[str, typer.Option(help="Labelled split to learn from.")] = "train",
    mode: Mode = "paper",
    epochs: Epochs = None,
    batch_size: TrainBatch = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate. (paper 0.002, official 0.001)")] = None,
    context_length: Annotated[int | None, typer.Option(help="Learned vectors. (16)")] = None,
    shots: Annotated[int | None, typer.Option(help="Rows of each class to learn from. (all)")] = None,
    held_out: Annotated[
        float, typer.Option(help="Fraction of each class kept from learning, to set the threshold.")
    ] = 0.2,
    seed: Seed = 0,
    target_tpr: options.TargetTpr = 0.95,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Learn one context shared by all classes (CoOp, Eq. 2-4), then calibrate a CoOp + MCM detector.

    Reads the split's features from the workspace; writes positive.safetensors and detector.safetensors.
    """
    from lsncli.app import train
    from lsncli.prompts.positive import positive_steps
    from lsncli.prompts.settings import POSITIVE, choose

    place = Workspace(work)
    settings = choose(
        POSITIVE, mode, epochs=epochs, batch_size=batch_size, rate=rate, length=context_length, seed=seed
    )
    plan = train.plan_positive(place, split_name=split, fraction=held_out, shots=shots, seed=seed)
    backbone = workspace_backbone(place, pretrained, device)
    steps = positive_steps(len(plan.rows.train), settings)
    with progress("positive prompts", steps, quiet=quiet) as tick:
        training = train.train_positive(place, backbone, plan, settings, target_tpr=target_tpr, tick=tick)
    show(training, format, output, quiet, following="lsn train-neg")
