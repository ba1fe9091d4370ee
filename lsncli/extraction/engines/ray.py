"""Ray as a scheduler of parts: actors on the machines of a cluster, each with a GPU where there are any.

Ray sees numbers of parts come and go, never an image or a feature: these lie in folders that all machines
share. What becomes of a part when an actor or its machine is lost is said in ``handing``.
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
from lsncli.errors import LsnError, Unavailable, UsageError
from lsncli.extraction.engines import EngineRequest, WorkerGroup
from lsncli.extraction.engines.ray_actors import AGAIN, Lost, Maker, News, PartProgress, Post, Ready, hand_out
from lsncli.extraction.part_job import PartJob, PartResult
from lsncli.signals import hear_termination

START_SECONDS = 900.0
"""How long a cluster may take to start the first actor: some start machines first."""

LOOK_SECONDS = 5.0
"""How often, while nothing comes from actors, to look whether the cluster is still there."""

STOP_SECONDS = 30.0
"""How long actors may take to commit what they have when they are told to stop."""

CONNECT_SECONDS = 10.0
"""How long a cluster may take to answer at its address."""

STORE_BYTES = 100 * 2**20
"""Of Ray's object store where Ray is started for this run alone: nothing large goes through it."""

TOKENS = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
"""Whoever set one of these has decided how Ray knows its own."""


@dataclass(frozen=True)
class Share:
    """How many actors, and how many ``cpus`` and ``gpus`` each asks for."""

    actors: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"each asks for {self.cpus} CPUs" + (f" and {self.gpus} GPU" if self.gpus else "")


def group_of(asked: EngineRequest) -> WorkerGroup:
    """The actors that were asked for; raises as ``group_from``."""
    return group_from(asked.processes, asked.device, asked.address)


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
    _check_there(address)
    return WorkerGroup("ray", processes, device, address=address)


def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
    """An ``Engine``: all parts, by actors of the cluster at ``group.address``, or of one started here for it.

    ``group.processes`` 0: as many as it has GPUs, else as many as its CPUs have room for. Raises Unavailable
    without Ray, without the cluster or without GPUs that were asked for; otherwise as ``hand_out``.
    """
    ray = imported(group.address)
    with console.only_ours(), connected(ray, group.address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = share_of(nodes, group.device, group.processes, job.workers)
        device = "cuda" if share.gpus else group.device
        actors = Actors(ray, replace(job, workers=max(1, share.cpus)), share, device)
        try:
            return hand_out(job.plan.parts, actors, share.actors, progress)
        except ray.exceptions.RayError as error:
            raise LsnError(f"Ray failed: {sentence(error)}", f"{AGAIN}.") from error
        finally:
            actors.stop()


def imported(address: str) -> Any:
    """Ray, which reads the environment when it is imported. Raises Unavailable."""
    if not address:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # The ports of a cluster are open to whoever reaches this machine. A token keeps them out; in the
        # environment it leaves no file behind.
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


def _check_there(address: str) -> None:
    """Raise Unavailable if nobody listens at ``address``: Ray would go on asking for a quarter of an hour."""
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
    """Return what to ask of machines with these resources for ``processes`` actors.

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
        # Three threads: one makes a part, one says how far it is, one can be told to stop.
        self._kind = kind.options(num_cpus=share.cpus, num_gpus=share.gpus, max_concurrency=3)
        self._actors: list[Any] = []
        self._asked: dict[Any, tuple[int, str]] = {}

    def hire(self) -> None:
        """Start one more actor."""
        actor = self._kind.remote(self._post)
        self._asked[actor.begin.remote()] = (len(self._actors), "begin")
        self._actors.append(actor)

    def give(self, worker: int, index: int, wait: float) -> None:
        """Let a worker make part ``index``; it waits ``wait`` seconds for the lock of the part."""
        self._asked[self._actors[worker].make.remote(index, wait)] = (worker, "make")

    def dismiss(self, worker: int) -> None:
        """End a worker and forget what it was asked."""
        self._asked = {ref: about for ref, about in self._asked.items() if about[0] != worker}
        self._ray.kill(self._actors[worker])

    def news(self) -> tuple[int, News]:
        """Wait for the next answer of a worker, and return both. Raises LsnError if the cluster is lost."""
        found: list[Any] = []
        looks = 0
        while not found:
            found, _ = self._ray.wait(list(self._asked), timeout=LOOK_SECONDS)
            if not found:
                looks += 1
                self._check_there(looks * LOOK_SECONDS)
        worker, what = self._asked.pop(found[0])
        try:
            answer = self._ray.get(found[0])
        except self._ray.exceptions.RayError as error:
            return worker, Lost(sentence(error))
        if what == "progress":
            self._listen(worker)
            return worker, PartProgress(*answer)
        if what == "begin" and answer is None:
            self._listen(worker)
            return worker, Ready()
        return worker, answer

    def _check_there(self, waited: float) -> None:
        """Raise LsnError if the cluster is gone, or started nothing in the seconds ``waited``."""
        if not any(node["Alive"] for node in self._ray.nodes()):
            raise LsnError("Ray failed: no machine of its cluster is alive any more.", f"{AGAIN}.")
        hands = any(what == "progress" for _, what in self._asked.values())
        if not hands and waited >= START_SECONDS:
            raise LsnError(
                f"Ray started no process in {START_SECONDS / 60:.0f} minutes; {self._share}.",
                "`ray status` says what the cluster is busy with.",
            )

    def _listen(self, worker: int) -> None:
        self._asked[self._actors[worker].progress.remote()] = (worker, "progress")

    def stop(self) -> None:
        """Let those at work commit what they have, then end all."""
        making = [ref for ref, (_, what) in self._asked.items() if what == "make"]
        if making:
            for worker, what in self._asked.values():
                if what == "make":
                    self._actors[worker].stop.remote()
            self._ray.wait(making, num_returns=len(making), timeout=STOP_SECONDS)
        for actor in self._actors:
            self._ray.kill(actor)


def sentence(error: Exception) -> str:
    """The end of what Ray says, which is the reason where it says much; its colours are left out."""
    lines = [line.strip() for line in ESCAPE.sub("", str(error)).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".") + "."
