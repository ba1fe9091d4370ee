"""The engine ``ray``: actors on the machines of a cluster, each with a GPU where there are any.

Only part numbers and results pass through Ray; images and features are in folders that all machines share.
``ray_actors.hand_out`` reassigns the parts of lost actors.
"""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lsncli import console
from lsncli.console import ESCAPE
from lsncli.device import threads
from lsncli.errors import LsnError, Unavailable, UsageError
from lsncli.extraction.engines import EngineRequest, WorkerGroup
from lsncli.extraction.engines.ray_actors import AGAIN, Lost, Maker, News, PartProgress, Post, Ready, hand_out
from lsncli.extraction.part_job import PartJob, PartResult
from lsncli.signals import hear_termination

START_SECONDS = 900.0
"""Time limit for a cluster to start the first actor: some start machines first."""

LOOK_SECONDS = 5.0
"""Seconds between checks of the cluster while no actor sends a message."""

STOP_SECONDS = 30.0
"""Time limit for actors to commit their chunks when they are stopped."""

CONNECT_SECONDS = 10.0
"""Time limit for a connection to the cluster's address."""

STORE_BYTES = 100 * 2**20
"""Size of Ray's object store where Ray is started for this run alone: nothing large passes through it."""

TOKENS = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
"""Variables of Ray's authentication; if one is set, no token is generated."""


@dataclass(frozen=True)
class Share:
    """The number of actors, and of ``cpus`` and ``gpus`` that each requests."""

    actors: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"each asks for {self.cpus} CPUs" + (f" and {self.gpus} GPU" if self.gpus else "")


def group_of(request: EngineRequest) -> WorkerGroup:
    """Return the group of a request; raises as ``group_from``."""
    return group_from(request.processes, request.device, request.address)


def group_from(processes: int, device: str, address: str) -> WorkerGroup:
    """Return the group of ``processes`` actors at ``address``; 0: as many as the cluster has room for.

    The cluster is checked before images are listed. Raises UsageError, Unavailable.
    """
    if ":" in device:
        raise UsageError(
            f"--device {device}: with --engine ray, Ray gives every process its GPU.",
            "Use --device auto, cuda or cpu.",
        )
    imported(address)
    _check_address(address)
    return WorkerGroup("ray", processes, device, address=address)


def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
    """Extract all parts, as an ``Engine``, with actors of the cluster at ``group.address`` or a local one.

    ``group.processes`` 0: as many as it has GPUs, else as many as its CPUs have room for. Raises Unavailable
    without Ray, without the cluster or without the requested GPUs; otherwise as ``hand_out``.
    """
    ray = imported(group.address)
    with console.only_ours(), connected(ray, group.address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = share_of(nodes, group.device, group.processes, threads(job.workers))
        device = "cuda" if share.gpus else group.device
        actors = Actors(ray, replace(job, workers=max(1, share.cpus)), share, device)
        try:
            return hand_out(job.plan.parts, actors, share.actors, progress)
        except ray.exceptions.RayError as error:
            raise LsnError(f"Ray failed: {sentence(error)}", f"{AGAIN}.") from error
        finally:
            actors.stop()


def imported(address: str) -> Any:
    """Import Ray, with the environment that it reads on import. Raises Unavailable."""
    if not address:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # The ports of a cluster are open to the network. A token protects them; in the environment it leaves
        # no file behind.
        if "ray" not in sys.modules and not TOKENS & os.environ.keys():
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray
    except ImportError as error:
        raise Unavailable("--engine ray needs Ray.", "Install it: pip install 'lsncli[ray]'") from error
    return ray


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """Connect to the cluster at ``address``, or start one that lives as long as this block.

    A program that is connected already keeps its cluster. Raises Unavailable.
    """
    if ray.is_initialized():
        yield
        return
    alone = {"address": "local", "include_dashboard": False, "object_store_memory": STORE_BYTES}
    options = {"address": address} if address else alone
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        what = f"The Ray cluster '{address}' cannot be joined" if address else "Ray does not start here"
        raise Unavailable(f"{what}: {sentence(error)}") from error
    hear_termination()  # in place of Ray's handler, which aborts
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise Unavailable if nothing listens at ``address``: Ray itself would retry for 15 minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise Unavailable(
            f"There is no Ray cluster at '{address}': {error.strerror or error}.",
            "Give --ray-address (or RAY_ADDRESS) as HOST:PORT, or leave it out to use this machine alone.",
        ) from error


def share_of(nodes: list[dict[str, float]], device: str, processes: int, threads: int) -> Share:
    """Return the resources to request from these machines for ``processes`` actors.

    0 means as many as there is room for. Each has at most ``threads`` decoding threads. Raises Unavailable.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    if device == "cuda" and not any(gpus) and not processes:
        raise Unavailable("The Ray cluster has no GPU.", "Use --device cpu, or give --processes to wait.")
    if device == "cuda" or (device == "auto" and any(gpus)):
        beside = min((cpu // gpu for cpu, gpu in zip(cpus, gpus, strict=True) if gpu), default=threads)
        return Share(processes or sum(gpus), min(threads, beside), 1)
    room = threads
    while room > 1 and sum(cpu // room for cpu in cpus) < max(processes, 1):
        room -= 1
    return Share(processes or max(1, sum(cpu // room for cpu in cpus)), room, 0)


class Actors:
    """The ``Workers`` of ``hand_out``: Ray's actors."""

    def __init__(self, ray: Any, job: PartJob, share: Share, device: str) -> None:
        self._ray, self._share = ray, share
        self._post = Post.of(job, device)
        kind = ray.remote(Maker)
        # Three threads: one extracts a part, one reports progress, one receives ``stop``.
        self._kind = kind.options(num_cpus=share.cpus, num_gpus=share.gpus, max_concurrency=3)
        self._actors: list[Any] = []
        self._calls: dict[Any, tuple[int, str]] = {}

    def hire(self) -> None:
        """Start one more actor."""
        actor = self._kind.remote(self._post)
        self._calls[actor.begin.remote()] = (len(self._actors), "begin")
        self._actors.append(actor)

    def give(self, worker: int, index: int, wait: float) -> None:
        """Let a worker make part ``index``; it waits ``wait`` seconds for the lock of the part."""
        self._calls[self._actors[worker].make.remote(index, wait)] = (worker, "make")

    def dismiss(self, worker: int) -> None:
        """End an actor and drop its pending calls."""
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] != worker}
        self._ray.kill(self._actors[worker])

    def news(self) -> tuple[int, News]:
        """Wait for the next answer of a worker, and return both. Raises LsnError if the cluster is lost."""
        ready: list[Any] = []
        checks = 0
        while not ready:
            ready, _ = self._ray.wait(list(self._calls), timeout=LOOK_SECONDS)
            if not ready:
                checks += 1
                self._check_alive(checks * LOOK_SECONDS)
        worker, what = self._calls.pop(ready[0])
        try:
            answer = self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            return worker, Lost(sentence(error))
        if what == "progress":
            self._request_progress(worker)
            return worker, PartProgress(*answer)
        if what == "begin" and answer is None:
            self._request_progress(worker)
            return worker, Ready()
        return worker, answer

    def _check_alive(self, waited: float) -> None:
        """Raise LsnError if the cluster is lost, or has started no actor after ``waited`` seconds."""
        if not any(node["Alive"] for node in self._ray.nodes()):
            raise LsnError("Ray failed: no machine of its cluster is alive any more.", f"{AGAIN}.")
        started = any(what == "progress" for _, what in self._calls.values())
        if not started and waited >= START_SECONDS:
            raise LsnError(
                f"Ray started no process in {START_SECONDS / 60:.0f} minutes; {self._share}.",
                "`ray status` says what the cluster is busy with.",
            )

    def _request_progress(self, worker: int) -> None:
        self._calls[self._actors[worker].progress.remote()] = (worker, "progress")

    def stop(self) -> None:
        """Let busy actors commit their chunks, then end all."""
        making = [ref for ref, (_, what) in self._calls.items() if what == "make"]
        if making:
            for worker, what in self._calls.values():
                if what == "make":
                    self._actors[worker].stop.remote()
            self._ray.wait(making, num_returns=len(making), timeout=STOP_SECONDS)
        for actor in self._actors:
            self._ray.kill(actor)


def sentence(error: Exception) -> str:
    """Return the last line of Ray's message, which has the reason, without colours."""
    lines = [line.strip() for line in ESCAPE.sub("", str(error)).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".") + "."
