"""``lsn train-no``: train CLIPN's "no" text encoder, and make its head for the workspace's classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lsncli.cli import options, train_prompts
from lsncli.cli.configured import ONLY_READ
from lsncli.cli.interrupts import interruptible
from lsncli.console import progress_bar, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import Column, render

if TYPE_CHECKING:
    from lsncli.artefacts.heads import NoTower
    from lsncli.backbones import Backbone
    from lsncli.prompts.clipn import NoSettings

COLUMNS = [
    Column("head", "Head"),
    Column("classes", "Classes", digits=0),
    Column("templates", "Templates"),
    Column("pairs", "Pairs", digits=0),
    Column("failures", "Failures", digits=0),
    Column("epochs", "Epochs", digits=0),
    Column("first_loss", "Loss first", digits=3, detail=True),
    Column("last_loss", "last", digits=3, detail=True),
]


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of `lsn train-no`."""

    pairs: Annotated[
        list[Path] | None,
        typer.Argument(help="A .csv with the columns image,caption, or webdataset tars.", metavar="PAIRS"),
    ] = None
    tower: Annotated[
        Path | None,
        ONLY_READ,
        typer.Option(help="A trained no-tower.safetensors: only make the head."),
    ] = None
    yes: Annotated[
        Path | None,
        ONLY_READ,
        typer.Option(help="Text features (C, D) computed elsewhere (.npy, .npz, ...), with --no."),
    ] = None
    no: Annotated[
        Path | None, ONLY_READ, typer.Option("--no", help="Their 'no' features, (C, D) or as .npy (K, C, D).")
    ] = None
    split: Annotated[str, typer.Option(help="Split whose classes the head is for.")] = "train"
    templates: Annotated[
        Literal["ensemble", "hand"],
        typer.Option(help="Prompts of each class: OpenAI's 80 templates, or 'a photo of a ...'."),
    ] = "ensemble"
    epochs: Annotated[
        int, typer.Option(help="Passes over the pairs.", rich_help_panel=train_prompts.SCHEDULE)
    ] = 10
    batch_size: Annotated[
        int, typer.Option(min=2, help="Pairs a step.", rich_help_panel=train_prompts.SCHEDULE)
    ] = 2048
    rate: Annotated[
        float, typer.Option(help="Learning rate of AdamW.", rich_help_panel=train_prompts.SCHEDULE)
    ] = 3e-4
    resume: train_prompts.Resume = True
    seed: train_prompts.Seed = 0
    max_failure_rate: options.MaxFailureRate = 0.05
    work: options.WorkFolder = options.DEFAULT_WORK
    pretrained: options.Pretrained = ""
    device: options.Device = "auto"
    chunk: Annotated[
        int,
        typer.Option(
            min=1,
            help="Captions in memory at a time; more are cut into exact pieces.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = 64
    workers: options.Workers = 0
    format: options.Format = "table"
    output: options.Output = None
    wide: options.Wide = False
    quiet: options.Quiet = False


@options.command(NoOptions)
def train_no(arguments: NoOptions) -> None:
    """Learn a "no" text encoder from image-caption pairs (CLIPN), and its head.

    Examples:
        lsn train-no pairs.csv
        lsn train-no --tower no-tower.safetensors

    Image encoder and text encoder stay as they are; writes no-tower.safetensors and clipn.head.safetensors.
    With --tower, or --yes and --no, only the head. An interrupted training resumes when the same command is
    run again.
    """
    from lsncli.artefacts.heads import load_no_tower
    from lsncli.interchange.tables import read_table
    from lsncli.methods.holdout import labelled_split
    from lsncli.prompts.clipn import NoSettings
    from lsncli.training import clipn

    yes, no, tower, quiet = arguments.yes, arguments.no, arguments.tower, arguments.quiet
    sources = (bool(arguments.pairs), tower is not None, yes is not None and no is not None)
    if sum(sources) != 1 or (yes is None) != (no is None):
        raise UsageError(
            "Name image-caption pairs, or --tower FILE, or --yes FILE and --no FILE: one of the three.",
            "lsn train-no pairs.csv",
        )
    workspace, templates = Workspace(arguments.work), arguments.templates
    classes = labelled_split(workspace, arguments.split).classes
    settings = NoSettings(
        epochs=arguments.epochs, batch_size=arguments.batch_size, rate=arguments.rate, seed=arguments.seed
    )
    encoder: NoTower | None = None
    if yes is not None and no is not None:
        head = clipn.import_head(workspace, read_table(yes), read_table(no), classes)
    else:
        with options.loading(quiet):
            backbone = train_prompts.workspace_backbone(workspace, arguments.pretrained, arguments.device)
        encoder = _train(workspace, backbone, settings, arguments) if tower is None else load_no_tower(tower)
        with progress_bar("class texts", clipn.count_texts(templates, classes), quiet=quiet) as progress:
            head = clipn.write_tower_head(
                workspace, backbone, encoder, classes, templates=templates, progress=progress
            )
    row = {
        "head": head.kind,
        "classes": len(head.classes),
        "templates": head.settings["templates"],
        "pairs": encoder.pairs if encoder else None,
        "failures": len(encoder.failures) if encoder else None,
        "epochs": len(head.history) or None,
        "first_loss": head.history[0] if head.history else None,
        "last_loss": head.history[-1] if head.history else None,
    }
    render([row], COLUMNS, arguments.format, arguments.output, wide=arguments.wide)
    if arguments.pairs:
        say(f"Wrote {workspace.no_tower}.", quiet=quiet)
    say(f"Wrote {workspace.head(head.kind)}. Next: lsn eval --method clipn", quiet=quiet)


def _train(
    workspace: Workspace, backbone: "Backbone", settings: "NoSettings", arguments: NoOptions
) -> "NoTower":
    """Encode the pairs, then train, with a progress bar for each."""
    from lsncli.backbones import with_text
    from lsncli.extraction.encoder import Encoder
    from lsncli.prompts.clipn import steps
    from lsncli.training import clipn
    from lsncli.training.image_captions import read_pairs

    with_text(backbone)  # before the images are encoded
    quiet, batch_size = arguments.quiet, options.images_at_once(0, arguments.device)
    pairs = read_pairs(arguments.pairs or [])
    with progress_bar("images", len(pairs.items), quiet=quiet) as progress:
        encoder = Encoder(backbone, batch_size, options.threads(arguments.workers), progress)
        encoded = clipn.encode_pairs(pairs, encoder, arguments.max_failure_rate)
    for failure in encoded.failures[:3]:
        say(f"Left out: {failure.key}: {failure.reason}.", quiet=quiet, style="yellow")
    if len(encoded.failures) > 3:
        say(f"Left out in all: {len(encoded.failures)} pairs.", quiet=quiet, style="yellow")
    with progress_bar("captions", len(encoded.captions), quiet=quiet) as progress:
        yes = clipn.encode_captions(backbone, encoded.captions, progress)
    total = steps(len(encoded.captions), settings)
    with (
        interruptible(train_prompts.how_to_resume(workspace.checkpoint(clipn.KIND))),
        progress_bar("'no' encoder", total, quiet=quiet) as progress,
    ):
        return clipn.train_no_encoder(
            workspace,
            backbone,
            encoded,
            yes,
            settings,
            chunk=arguments.chunk,
            resume=arguments.resume,
            progress=progress,
            remark=lambda text: say(text, quiet=quiet),
        )
