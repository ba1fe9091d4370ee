"""The engine ``torchrun``: processes that torchrun or Slurm started, on hosts that share a folder.

There is no process group: part k belongs to process k modulo their number, and complete parts are skipped.
Process 0 lists the images and writes the plan, the others wait for it; the last one finishes the split.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from lsncli import console
from lsncli.device import gpus
from lsncli.errors import LsnError, UsageError
from lsncli.extraction.engines import EngineRequest, WorkerGroup
from lsncli.extraction.part_job import PartJob, PartResult, encoder_for, work_part
from lsncli.locks import locked
from lsncli.signals import hear_termination
from lsncli.store.staging import StoredPlan, parts_folder, read_plan

PLANNER_WAIT = 120.0
"""Seconds that the others wait for a plan when process 0 is not planning."""

POLL_SECONDS = 0.5

NAMES = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
"""Variables of torchrun, and of Slurm, for a process's rank, the number of processes, and its local rank."""
LAUNCH = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")
RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""How often the processes of this host were restarted. Not part of the launch's name: hosts count apart."""


def group_of(request: EngineRequest) -> WorkerGroup:
    """Return the group of this process. Raises UsageError for --processes, and as ``group_from``."""
    if request.processes:
        raise UsageError(
            f"--engine torchrun works with the processes it was started with, not with {request.processes}.",
            "Say how many to torchrun (--nproc-per-node) or Slurm, and leave out --processes.",
        )
    return group_from(request.environment, request.device, request.arguments)


def group_from(environment: Mapping[str, str], device: str, arguments: str) -> WorkerGroup:
    """Return the group of this process from its environment; ``arguments`` are those of the command.

    Raises UsageError if the environment is not that of torchrun or Slurm.
    """
    variables = [names for names in NAMES if names[0] in environment and names[1] in environment]
    if not variables:
        raise UsageError(
            "--engine torchrun: there is no RANK and WORLD_SIZE in the environment, and no SLURM_PROCID.",
            "Start it with `torchrun --standalone --nproc-per-node 2 -m lsncli extract ...`, or with srun.",
        )
    rank, size, local = variables[0]
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
    """Return the GPU of process ``slot`` of its host, or ``device`` if it names one."""
    names = gpus(device)
    return names[slot % len(names)] if names else device


def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
    """Extract the parts of this process, as an ``Engine``."""
    hear_termination()
    own = range(group.rank, job.plan.parts, group.processes)
    if not own:
        return []
    encoder = encoder_for(job.divided(_beside(job, group)), group.device, progress)
    return [work_part(job, index, encoder) for index in own]


def _beside(job: PartJob, group: WorkerGroup) -> int:
    """Return how many processes of this host have parts; hosts have blocks of ranks."""
    first = group.rank - group.rank % group.beside
    return min(group.beside, job.plan.parts - first)


@contextmanager
def planning(store: Path, split: str) -> Iterator[None]:
    """Hold a lock while process 0 lists and plans, so that the others can see that it runs."""
    try:
        with locked(_planner_lock(store, split), wait=PLANNER_WAIT):
            yield
    finally:
        with suppress(OSError):
            parts_folder(store, split).parent.rmdir()


def wait_for_plan(
    store: Path, split: str, group: WorkerGroup, finished: Callable[[], bool]
) -> StoredPlan | None:
    """Wait for the plan of this launch and return it; None if the split is ``finished`` already.

    Raises LsnError if process 0 does not run.
    """
    folder = parts_folder(store, split)
    last_seen = time.monotonic()
    while True:
        with suppress(LsnError):  # process 0 replaces a damaged plan
            stored = read_plan(folder)
            if stored is not None and stored.launch == group.launch:
                return stored
        if finished():
            return None
        if _is_planning(store, split):
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > PLANNER_WAIT:
            raise LsnError(
                f"Process {group.rank} found no plan in {folder}, and process 0 is not making one.",
                "Start all processes with the same arguments and one --work folder that they share.",
            )
        time.sleep(POLL_SECONDS)


def _planner_lock(store: Path, split: str) -> Path:
    """Return the path that process 0 locks; no split has such a name."""
    return parts_folder(store, f"{split}~planner")


def _is_planning(store: Path, split: str) -> bool:
    try:
        with locked(_planner_lock(store, split)):
            return False
    except LsnError:
        return True
