"""``lsn models``: what ``--model`` can name."""

from typing import Annotated

import typer

from lsncli.cli import options
from lsncli.console import say
from lsncli.report.formats import FORMATS, Column, render

SIZES = [Column("dim", "D", digits=0), Column("image_size", "Pixels", digits=0)]
TEXT_PATH = Column("text_path", "Text path", wide=True)
ARCHITECTURES = [
    Column("name", "Model"),
    *SIZES,
    Column("text", "Text"),
    Column("weights", "Weights", digits=0),
    TEXT_PATH,
]
KIND = [Column("kind", "Kind"), Column("about", "About")]
"""For programs; people read it below the table."""
WEIGHTS = [Column("model", "--model"), *SIZES, TEXT_PATH]


def models(
    pattern: Annotated[str, typer.Argument(help="Only names that contain this, such as vit-b.")] = "",
    weights: Annotated[
        bool, typer.Option("--weights", help="A row for each set of weights, as --model takes it.")
    ] = False,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """List the models, the paper's first, and how prompts are computed for each: fast or plain.

    Both ways are exact. The fast one shares and skips work where the text encoder is CLIP's own.
    """
    from lsncli.backbones import BACKBONES
    from lsncli.backbones.catalogue import architectures

    rows, found = [], architectures(pattern)
    for kind, listed in found.items():
        for one in listed:
            row = vars(one) | {"text_path": one.text_path, "weights": len(one.models)}
            row |= {"kind": kind, "about": BACKBONES[kind].about}
            rows += [row | {"model": model} for model in one.models] if weights else [row]
    columns = WEIGHTS if weights else ARCHITECTURES
    render(rows, columns if FORMATS[format].people else [*columns, *KIND], format, output)
    for kind in found:
        say(f"{kind}: {BACKBONES[kind].about}", quiet=quiet)
