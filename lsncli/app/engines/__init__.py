"""Engines: who makes the parts of a split. One protocol, one dict."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lsncli.registry import load

if TYPE_CHECKING:
    from lsncli import console
    from lsncli.app.job import Job, PartDone

ENGINES: dict[str, str] = {
    "local": "lsncli.app.engines.local:work",
    "ray": "lsncli.app.engines.ray:work",
    "torchrun": "lsncli.app.engines.torchrun:work",
}

TOGETHER = ("torchrun",)
"""Engines whose processes somebody else starts: each makes its share, and whoever comes last finishes."""


@dataclass(frozen=True)
class Crew:
    """Who works: an engine's name, how many processes, and on which device each.

    ``beside`` of the processes are on one host and share its cores. ``rank`` is the number of this process
    where they were started together, and ``launch`` names that start, so that each knows the plan of its own.
    ``address`` is that of a cluster to use, if there is one already.
    """

    engine: str
    processes: int = 1
    device: str = "auto"
    beside: int = 1
    rank: int = 0
    launch: str = ""
    address: str = ""

    @property
    def together(self) -> bool:
        """Whether the processes were started together by another program."""
        return self.engine in TOGETHER


class Engine(Protocol):
    """Makes parts of a split that is planned: all of them, or this process's share.

    What to do lies in ``job.folder``; parts that are there are passed over, but not before they were read.
    ``tick`` hears of images. Returns when its parts are there, with what became of each. Raises LsnError if
    one could not be made; what was done stays.
    """

    def __call__(self, job: "Job", crew: Crew, tick: "console.Tick") -> "list[PartDone]": ...


def engine(crew: Crew) -> Engine:
    """The engine of ``crew``."""
    work: Engine = load(ENGINES[crew.engine])
    return work
