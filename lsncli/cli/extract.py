"""``lsn extract``: images to features in the store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.app.workspace import Workspace
from lsncli.cli import options
from lsncli.console import printable, progress, say
from lsncli.report.render import Column, render

if TYPE_CHECKING:
    from lsncli.backbones import Backbone

COLUMNS = [
    Column("split", "Split"),
    Column("rows", "Rows", digits=0),
    Column("classes", "Classes", digits=0),
    Column("failures", "Failures", digits=0),
    Column("resumed", "Found done", digits=0),
    Column("images_per_second", "Images/s", digits=1),
    Column("wait_seconds", "Decoding s", digits=1),
    Column("encode_seconds", "Encoding s", digits=1),
]


def extract(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folders (one per class, or flat), patterns, lists, tars.", metavar="SOURCE"),
    ],
    split: Annotated[str, typer.Option(help="Name of the split to write.")] = "train",
    classes: Annotated[
        Path | None,
        typer.Option(help="Class names: 'folder<TAB>name' lines, names in order, or JSON."),
    ] = None,
    shots: Annotated[int | None, typer.Option(help="At most so many images of each class.")] = None,
    seed: Annotated[int, typer.Option(help="Which images --shots takes.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again instead of resuming.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read only the recorded failures again.")
    ] = False,
    max_failure_rate: options.MaxFailureRate = 0.05,
    follow_links: options.FollowLinks = False,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="LSN_MODEL",
            help="mini, ARCHITECTURE:TAG, hf-hub:ORG/NAME, local-dir:PATH or blip:PATH. "
            "Default: the store's, else ViT-B-16-quickgelu:openai.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    pretrained: options.Pretrained = "",
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16 or bf16 (image tower). Default: the store's, else fp32.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    work: options.WorkFolder = options.DEFAULT_WORK,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Encode images into a split of the workspace's features.h5; resumes by itself after any interruption.

    A folder with one folder per class is labelled by it, a flat one is not. Unreadable images are recorded.
    """
    from lsncli.app import extract as use
    from lsncli.images.sources import list_images, short_classes, take_shots

    place = Workspace(work)
    listing = list_images(sources, follow_links=follow_links)
    if shots is not None:
        short = short_classes(listing, shots)
        listing = take_shots(listing, shots, seed)
        if short:
            name = printable(short[0])
            say(f"{len(short)} classes have fewer than {shots} images, such as '{name}'.", quiet=quiet)
    backbone = model_for(place, model, pretrained, precision, device)
    with progress(f"extracting {split}", len(listing.items), quiet=quiet) as tick:
        done = use.extract(
            listing,
            store=place.features,
            split=split,
            backbone=backbone,
            batch_size=options.images_at_once(batch_size, device),
            workers=options.threads(workers),
            names_file=classes,
            overwrite=overwrite,
            retry_failed=retry_failed,
            max_failure_rate=max_failure_rate,
            source=", ".join(str(path) for path in sources),
            tick=tick,
        )
    row = {
        "split": done.split,
        "rows": done.rows,
        "classes": len(listing.folders),
        "failures": len(done.failures),
        "resumed": done.resumed,
        "images_per_second": done.images_per_second,
        "wait_seconds": done.wait_seconds,
        "encode_seconds": done.encode_seconds,
    }
    render([row], COLUMNS, format, output)
    say(f"{place.features}: features of {backbone.fingerprint}", quiet=quiet)
    if done.already:
        say(f"Split '{split}' was complete; --overwrite extracts it again.", quiet=quiet)
    if done.ignored:
        say(f"Passed over, without an image name: {done.ignored}.", quiet=quiet)
    if done.failures:
        say(f"{len(done.failures)} images failed: lsn store info --failures --work {work}", quiet=quiet)


def model_for(
    place: Workspace, model: str | None, pretrained: str, precision: str | None, device: str
) -> "Backbone":
    """The model asked for; whatever was not asked for is the store's, else the default.

    Another precision than the store's is another model: it is loaded, and the store then refuses it.
    """
    from lsncli.backbones import DEFAULT_MODEL, load_again, load_backbone
    from lsncli.store.reader import read_fingerprint

    stored = read_fingerprint(place.features) if place.features.is_file() else None
    if model is None and stored is not None:
        if precision in (None, stored.precision):
            return load_again(stored, pretrained=pretrained, device=device)
        model, pretrained = stored.model, pretrained or stored.pretrained
    precision = precision or (stored.precision if stored is not None else "") or "fp32"
    return load_backbone(model or DEFAULT_MODEL, pretrained=pretrained, device=device, precision=precision)
