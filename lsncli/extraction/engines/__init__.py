"""Engines, which extract the parts of a split: one protocol, one registry."""

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
    """``module:function`` that extracts parts: an ``Engine``."""
    group: str
    """``module:function`` from an ``EngineRequest`` to the worker group, None if this process works alone. It
    raises UsageError for options or an environment that the engine cannot use, Unavailable without its
    package."""
    about: str
    """Description in the help of --engine."""
    together: bool = False
    """Whether another program starts its processes: each extracts its share, and the last one finishes."""


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


SEVERAL = 16
"""Processes to plan parts for where a cluster decides how many there are."""


@dataclass(frozen=True)
class EngineRequest:
    """The options of a command for its engine."""

    processes: int
    """Number of processes; 0 lets the engine choose."""
    device: str
    address: str
    """Address of a cluster; empty for none."""
    environment: Mapping[str, str]
    arguments: str
    """The arguments that all processes of one launch have in common, as a text."""


@dataclass(frozen=True)
class WorkerGroup:
    """The processes of an extraction: the engine's name, their number, and the device of each.

    ``beside`` of the processes are on the same host and share its cores. ``rank`` is the number of this
    process among those that were started together; ``launch`` identifies that start, so that each recognises
    its plan. ``again`` is whether all were restarted under the same name after one was lost. ``address`` is
    that of an existing cluster.
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
    def expected(self) -> int:
        """The number of processes to plan for; SEVERAL if only the engine will know it."""
        return self.processes or SEVERAL

    @property
    def together(self) -> bool:
        """Whether another program started the processes together."""
        return ENGINES[self.engine].together


class Engine(Protocol):
    """A function that extracts the parts of a planned split, or this process's share, and returns results.

    The plan and manifests are in ``job.folder``. Complete parts are read and skipped. ``progress`` counts
    images. Raises LsnError if a part fails; committed chunks stay.
    """

    def __call__(
        self, job: "PartJob", group: WorkerGroup, progress: "console.ProgressCallback"
    ) -> "list[PartResult]": ...


def engine(group: WorkerGroup) -> Engine:
    """Load the engine of ``group``."""
    work: Engine = load(ENGINES[group.engine].work)
    return work


def group_for(engine: str, request: EngineRequest) -> WorkerGroup | None:
    """Return the worker group of a request; None for this process alone. Raises as ``EngineKind.group``."""
    group: WorkerGroup | None = load(ENGINES[engine].group)(request)
    return group
