"""``lsn models``: what ``--model`` can name."""

from typing import Annotated

import typer

from lsncli.cli import options
from lsncli.report.render import Column, render

SIZES = [Column("dim", "D", digits=0), Column("image_size", "Pixels", digits=0)]
TEXT_PATH = Column("text_path", "Text path", wide=True)
ARCHITECTURES = [
    Column("name", "Model"),
    *SIZES,
    Column("text", "Text"),
    Column("weights", "Weights", digits=0),
    TEXT_PATH,
]
WEIGHTS = [Column("model", "--model"), *SIZES, TEXT_PATH]


def models(
    pattern: Annotated[str, typer.Argument(help="Only names that contain this, such as vit-b.")] = "",
    weights: Annotated[
        bool, typer.Option("--weights", help="A row for each set of weights, as --model takes it.")
    ] = False,
    format: options.Format = "table",
    output: options.Output = None,
) -> None:
    """List the models, the paper's first, and how prompts are computed for each: fast or plain.

    Both ways are exact. The fast one shares and skips work where the text encoder is CLIP's own.
    """
    from lsncli.backbones.catalogue import architectures

    rows = []
    for found in architectures(pattern):
        row = vars(found) | {"text_path": found.text_path, "weights": len(found.models)}
        rows += [row | {"model": model} for model in found.models] if weights else [row]
    render(rows, WEIGHTS if weights else ARCHITECTURES, format, output)
