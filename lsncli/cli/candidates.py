"""``lsn candidates``: candidate labels of each image, for ZOC."""

from pathlib import Path
from typing import Annotated

import typer

from lsncli.cli import options
from lsncli.cli.configured import ONLY_READ
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.train_prompts import workspace_backbone
from lsncli.console import progress_bar, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import Column, render

COLUMNS = [
    Column("split", "Split"),
    Column("images", "Images", digits=0),
    Column("words", "Words", digits=0),
    Column("words_per_image", "Words/image", digits=1),
    Column("resumed", "Resumed", digits=0),
]


def candidates(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders, lists, tars that the split was extracted from.", metavar="SOURCE"),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the store whose images these are.")] = "test",
    words: Annotated[
        Path | None,
        ONLY_READ,
        typer.Option(
            "--from",
            help="Your own words: a .csv of 'key,word;word;...', or JSON lines.",
            metavar="FILE",
        ),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help="Choose from these words by the stored features: a file, one word a line, or a class list "
            "such as imagenet1k.",
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            help="A CoCa: ARCHITECTURE:TAG, ARCHITECTURE:FILE, hf-hub:ORG/NAME or local-dir:PATH.",
            show_default="coca_ViT-B-32, finetuned on COCO",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            help="Likeliest tokens of each decoding step, or nearest words, to keep.",
            show_default="ZOC's 35, or all words of a --vocabulary that has fewer",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Decoding steps at most, 9 in ZOC.", rich_help_panel=ADVANCED)
    ] = 9,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    timeout: options.Timeout = None,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Propose candidate labels for each image of a split, for the score zoc.

    Examples:
        lsn candidates ./photos-test            # by a captioning model
        lsn candidates --vocabulary imagenet1k  # the words nearest to the features
        lsn candidates --from words.csv         # your own

    `lsn eval --method zoc` scores images by them. ZOC trains a BERT decoder on CLIP's features; here CoCa's
    own decoder is read in the same way: greedily, keeping the likeliest tokens of each step that are words.
    With --vocabulary no image is read: candidates are the words of a list that are nearest to the features.
    An interrupted run resumes. Keys of imported words are the paths that `lsn extract` saw.
    """
    options.set_timeouts(timeout, image_timeout)
    if sum([bool(sources), words is not None, vocabulary is not None]) != 1:
        raise UsageError(
            "Give either images, --from FILE or --vocabulary LIST.", "Such as `lsn candidates ./photos`."
        )
    from lsncli.backbones import with_text
    from lsncli.backbones.captioner import DEFAULT_CAPTIONER, load_captioner
    from lsncli.methods.candidates import (
        TOP,
        WordFeatures,
        import_candidates,
        propose,
        read_candidates,
        read_vocabulary,
    )
    from lsncli.methods.captioning import caption_split
    from lsncli.methods.inputs import images_of
    from lsncli.store.reader import read_split

    workspace = Workspace(work)
    stored = read_split(workspace.features, split)
    resumed = 0
    if words is not None:
        import_candidates(workspace, stored, words)
    elif vocabulary is not None:
        vocabulary_words = read_vocabulary(vocabulary)
        count = min(TOP, len(vocabulary_words)) if top is None else top
        with options.loading(quiet):
            features = WordFeatures(with_text(workspace_backbone(workspace, "", device)).text_tower())
        with progress_bar(f"words for {split}", len(stored.keys), quiet=quiet) as progress:
            propose(workspace, stored, vocabulary_words, features, count, progress)
    else:
        items = images_of(stored, sources or ())
        with options.loading(quiet):
            model = load_captioner(
                captioner or DEFAULT_CAPTIONER, top=TOP if top is None else top, steps=steps, device=device
            )
        with progress_bar(f"captioning {split}", len(items), quiet=quiet) as progress:
            resumed = caption_split(
                workspace,
                split,
                items,
                model,
                batch_size=options.images_at_once(batch_size, device),
                workers=options.threads(workers),
                progress=progress,
            )
    labels = read_candidates(workspace, stored)
    row = {
        "split": split,
        "images": len(labels),
        "words": len(labels.words),
        "words_per_image": len(labels.indices) / max(1, len(labels)),
        "resumed": resumed,
    }
    render([row], COLUMNS, format, output)
    say(f"{workspace.candidates(split)}: now `lsn eval --method zoc`.", quiet=quiet)
