"""``lsn undo``: take back what ``lsn score --move``, ``--copy`` or ``--link`` did."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lsncli.cli import options
from lsncli.cli.filing import images
from lsncli.console import progress, say
from lsncli.errors import LsnError, UsageError
from lsncli.report.formats import Column, render

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
            help="The lsn-undo-*.jsonl that lsn score left in DIR; of several the last first.", metavar="FILE"
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
        typer.Option("--yes", help="Of --unsigned: do it.", allow_from_autoenv=False),
    ] = False,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Put images back where lsn score --move took them from; remove what --copy and --link made.

    Nothing is overwritten, and a file that was changed since is kept. Shows what was not undone, and why;
    what was undone already is skipped. Only a FILE that lsn wrote for you into that very folder counts.
    """
    from lsncli.detection import undo as use

    if yes and not unsigned:
        raise UsageError("--yes says yes to --unsigned, which was not given.", "Leave it out.")
    records = [use.read_undo_file(file, unsigned=unsigned) for file in reversed(dict.fromkeys(files))]
    if unsigned and not yes:
        planned = [one for record in records for one in reversed(record.changes) if one.action in DONE]
        rows_of = ({"action": DONE[one.action], "path": one.target, "source": one.source} for one in planned)
        render(rows_of, COLUMNS, format, output)
        say(f"Dry run, would take back {images(len(planned))}. Do it with --yes.", quiet=quiet)
        return
    counts = {"undone": 0, "kept": 0}

    def rows() -> Iterator[dict[str, Any]]:
        with progress("files", sum(len(record.changes) for record in records), quiet=quiet) as tick:
            for one in use.undo_all(records, tick):
                counts["kept" if one.error else "undone"] += 1
                if one.error:
                    yield {**vars(one), "action": DONE[one.action]}

    render(rows(), COLUMNS, format, output)
    say(f"Undone: {counts['undone']}. Left as they are: {counts['kept']}.", quiet=quiet)
    if counts["kept"]:
        raise LsnError(
            f"{counts['kept']} of {sum(counts.values())} changes were not undone.",
            "What is not undone stays noted: the same command tries again.",
        )
