"""``lsn train-pos``: learn positive prompts (CoOp, CoCoOp) from the store."""

from typing import Annotated

import typer

from lsncli.cli import options, training


def train_pos(
    split: Annotated[str, typer.Option(help="Labelled split to learn from.")] = "train",
    mode: training.Mode = "paper",
    learner: training.Learner = "coop",
    shots: Annotated[int | None, typer.Option(help="Rows of each class to learn from. (all)")] = None,
    val_fraction: Annotated[
        float, typer.Option(help="Fraction of each class kept from learning, to set the threshold.")
    ] = 0.2,
    sets: training.Sets = None,
    specific: training.Specific = None,
    names: training.Names = None,
    position: training.Position = None,
    context_length: training.ContextLength = None,
    init: training.Init = None,
    tau: training.Tau = None,
    weight: training.Weight = None,
    orthogonality: training.Orthogonality = None,
    epochs: training.Epochs = None,
    batch_size: training.TrainBatch = None,
    rate: training.Rate = None,
    schedule: training.Schedule = None,
    warmup: training.Warmup = None,
    resume: training.Resume = True,
    seed: training.Seed = 0,
    target_tpr: options.TargetTpr = 0.95,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    precision: training.Precision = None,
    kernel: training.Kernel = "auto",
    memory: training.Memory = 4.0,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Learn one context shared by all classes (Eq. 2-4), then calibrate a CoOp + MCM detector.

    Reads the split's features from the workspace; writes positive.safetensors and detector.safetensors.
    An interrupted training goes on when the same command is typed again.
    """
    training.learn("positive", locals(), following="lsn train-neg")
