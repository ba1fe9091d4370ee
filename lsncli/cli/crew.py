"""Who works on ``lsn extract``: this process, several of this machine, or those of torchrun, Slurm or Ray."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lsncli.app.engines import Crew
from lsncli.app.workspace import Workspace
from lsncli.cli import options
from lsncli.console import say
from lsncli.errors import UsageError

ENGINE_PANEL = "Engine"
EngineName = Literal["local", "torchrun", "ray"]
Engine = Annotated[
    EngineName,
    typer.Option(
        help="local: this machine. torchrun: processes that torchrun or Slurm started, also on many hosts. "
        "ray: a Ray cluster; machines may be lost. Its machines see images and --work at the same paths.",
        rich_help_panel=ENGINE_PANEL,
    ),
]
Processes = Annotated[
    int,
    typer.Option(min=0, help="Of --engine local or ray; 0 = one for each GPU.", rich_help_panel=ENGINE_PANEL),
]
RayAddress = Annotated[
    str,
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


def crew_for(
    engine: EngineName, processes: int, ray_address: str, device: str, parameters: Mapping[str, Any]
) -> Crew | None:
    """The crew that was asked for; None if this process works alone. ``parameters`` are all of the command.

    Raises UsageError if the environment is not that of torchrun or Slurm, or names what it does not use.
    """
    if engine == "torchrun":
        from lsncli.app.engines.torchrun import crew_from

        if processes:
            raise UsageError(
                f"--engine torchrun works with the processes it was started with, not with {processes}.",
                "Say how many to torchrun (--nproc-per-node) or Slurm, and leave out --processes.",
            )
        same = sorted((name, str(value)) for name, value in parameters.items() if name not in OWN)
        return crew_from(os.environ, device, repr(same))
    if engine == "ray":
        from lsncli.app.engines.ray import crew_from as ray_crew

        return ray_crew(processes, device, ray_address)
    from lsncli.app.engines.local import gpus

    processes = processes or max(1, gpus(device))
    return Crew("local", processes, device, beside=processes) if processes > 1 else None


def workers_for(crew: Crew | None, workers: int) -> int:
    """Decoding threads of one process: as many as were asked for, else its share of the cores."""
    return workers or max(1, options.threads(0) // (crew.beside if crew else 1))


@contextmanager
def planning(crew: Crew | None, place: Workspace, split: str) -> Iterator[None]:
    """While the first of several processes lists and plans, the others can see that it does."""
    if crew is None or not crew.together:
        yield
        return
    from lsncli.app.engines.torchrun import planning as sign

    with sign(place.features, split):
        yield


def share(
    crew: Crew,
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
    from lsncli.app.joining import join

    made = join(
        crew,
        store=place.features,
        split=split,
        pretrained=pretrained,
        workers=workers_for(crew, workers),
        overwrite=overwrite,
        merge=merge,
        record=place.extraction(split),
    )
    end = " It came last and finished the split." if made.finished and made.encoded + made.found else ""
    say(f"Process {crew.rank} encoded {made.encoded} images, {made.found} were done.{end}", quiet=quiet)


def images(crew: Crew | None, listed: int) -> int | None:
    """How many images this process will hear of: all, or a share whose size only the plan knows."""
    return None if crew is not None and crew.together else listed


def say_unfinished(split: str, work: Path, *, merge: bool, quiet: bool) -> None:
    """What is left to do for a split whose parts are not merged."""
    if merge:
        say("Other processes are still at work; the last one finishes the split.", quiet=quiet)
    else:
        say(f"It lies in parts: lsn store merge --split {split} --work {work}", quiet=quiet)
