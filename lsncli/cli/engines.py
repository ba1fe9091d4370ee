"""The options of ``lsn extract`` for engines: processes of this machine, torchrun, Slurm or Ray."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lsncli.cli.configured import REACHES_OUT
from lsncli.console import remarks, say
from lsncli.extraction import engines
from lsncli.extraction.engines import ENGINES, EngineRequest, WorkerGroup
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import Column

ENGINE_PANEL = "Engine"
if TYPE_CHECKING:
    EngineName = str
else:
    EngineName = Literal[tuple(ENGINES)]
Engine = Annotated[
    EngineName,
    typer.Option(
        help=" ".join(f"{name}: {kind.about}" for name, kind in ENGINES.items()),
        rich_help_panel=ENGINE_PANEL,
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        min=0,
        help="Of --engine local or ray.",
        show_default="0 = one for each GPU",
        rich_help_panel=ENGINE_PANEL,
    ),
]
RayAddress = Annotated[
    str,
    REACHES_OUT,  # code is sent to that address, and received from it
    typer.Option(
        envvar="RAY_ADDRESS",
        help="The cluster of --engine ray: HOST:PORT, or auto for the one on this machine.",
        show_default="one of this machine alone, started for this run",
        rich_help_panel=ENGINE_PANEL,
    ),
]
PartRows = Annotated[
    int,
    typer.Option(
        min=0,
        help="Images of a part, a multiple of the batch size.",
        show_default="0 = up to 65,536, work for every process",
        rich_help_panel=ENGINE_PANEL,
    ),
]
NoMerge = Annotated[
    bool,
    typer.Option("--no-merge", help="Leave the parts for `lsn store merge`.", rich_help_panel=ENGINE_PANEL),
]

OWN = ("device", "workers", "format", "output", "quiet")
"""Options that processes of one launch may give differently."""


def group_for(
    engine: EngineName, processes: int, ray_address: str, device: str, parameters: Mapping[str, Any]
) -> WorkerGroup | None:
    """Return the requested group; None for this process alone. ``parameters`` are all of the command.

    Raises UsageError for options or an environment that the engine cannot use.
    """
    same = sorted((name, str(value)) for name, value in parameters.items() if name not in OWN)
    return engines.group_for(engine, EngineRequest(processes, device, ray_address, os.environ, repr(same)))


@contextmanager
def planning(group: WorkerGroup | None, place: Workspace, split: str) -> Iterator[None]:
    """Hold the planner's lock while the first of several processes lists and plans."""
    if group is None or not group.together:
        yield
        return
    from lsncli.extraction.engines.torchrun import planning as sign

    with sign(place.features, split):
        yield


def share(
    group: WorkerGroup,
    place: Workspace,
    split: str,
    *,
    pretrained: str,
    workers: int,
    overwrite: bool,
    merge: bool,
    quiet: bool,
) -> None:
    """Extract the share of a process other than the first, and print its result on stderr."""
    from lsncli.extraction.runner import join

    result = join(
        group,
        store=place.features,
        split=split,
        pretrained=pretrained,
        workers=workers,
        overwrite=overwrite,
        merge=merge,
        record=place.extraction(split),
        remark=remarks(quiet),
    )
    end = " It came last and finished the split." if result.finished and result.encoded + result.found else ""
    say(f"Process {group.rank} encoded {result.encoded} images, {result.found} were done.{end}", quiet=quiet)


def images(group: WorkerGroup | None, listed: int) -> int | None:
    """Return the number of images for the progress bar; None for a share, whose size only the plan has."""
    return None if group is not None and group.together else listed


def of_share(group: WorkerGroup, columns: Sequence[Column]) -> list[Column]:
    """Return ``columns``, with the process number in titles of counts where each process has a share."""
    if not group.together:
        return list(columns)
    counts = ("rows", "failures", "resumed")
    return [
        replace(column, title=f"{column.title} (process {group.rank})") if column.key in counts else column
        for column in columns
    ]


def say_unfinished(split: str, work: Path, *, merge: bool, quiet: bool) -> None:
    """Print how a split whose parts are not merged will be finished."""
    if merge:
        say("Other processes are still at work; the last one finishes the split.", quiet=quiet)
    else:
        say(f"It lies in parts: lsn store merge --split {split} --work {work}", quiet=quiet)
