"""``lsn undo``: take back what ``lsn score --move``, ``--copy`` or ``--link`` did."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from lsncli.cli import options
from lsncli.console import progress, say
from lsncli.errors import LsnError
from lsncli.report.render import Column, render

COLUMNS = [
    Column("action", "Was", optional=True),
    Column("path", "Still here", wide=True, optional=True),
    Column("source", "From", wide=True, optional=True),
    Column("error", "Not undone because", wide=True, optional=True),
]
PAST = {"move": "moved", "copy": "copied", "link": "linked"}


def undo(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The lsn-undo-*.jsonl that lsn score left in DIR; of several the last first.", metavar="FILE"
        ),
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

    records = [use.read_undo_file(file) for file in reversed(dict.fromkeys(files))]
    counts = {"undone": 0, "kept": 0}

    def rows() -> Iterator[dict[str, Any]]:
        with progress("files", sum(len(record.changes) for record in records), quiet=quiet) as tick:
            for one in chain.from_iterable(use.undo(record, tick) for record in records):
                counts["kept" if one.error else "undone"] += 1
                if one.error:
                    yield {**vars(one), "action": PAST[one.action]}

    render(rows(), COLUMNS, format, output)
    say(f"Undone: {counts['undone']}. Left as they are: {counts['kept']}.", quiet=quiet)
    if counts["kept"]:
        raise LsnError(
            f"{counts['kept']} of {sum(counts.values())} changes were not undone.",
            "What is not undone stays noted: the same command tries again.",
        )
