"""``lsn store duplicates``: images that are stored twice, in one split or in two."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.console import announcing, duration, printable, progress_bar, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import Column, render

if TYPE_CHECKING:
    from lsncli.evaluation.duplicate_groups import Group
    from lsncli.store.format import Split

COLUMNS = [
    Column("group", "Group", digits=0, identifies=True),
    Column("split", "Split", identifies=True),
    Column("key", "Image", wide=True, identifies=True),
    Column("class", "Class", wide=True),
    Column("cosine", "Cosine", digits=4),
    Column("exact", "Same features", flag=True, detail=True),
    Column("leave_out", "Advice", words={True: "leave out", False: "keep"}),
    Column("conflict", "Classes differ", flag=True, detail=True),
]
DEFAULT_TRAIN = "train"


def duplicates(
    split: Annotated[
        str | None,
        typer.Option(help="Split to compare every other one with.", show_default="train, if there is one"),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Other splits, repeatable.", show_default="all of the store"),
    ] = None,
    cosine: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Smallest cosine of near copies.",
            show_default="a fifth of the mean distance of two images, a third of that of the next image",
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Find only images with identical features.")] = False,
    work: options.WorkFolder = options.DEFAULT_WORK,
    format: options.Format = "table",
    output: options.Output = None,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
) -> None:
    """Find copies of images inside splits, and of the training images in the others.

    Examples:
        lsn store duplicates
        lsn store duplicates --split train --against test --cosine 0.99
        lsn store duplicates --format csv --output copies.csv

    Copies in training and test images spoil every number of lsn eval, and copies with different classes are
    mistakes in the labels. Identical features are exact copies. Near copies (encoded again, resized, slightly
    cropped) have a distance, 1 - cosine, of at most a fifth of the mean distance of two images of a split,
    and at most a third of that to the nearest image that is no copy. The advice is to leave out all images of
    a group but one, which is not a training image if there is another.
    """
    from lsncli.evaluation.duplicate_groups import Search, find_groups, tiles
    from lsncli.methods.cache import Cache
    from lsncli.store.reader import list_splits, read_split

    if exact and cosine is not None:
        raise UsageError("--exact and --cosine exclude one another.", "Leave one of them out.")
    workspace = Workspace(work)
    names = list(list_splits(workspace.features))
    train = split or (DEFAULT_TRAIN if DEFAULT_TRAIN in names else None)
    chosen = [*([train] if train else []), *(against or names)]
    splits = [read_split(workspace.features, name) for name in dict.fromkeys(chosen)]
    total = 0 if exact else tiles(splits, train)

    def announce(_left: int, seconds: float) -> None:
        say(f"Comparing the images takes about {duration(seconds)}.", quiet=quiet)

    with progress_bar("tiles of 2,048 x 2,048 images", total, quiet=quiet) as progress:
        groups = find_groups(
            splits,
            train,
            Search(not exact, cosine),
            cache=Cache(workspace.cache),
            progress=announcing(progress, total, announce),
        )
    render(rows_of(groups), COLUMNS, format, output, wide=wide)
    for text in conclusion(groups, splits, train, work):
        say(text, quiet=quiet)


def rows_of(groups: "Sequence[Group]") -> list[dict[str, object]]:
    """Return a row for each copy of each group; groups count from 1."""
    return [
        {
            "group": number,
            "split": copy.split,
            "key": copy.key,
            "class": copy.class_name,
            "cosine": copy.cosine,
            "exact": copy.exact,
            "leave_out": copy.leave_out,
            "conflict": group.conflict,
        }
        for number, group in enumerate(groups, start=1)
        for copy in group.copies
    ]


def conclusion(
    groups: "Sequence[Group]", splits: "Sequence[Split]", train: str | None, work: Path
) -> list[str]:
    """Return what was compared, what was found, and what to do about it."""
    names = printable(", ".join(split.name for split in splits))
    images = f"{sum(len(split.labels) for split in splits):,} images of {names}"
    compared = "compared within each split" if len(splits) > 1 else "compared"
    across = len(splits) > 1 and train is not None
    if across:
        compared += f", and with {train}"
    elif len(splits) > 1:
        compared += " (--split names one to compare the others with)"
    if not groups:
        return [f"No copies among {images}, {compared}."]
    copies = [copy for group in groups for copy in group.copies]
    conflicts = sum(group.conflict for group in groups)
    counts = [
        f"{sum(copy.exact for copy in copies)} images with identical features",
        *([f"{sum(group.across for group in groups)} of the groups in several splits"] if across else []),
        f"{conflicts} with different classes",
    ]
    number = "1 group" if len(groups) == 1 else f"{len(groups):,} groups"
    texts = [f"{number} of copies, {len(copies):,} among {images}, {compared}: {', '.join(counts)}."]
    if conflicts:
        first = "The first group has" if conflicts == 1 else f"The first {conflicts} groups have"
        texts.append(f"{first} different classes: correct the wrong labels, or leave out all of the copies.")
    out = [copy.split for copy in copies if copy.leave_out]
    command = options.in_workspace("lsn store duplicates --format csv --output copies.csv", work)
    texts.append(
        f"To leave out {len(out):,}: `{command}`, move the images with leave_out = True out of their "
        f"folders, and extract {printable(', '.join(dict.fromkeys(out)))} again with --overwrite."
    )
    return texts
