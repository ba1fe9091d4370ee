"""``lsn store duplicates``: images that are stored twice, in one split or in two."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.evaluate import folders_of
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.report import page_errors
from lsncli.console import announcing, duration, printable, progress_bar, say
from lsncli.errors import UsageError
from lsncli.files import check_writable, open_atomic
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
    page: Annotated[
        Path | None,
        typer.Option(help="HTML page to write, with the copies side by side.", metavar="FILE"),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="SPLIT=FOLDER, repeatable: where a split's images are, if they have moved.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    workers: options.Workers = 0,
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
        lsn store duplicates --page copies.html         # look at them

    Copies in training and test images spoil every number of lsn eval, and copies with different classes are
    mistakes in the labels. Identical features are exact copies. Near copies (encoded again, resized, slightly
    cropped) have a distance, 1 - cosine, of at most a fifth of the mean distance of two images of a split,
    and at most a third of that to the nearest image that is no copy. The advice is to leave out all images of
    a group but one, which is not a training image if there is another.
    """
    from lsncli.evaluation.duplicate_groups import Search, find_groups, tiles
    from lsncli.methods.cache import Cache
    from lsncli.store.reader import list_splits, read_split

    if page is not None:
        with page_errors(page, "--page"):
            check_writable(page)
    if exact and cosine is not None:
        raise UsageError("--exact and --cosine exclude one another.", "Leave one of them out.")
    workspace = Workspace(work)
    names = list(list_splits(workspace.features))
    train = split or (DEFAULT_TRAIN if DEFAULT_TRAIN in names else None)
    chosen = [*([train] if train else []), *(against or names)]
    splits = [read_split(workspace.features, name) for name in dict.fromkeys(chosen)]
    folders = folders_of(images or ())
    for name in set(folders) - {each.name for each in splits}:
        raise UsageError(f"--images names '{name}', which is none of the compared splits.")
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
    texts = conclusion(groups, splits, train, work)
    for text in texts:
        say(text, quiet=quiet)
    if page is not None:
        _write_page(page, groups, splits, texts, folders, options.threads(workers))
        say(f"Wrote {page}. Open it in a browser.", quiet=quiet)


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


PICTURES = 480
"""Most images that the page shows; thumbnails of the usual size take five megabytes."""


def _write_page(
    path: Path,
    groups: "Sequence[Group]",
    splits: "Sequence[Split]",
    texts: Sequence[str],
    folders: dict[str, list[Path]],
    workers: int,
) -> None:
    """Write the copies with their pictures, those of the first groups, as a page."""
    from lsncli.detection.scored_sets import find_images
    from lsncli.report.contents import thumbnails
    from lsncli.report.page.duplicates import duplicates_page

    shown = [copy for group in groups for copy in group.copies][:PICTURES]
    needed = {copy.split for copy in shown}
    items = {
        split.name: find_images(split, folders.get(split.name)) for split in splits if split.name in needed
    }
    found = [(copy, images[copy.row]) for copy in shown if (images := items[copy.split]) is not None]
    small = thumbnails([image for _, image in found], workers)
    pictures = {
        (copy.split, copy.row): data for (copy, _), data in zip(found, small, strict=True) if data is not None
    }
    bare = ", ".join(name for name, images in items.items() if images is None)
    notes = [f"The images of {bare} are not where they were: there are no pictures of them."] if bare else []
    data = duplicates_page(groups, pictures, texts, notes).encode()
    with page_errors(path, "--page"), open_atomic(path) as file:
        file.write(data)
