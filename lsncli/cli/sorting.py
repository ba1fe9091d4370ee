"""The options ``--move``, ``--copy`` and ``--link`` of ``lsn score``, and ``lsn undo``."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsncli.cli import options
from lsncli.console import printable, progress_bar, say
from lsncli.errors import LsnError, UsageError
from lsncli.report.formats import Column, render

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
        help="Do it. Without it, only show what would be done.",
        allow_from_autoenv=False,  # must be typed for each run
        rich_help_panel=PANEL,
    ),
]

PAST = {"move": "Moved", "copy": "Copied", "link": "Linked"}
REASONS = 20
"""Failed files that are listed on stderr at most."""


def chosen(
    move: Path | None, copy: Path | None, link: Path | None, yes: bool
) -> "tuple[Action, Path] | None":
    """Return the chosen action and its DIR. Raises UsageError for two actions, and for --yes without one."""
    options: dict[Action, Path | None] = {"move": move, "copy": copy, "link": link}
    actions = [(action, folder) for action, folder in options.items() if folder is not None]
    if len(actions) > 1:
        raise UsageError(f"--{actions[0][0]} and --{actions[1][0]} exclude one another.", "Choose one.")
    if not actions:
        if yes:
            raise UsageError("--yes says yes to --move, --copy or --link, and none was given.")
        return None
    action, folder = actions[0]
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"--{action} {folder} is not a folder.")
    return action, folder


def file_images(filing: "Filing", yes: bool, quiet: bool) -> None:
    """Print what goes where and, with ``yes``, do it. Raises LsnError if some files fail."""
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
    with begin(filing.folder) as log, progress_bar("files", count, quiet=quiet) as progress:
        take_back = f"lsn undo {shlex.quote(printable(str(log.path)))}"
        say(f"To undo this: {take_back}", quiet=quiet)
        outcome = carry_out(filing, log, progress)
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
    """Return "1 image" or "2 images"."""
    return f"{count} image{'' if count == 1 else 's'}"


COLUMNS = [
    Column("action", "Was", optional=True),
    Column("path", "Still here", wide=True, optional=True),
    Column("source", "From", wide=True, optional=True),
    Column("error", "Not undone because", wide=True, optional=True),
]
DONE = {"move": "moved", "copy": "copied", "link": "linked"}


def undo(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The lsn-undo-*.jsonl that lsn score wrote to DIR; of several, the last is undone first.",
            metavar="FILE",
        ),
    ],
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned",
            help="Also accept a FILE that your key did not sign: of an older lsn, another user or machine. "
            "Shows what it would do.",
            allow_from_autoenv=False,
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="With --unsigned: do it.", allow_from_autoenv=False),
    ] = False,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Take back what lsn score --move, --copy or --link did.

    Examples:
        lsn undo sorted/lsn-undo-*.jsonl

    Moved images are put back where they were; what --copy and --link made is removed.
    Nothing is overwritten, and a file that was changed since is kept. Shows what was not undone, and why;
    what was undone already is skipped. Only a FILE that lsn wrote for you into that very folder counts.
    """
    from lsncli.detection import undo as use

    if yes and not unsigned:
        raise UsageError("--yes says yes to --unsigned, which was not given.", "Leave it out.")
    records = [use.read_undo_file(file, unsigned=unsigned) for file in reversed(dict.fromkeys(files))]
    if unsigned and not yes:
        changes = (change for record in records for change in reversed(record.changes))
        planned = [change for change in changes if change.action in DONE]
        preview = (
            {"action": DONE[each.action], "path": each.target, "source": each.source} for each in planned
        )
        render(preview, COLUMNS, format, output)
        say(f"Dry run, would take back {images(len(planned))}. Do it with --yes.", quiet=quiet)
        return
    counts = {"undone": 0, "kept": 0}

    def rows() -> Iterator[dict[str, Any]]:
        with progress_bar("files", sum(len(record.changes) for record in records), quiet=quiet) as progress:
            for change in use.undo_all(records, progress):
                counts["kept" if change.error else "undone"] += 1
                if change.error:
                    yield {**vars(change), "action": DONE[change.action]}

    render(rows(), COLUMNS, format, output)
    say(f"Undone: {counts['undone']}. Left as they are: {counts['kept']}.", quiet=quiet)
    if counts["kept"]:
        raise LsnError(
            f"{counts['kept']} of {sum(counts.values())} changes were not undone.",
            "What is not undone stays noted: the same command tries again.",
        )
