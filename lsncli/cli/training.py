"""What the two training commands share: their options, the model, and how a result is shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lsncli.cli.options import FormatName
from lsncli.console import say
from lsncli.report.render import Column, render

if TYPE_CHECKING:
    from lsncli.app.train import Training
    from lsncli.app.workspace import Workspace
    from lsncli.artefacts.detector import Detector
    from lsncli.backbones import Backbone

Mode = Annotated[
    Literal["paper", "official"], typer.Option(help="The paper's equations, or what the authors' code does.")
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the rows. (positive 50, negative 100)")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal prompts.")]
TrainBatch = Annotated[int | None, typer.Option("--batch-size", help="Rows a step. (8)")]


def workspace_backbone(place: "Workspace", pretrained: str, device: str) -> "Backbone":
    """The model that made the workspace's features."""
    from lsncli.backbones import load_again
    from lsncli.store.reader import read_fingerprint

    return load_again(read_fingerprint(place.features), pretrained=pretrained, device=device)


def show(
    training: "Training", format: FormatName, output: Path | None, quiet: bool, *, following: str
) -> None:
    """One row about what was learned, the remarks on its threshold, and the command to type next."""
    prompts, threshold = training.prompts, training.detector.threshold
    row = {
        "prompts": prompts.kind,
        "mode": prompts.settings["mode"],
        "classes": len(prompts.classes),
        "rows": training.rows,
        "epochs": len(prompts.history),
        "first_loss": prompts.history[0],
        "last_loss": prompts.history[-1],
        "gamma": threshold.gamma,
        "held_out": threshold.n,
    }
    columns = [
        Column("prompts", "Prompts"),
        Column("mode", "Mode"),
        Column("classes", "Classes", digits=0),
        Column("rows", "Rows", digits=0),
        Column("epochs", "Epochs", digits=0),
        Column("first_loss", "First loss", digits=3),
        Column("last_loss", "Last loss", digits=3),
        Column("gamma", "Gamma", digits=6),
        Column("held_out", "Held out", digits=0),
    ]
    render([row], columns, format, output)
    describe_threshold(training.detector, quiet)
    say(f"Wrote {training.path} and the detector. Next: {following}", quiet=quiet)


def describe_threshold(detector: "Detector", quiet: bool) -> None:
    """Say what gamma promises, and warn if too few held-out images stand behind it."""
    threshold = detector.threshold
    say(
        f"Detector {detector.method}: an image is ID if its score is at least gamma = {threshold.gamma:.6f}. "
        f"{threshold.n} held-out ID images set it for a TPR of {threshold.target_tpr:.0%}; on new ID images "
        f"expect {threshold.tpr_low:.1%} to {threshold.tpr_high:.1%} (95 % interval).",
        quiet=quiet,
    )
    if threshold.coarse:
        say(
            f"Warning: {threshold.n} held-out images cannot resolve a TPR of {threshold.target_tpr:.0%}; "
            "gamma is the lowest score among them. Use more images or a larger --held-out.",
            quiet=quiet,
            style="yellow",
        )
