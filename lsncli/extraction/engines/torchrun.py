"""Processes that torchrun or Slurm started, on one host or many that share a folder.

There is no process group: part k belongs to process k modulo their number, and what is there is skipped.
Process 0 lists the images and writes the plan, the others wait for it; whoever comes last finishes the split.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from lsncli import console
from lsncli.errors import LsnError, UsageError
from lsncli.extraction.engines import EngineRequest, WorkerGroup
from lsncli.extraction.engines.local import gpus
from lsncli.extraction.part_job import PartJob, PartResult, encoder_for, work_part
from lsncli.locks import locked
from lsncli.signals import hear_termination
from lsncli.store.staging import StoredPlan, parts_folder, read_plan

PLANNER_WAIT = 120.0
"""Seconds that the others wait for a plan when process 0 is not at work on one."""

POLL_SECONDS = 0.5

NAMES = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
"""Where torchrun, and Slurm, tell a process which it is, of how many, and which on its host."""
LAUNCH = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")
RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""How often the processes of this host were started again. It names no launch: hosts count apart."""


def group_of(asked: EngineRequest) -> WorkerGroup:
    """The group of this process. Raises UsageError for a number of processes, and as ``group_from``."""
    if asked.processes:
        raise UsageError(
            f"--engine torchrun works with the processes it was started with, not with {asked.processes}.",
            "Say how many to torchrun (--nproc-per-node) or Slurm, and leave out --processes.",
        )
    return group_from(asked.environment, asked.device, asked.arguments)


def group_from(environment: Mapping[str, str], device: str, arguments: str) -> WorkerGroup:
    """The group that this process is of, as its environment says; ``arguments`` are those of the command.

    Raises UsageError if the environment is not that of torchrun or Slurm.
    """
    there = [names for names in NAMES if names[0] in environment and names[1] in environment]
    if not there:
        raise UsageError(
            "--engine torchrun: there is no RANK and WORLD_SIZE in the environment, and no SLURM_PROCID.",
            "Start it with `torchrun --standalone --nproc-per-node 2 -m lsncli extract ...`, or with srun.",
        )
    rank, size, local = there[0]
    try:
        number, processes = int(environment[rank]), int(environment[size])
        slot = int(environment.get(local, number))
    except ValueError as error:
        raise UsageError(f"--engine torchrun: {rank}, {size} and {local} must be whole numbers.") from error
    if not 0 <= number < processes:
        raise UsageError(f"--engine torchrun: expected {rank} below {size}, found {number} of {processes}.")
    launch = "\0".join([arguments, *(environment.get(name, "") for name in LAUNCH)])
    digest = sha256(launch.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    beside = environment.get("LOCAL_WORLD_SIZE", environment.get("SLURM_NTASKS_PER_NODE", "1"))
    return WorkerGroup(
        "torchrun",
        processes,
        device_of(device, slot),
        rank=number,
        beside=int(beside) if beside.isdecimal() and int(beside) else 1,
        launch=digest,
        again=any(environment.get(name, "0") != "0" for name in RESTARTS),
    )


def device_of(device: str, slot: int) -> str:
    """The GPU of the process that is number ``slot`` on its host, unless a device was named."""
    count = gpus(device)
    return f"cuda:{slot % count}" if count else device


def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
    """An ``Engine``: the parts of this process."""
    hear_termination()
    own = range(group.rank, job.plan.parts, group.processes)
    if not own:
        return []
    encoder = encoder_for(job, group.device, progress)
    return [work_part(job, index, encoder) for index in own]


@contextmanager
def planning(store: Path, split: str) -> Iterator[None]:
    """Held by process 0 from its start, so that the others can see that there is somebody to wait for."""
    try:
        with locked(_sign(store, split), wait=PLANNER_WAIT):
            yield
    finally:
        with suppress(OSError):
            parts_folder(store, split).parent.rmdir()


def wait_for_plan(
    store: Path, split: str, group: WorkerGroup, finished: Callable[[], bool]
) -> StoredPlan | None:
    """The plan of this very launch; None if all of it is ``finished`` already.

    Raises LsnError if process 0 is not there, or gave up.
    """
    folder = parts_folder(store, split)
    heard = time.monotonic()
    while True:
        with suppress(LsnError):  # process 0 makes a damaged one anew
            stored = read_plan(folder)
            if stored is not None and stored.launch == group.launch:
                return stored
        if finished():
            return None
        if _somebody_plans(store, split):
            heard = time.monotonic()
        elif time.monotonic() - heard > PLANNER_WAIT:
            raise LsnError(
                f"Process {group.rank} found no plan in {folder}, and process 0 is not making one.",
                "Start all processes with the same arguments and one --work folder that they share.",
            )
        time.sleep(POLL_SECONDS)


def _sign(store: Path, split: str) -> Path:
    """What process 0 locks; no split has such a name."""
    return parts_folder(store, f"{split}~planner")


def _somebody_plans(store: Path, split: str) -> bool:
    try:
        with locked(_sign(store, split)):
            return False
    except LsnError:
        return True
