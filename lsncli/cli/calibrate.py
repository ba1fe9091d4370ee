"""``lsn calibrate``: a detector of any method, at any true-positive rate."""

from functools import partial
from typing import Annotated

import typer

from lsncli.app.workspace import Workspace
from lsncli.cli import options
from lsncli.cli.training import describe_threshold, workspace_backbone
from lsncli.console import progress
from lsncli.report.render import Column, render


def calibrate(
    method: Annotated[
        str, typer.Option(help="SCORE[:HEAD][,SETTING=VALUE...], such as mcm, mcm:positive or knn,k=10.")
    ] = "lsn",
    split: Annotated[str, typer.Option(help="Labelled ID split whose held-out rows set gamma.")] = "train",
    target_tpr: options.TargetTpr = 0.95,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Set the threshold gamma of a method on held-out ID rows; writes detector.safetensors.

    With hand-written prompts (mcm, knn, ...) nothing needs to be learned first.
    """
    from lsncli.app.calibrate import make_detector
    from lsncli.app.methods import parse_method
    from lsncli.device import pick_device

    place, chosen = Workspace(work), parse_method(method)
    with progress("held-out images", None, quiet=quiet) as tick:
        detector = make_detector(
            place,
            chosen,
            split_name=split,
            target_tpr=target_tpr,
            device=str(pick_device(device)),
            model=partial(workspace_backbone, place, pretrained, device),
            tick=tick,
        )
    threshold = detector.threshold
    row = {
        "method": detector.label,
        "head": detector.head_name,
        "gamma": threshold.gamma,
        "target_tpr": threshold.target_tpr,
        "held_out": threshold.n,
        "tpr_low": threshold.tpr_low,
        "tpr_high": threshold.tpr_high,
    }
    columns = [
        Column("method", "Method"),
        Column("head", "Head"),
        Column("gamma", "Gamma", digits=6),
        Column("target_tpr", "Target TPR %", digits=1, percent=True),
        Column("held_out", "Held out", digits=0),
        Column("tpr_low", "TPR from %", digits=1, percent=True),
        Column("tpr_high", "to %", digits=1, percent=True),
    ]
    render([row], columns, format, output)
    describe_threshold(detector, quiet)
