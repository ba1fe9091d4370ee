"""``lsn explain``: where positive and negative prompts look in an image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsncli.app.workspace import Workspace
from lsncli.cli import options
from lsncli.cli.training import workspace_backbone
from lsncli.console import say
from lsncli.report.render import Column, render

if TYPE_CHECKING:
    from lsncli.app.explain import Explanation, Look
    from lsncli.types import Head

COLUMNS = [
    Column("class", "Class"),
    Column("prompt", "Prompt"),
    Column("cosine", "Cosine", digits=4),
    Column("peak_x", "Peak x", digits=2),
    Column("peak_y", "Peak y", digits=2),
    Column("overlap", "Shared %", digits=0, percent=True),
    Column("file", "File", wide=True),
]


def explain(
    image: Annotated[Path, typer.Argument(help="The image to look into.", metavar="IMAGE")],
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Also this class, repeatable; the predicted one is always shown."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="Prompts: positive (learned), hand or ensemble. Learned ones if there are any."),
    ] = None,
    train: Annotated[str, typer.Option(help="Split whose classes hand-written prompts name.")] = "train",
    to: Annotated[Path, typer.Option(help="Folder for the pictures and the numbers (json).")] = Path("."),
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Show where the predicted class's positive and negative prompts look (the paper's Figure 2).

    Writes NAME.explain.png, a sheet of all maps, one picture a map, and NAME.explain.json. Attention weighted
    by gradients for ViTs, Grad-CAM for convolutional models. Brighter = more of what speaks for the prompt
    against the other classes' prompts. Peaks are fractions from the top left of what the model sees; "shared"
    is the weight that a negative prompt's map has in common with the positive one's.
    """
    from lsncli.app import explain as use
    from lsncli.report.looks import write_looks

    place = Workspace(work)
    picture = use.read_image(image)
    backbone = workspace_backbone(place, pretrained, device)
    chosen = _head(place, head, train, lambda: backbone)
    found = use.explain(backbone, chosen, picture, classes or ())
    files = write_looks(to, image.stem, found)
    rows = [
        {
            "class": look.name,
            "prompt": look.prompt,
            "cosine": look.cosine,
            "peak_x": look.peak[0] if look.peak else None,
            "peak_y": look.peak[1] if look.peak else None,
            "overlap": look.overlap(_positive(found, look)) if look.negative else None,
            "file": str(file),
        }
        for look, file in zip(found.looks, files, strict=True)
    ]
    render(rows, COLUMNS, format, output)
    if chosen.negative is None:
        say("No negative prompts: learn them with `lsn train-neg`.", quiet=quiet)
    say(f"Predicted: {found.predicted}. All maps: {to / (image.stem + '.explain.png')}", quiet=quiet)


def _head(place: Workspace, name: str | None, train: str, model: Any) -> "Head":
    """The head asked for, with negative prompts where the workspace has them."""
    from lsncli.app.heads import TEXT_HEADS, make_head
    from lsncli.errors import LsnError, UsageError
    from lsncli.store.reader import read_split

    name = name or ("positive" if place.positive.is_file() else "hand")
    if name not in TEXT_HEADS:
        raise UsageError(f"--head: expected one of {', '.join(TEXT_HEADS)}, found '{name}'.")
    classes = () if name == "positive" else read_split(place.features, train).classes
    if not classes and name != "positive":
        raise LsnError(f"Split '{train}' has no classes.", "Name a labelled split with --train.")
    return make_head(place, name, classes, negatives=place.negative.is_file(), model=model)


def _positive(found: "Explanation", look: "Look") -> "Look":
    return next(one for one in found.looks if one.name == look.name and not one.negative)
