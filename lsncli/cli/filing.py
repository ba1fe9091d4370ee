"""``--move``, ``--copy`` and ``--link`` of ``lsn score``: what will happen, and then that it happens."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.console import printable, progress, say
from lsncli.errors import LsnError, UsageError

if TYPE_CHECKING:
    from lsncli.detection.sorting import Action, Filing

PANEL = "Sorting images into folders"

Move = Annotated[
    Path | None,
    typer.Option(
        "--move", help="Move the images shown to DIR/ood and DIR/CLASS.", metavar="DIR", rich_help_panel=PANEL
    ),
]
Copy = Annotated[
    Path | None, typer.Option("--copy", help="Copy them instead.", metavar="DIR", rich_help_panel=PANEL)
]
Link = Annotated[
    Path | None,
    typer.Option("--link", help="Make symbolic links to them instead.", metavar="DIR", rich_help_panel=PANEL),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="Do it. Without, nothing is touched: see what would be done.",
        allow_from_autoenv=False,  # every run that touches files is meant
        rich_help_panel=PANEL,
    ),
]

PAST = {"move": "Moved", "copy": "Copied", "link": "Linked"}
REASONS = 20
"""Files that could not be moved and are named on stderr."""


def chosen(
    move: Path | None, copy: Path | None, link: Path | None, yes: bool
) -> "tuple[Action, Path] | None":
    """The one action that was asked for and its DIR. Raises UsageError for two, and for --yes to none."""
    named: dict[Action, Path | None] = {"move": move, "copy": copy, "link": link}
    asked = [(action, folder) for action, folder in named.items() if folder is not None]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0][0]} and --{asked[1][0]} exclude one another.", "Choose one.")
    if yes and not asked:
        raise UsageError("--yes says yes to --move, --copy or --link, and none was given.")
    if asked and os.path.exists(asked[0][1]) and not os.path.isdir(asked[0][1]):
        raise UsageError(f"--{asked[0][0]} {asked[0][1]} is not a folder.")
    return asked[0] if asked else None


def file_images(filing: "Filing", yes: bool, quiet: bool) -> None:
    """Say what goes where and, with ``yes``, do it. Raises LsnError if some of it could not be done."""
    from lsncli.detection.sorting import carry_out
    from lsncli.detection.undo_log import begin

    count, action = len(filing.planned), filing.action
    if filing.there:
        say(f"{images(filing.there)} already where they belong.", quiet=quiet)
    if filing.links:
        say(f"Symbolic links are not moved: {images(filing.links)} left where they are.", quiet=quiet)
    where = ", ".join(f"{printable(name)} {n}" for name, n in sorted(filing.counts.items())[:REASONS])
    more = f" and {len(filing.counts) - REASONS} more folders" if len(filing.counts) > REASONS else ""
    folder = printable(str(filing.folder))
    where = f"{folder}: {where}{more}" if count else "nothing"
    if not yes or not count:
        say(f"Dry run, would {action} {images(count)} into {where}. Do it with --yes.", quiet=quiet or yes)
        return
    with begin(filing.folder) as log, progress("files", count, quiet=quiet) as tick:
        take_back = f"lsn undo {shlex.quote(printable(str(log.path)))}"
        say(f"To undo this: {take_back}", quiet=quiet)
        outcome = carry_out(filing, log, tick)
    # What was planned for each folder is not what is there if some of it failed.
    say(f"{PAST[action]} {images(outcome.done)} into {folder if outcome.failures else where}.", quiet=quiet)
    for failure in outcome.failures[:REASONS]:
        say(f"{printable(failure.key)}: {printable(failure.reason)}")
    if outcome.failures:
        raise LsnError(
            f"{len(outcome.failures)} of {images(count)} could not be filed ({action}); all others were.",
            "The same command tries again." if action == "move" else f"Before you try again: {take_back}",
        )


def images(count: int) -> str:
    """1 image, 2 images."""
    return f"{count} image{'' if count == 1 else 's'}"
