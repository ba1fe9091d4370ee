"""The images that a command names: options for the columns of lists and tables, and the listing itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.console import say

if TYPE_CHECKING:
    from lsncli.images.columns import Columns
    from lsncli.images.item import Listing

COLUMN_PANEL = "Lists and tables"
PathColumn = Annotated[
    str,
    typer.Option(
        "--path-column",
        help="Column of image files in a list, or of images in a .parquet: its name, or its number from 1. "
        "Default: by content.",
        metavar="COLUMN",
        rich_help_panel=COLUMN_PANEL,
    ),
]
LabelColumn = Annotated[
    str,
    typer.Option(
        "--label-column",
        help="Column of classes in a list or .parquet, or field of the .json files in a tar; 'none' leaves "
        "classes out. Default: the only one that may be it.",
        metavar="COLUMN",
        rich_help_panel=COLUMN_PANEL,
    ),
]


def list_sources(
    paths: Sequence[Path],
    columns: "Columns",
    *,
    keep_order: bool = False,
    follow_links: bool = False,
    quiet: bool,
) -> "Listing":
    """``list_images``, and on stderr which columns were taken. Raises as ``list_images`` does."""
    from lsncli.images.listing import list_images

    listing = list_images(paths, keep_order=keep_order, follow_links=follow_links, columns=columns)
    say_notes(listing, quiet)
    return listing


def say_notes(listing: "Listing", quiet: bool) -> None:
    """Say on stderr which columns a listing took."""
    for note in listing.notes:
        say(note, quiet=quiet)
