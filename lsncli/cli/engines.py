"""Who works on ``lsn extract``: this process, several of this machine, or those of torchrun, Slurm or Ray."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lsncli.cli import options
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
    typer.Option(min=0, help="Of --engine local or ray; 0 = one for each GPU.", rich_help_panel=ENGINE_PANEL),
]
RayAddress = Annotated[
    str,
    REACHES_OUT,  # programs go to that address, and come from it
    typer.Option(
        envvar="RAY_ADDRESS",
        help="The cluster of --engine ray: HOST:PORT, or auto for the one on this machine. "
        "Default: one of this machine alone, started for this run.",
        rich_help_panel=ENGINE_PANEL,
    ),
]
PartRows = Annotated[
    int,
    typer.Option(
        min=0,
        help="Images of a part, a multiple of the batch size; 0 = about 65,536.",
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
    """The group that was asked for; None if this process works alone. ``parameters`` are all of the command.

    Raises UsageError for options or an environment that the engine cannot use.
    """
    same = sorted((name, str(value)) for name, value in parameters.items() if name not in OWN)
    return engines.group_for(engine, EngineRequest(processes, device, ray_address, os.environ, repr(same)))


def workers_for(group: WorkerGroup | None, workers: int) -> int:
    """Decoding threads of one process: as many as were asked for, else its share of the cores."""
    return workers or max(1, options.threads(0) // (group.beside if group else 1))


@contextmanager
def planning(group: WorkerGroup | None, place: Workspace, split: str) -> Iterator[None]:
    """While the first of several processes lists and plans, the others can see that it does."""
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
    """What a process other than the first does; says on stderr what became of it."""
    from lsncli.extraction.runner import join

    made = join(
        group,
        store=place.features,
        split=split,
        pretrained=pretrained,
        workers=workers_for(group, workers),
        overwrite=overwrite,
        merge=merge,
        record=place.extraction(split),
        remark=remarks(quiet),
    )
    end = " It came last and finished the split." if made.finished and made.encoded + made.found else ""
    say(f"Process {group.rank} encoded {made.encoded} images, {made.found} were done.{end}", quiet=quiet)


def images(group: WorkerGroup | None, listed: int) -> int | None:
    """How many images this process will hear of: all, or a share whose size only the plan knows."""
    return None if group is not None and group.together else listed


def of_share(group: WorkerGroup, columns: Sequence[Column]) -> list[Column]:
    """The same columns, with titles that say whose rows they count where processes make a share each."""
    if not group.together:
        return list(columns)
    counts = ("rows", "failures", "resumed")
    return [
        replace(one, title=f"{one.title} (process {group.rank})") if one.key in counts else one
        for one in columns
    ]


def say_unfinished(split: str, work: Path, *, merge: bool, quiet: bool) -> None:
    """What is left to do for a split whose parts are not merged."""
    if merge:
        say("Other processes are still at work; the last one finishes the split.", quiet=quiet)
    else:
        say(f"It lies in parts: lsn store merge --split {split} --work {work}", quiet=quiet)
