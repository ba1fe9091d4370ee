"""Engines: who makes the parts of a split. One protocol, one dict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lsncli.registry import load

if TYPE_CHECKING:
    from lsncli import console
    from lsncli.extraction.part_job import PartJob, PartResult


@dataclass(frozen=True)
class EngineKind:
    """An engine: a row of ``ENGINES``."""

    work: str
    """``module:function`` that makes parts: an ``Engine``."""
    group: str
    """``module:function`` of an ``EngineRequest``: the group that was asked for, None if this process works
    alone. It raises UsageError for options or an environment that the engine cannot use, Unavailable without
    its package."""
    about: str
    """For the help of --engine."""
    together: bool = False
    """Somebody else starts its processes: each makes its share, and whoever comes last finishes."""


ENGINES: dict[str, EngineKind] = {
    "local": EngineKind(
        "lsncli.extraction.engines.local:work", "lsncli.extraction.engines.local:group_of", "this machine."
    ),
    "torchrun": EngineKind(
        "lsncli.extraction.engines.torchrun:work",
        "lsncli.extraction.engines.torchrun:group_of",
        "processes that torchrun or Slurm started, also on many hosts.",
        together=True,
    ),
    "ray": EngineKind(
        "lsncli.extraction.engines.ray:work",
        "lsncli.extraction.engines.ray:group_of",
        "a Ray cluster; machines may be lost. Its machines see images and --work at the same paths.",
    ),
}


@dataclass(frozen=True)
class EngineRequest:
    """What a command says of who should work."""

    processes: int
    """0: as many as the engine finds room for."""
    device: str
    address: str
    """Of a cluster; empty for none."""
    environment: Mapping[str, str]
    arguments: str
    """Those that all processes of one launch share, as a text."""


@dataclass(frozen=True)
class WorkerGroup:
    """Who works: an engine's name, how many processes, and on which device each.

    ``beside`` of the processes are on one host and share its cores. ``rank`` is the number of this process
    where they were started together, and ``launch`` names that start, so that each knows the plan of its own;
    ``again``: one of them was lost, and all were started again under the same name. ``address`` is that of a
    cluster to use, if there is one already.
    """

    engine: str
    processes: int = 1
    device: str = "auto"
    beside: int = 1
    rank: int = 0
    launch: str = ""
    again: bool = False
    address: str = ""

    @property
    def together(self) -> bool:
        """Whether the processes were started together by another program."""
        return ENGINES[self.engine].together


class Engine(Protocol):
    """Makes parts of a split that is planned: all of them, or this process's share.

    What to do lies in ``job.folder``; parts that are there are skipped, but not before they were read.
    ``progress`` counts images. Returns when its parts are there, with what became of each. Raises LsnError if
    one could not be made; what was done stays.
    """

    def __call__(
        self, job: "PartJob", group: WorkerGroup, progress: "console.ProgressCallback"
    ) -> "list[PartResult]": ...


def engine(group: WorkerGroup) -> Engine:
    """The engine of ``group``."""
    work: Engine = load(ENGINES[group.engine].work)
    return work


def group_for(engine: str, asked: EngineRequest) -> WorkerGroup | None:
    """The group that was asked for; None if this process works alone. Raises as ``EngineKind.group`` says."""
    group: WorkerGroup | None = load(ENGINES[engine].group)(asked)
    return group
