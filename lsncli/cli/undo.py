"""``lsn undo``: take back what ``lsn score --move``, ``--copy`` or ``--link`` did."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lsncli.cli import options
from lsncli.console import printable, progress, say
from lsncli.errors import LsnError
from lsncli.report.render import Column, render

COLUMNS = [
    Column("action", "Was"),
    Column("path", "Still here", wide=True),
    Column("source", "From", wide=True),
    Column("error", "Not undone because", wide=True),
]
PAST = {"move": "moved", "copy": "copied", "link": "linked"}


def undo(
    file: Annotated[
        Path, typer.Argument(help="The lsn-undo-*.jsonl that lsn score left in DIR.", metavar="FILE")
    ],
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Put images back where lsn score --move took them from; remove what --copy and --link made.

    Nothing is overwritten, and a copy that was changed since is kept. Shows what was not undone, and why;
    what was undone already is passed over.
    """
    from lsncli.app import undo as use

    record = use.read_undo_file(file)
    counts = {"undone": 0, "kept": 0}

    def rows() -> Iterator[dict[str, Any]]:
        with progress("files", len(record.changes), quiet=quiet) as tick:
            for one in use.undo(record, tick):
                counts["kept" if one.error else "undone"] += 1
                if one.error:
                    yield {**vars(one), "action": PAST[one.action]}

    render(rows(), COLUMNS, format, output)
    say(f"Undone: {counts['undone']}. Left as they are: {counts['kept']}.", quiet=quiet)
    if counts["kept"]:
        raise LsnError(
            f"{counts['kept']} of {sum(counts.values())} changes were not undone.",
            f"{printable(str(file))} is kept: the same command tries again.",
        )
