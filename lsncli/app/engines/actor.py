"""What an actor of the engine ``ray`` does, on whatever machine: load the model once, then make parts."""

import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lsncli import __version__
from lsncli.app.encode import Encoder
from lsncli.app.engines.serving import Broken, broken
from lsncli.app.job import Job, PartDone, encoder_for, work_part
from lsncli.app.manifest import read_manifest
from lsncli.errors import LsnError

HEAR_SECONDS = 0.5
"""How often an actor says how far it is."""


class Stopped(Exception):
    """The actor was told to stop."""


@dataclass(frozen=True)
class Post:
    """What an actor is sent: the job, the device to compute on, and what must be alike where it works.

    ``folder`` is the working folder of the command: paths may be relative to it. ``seen`` are files that the
    command sees: the plan, the first image and the last.
    """

    job: Job
    device: str
    folder: Path
    seen: tuple[str, ...]
    version: str = __version__

    @classmethod
    def of(cls, job: Job, device: str) -> "Post":
        """The post of actors that make parts of ``job``, which is planned. Raises LsnError."""
        first = read_manifest(job.folder, job.plan, 0)[0]
        last = read_manifest(job.folder, job.plan, job.plan.parts - 1)[-1]
        files = (str(job.folder / "plan.json"), first.path, last.path)
        return cls(job, device, Path.cwd(), tuple(file for file in files if os.path.exists(file)))


class Maker:
    """An actor. Each method may be called while another is under way; errors are values."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._encoder: Encoder | None = None
        self._at = (-1, 0)
        self._stop = threading.Event()

    def begin(self) -> Broken | None:
        """Load the model; None if that went well."""
        try:
            check_sight(self._post)
            self._encoder = encoder_for(self._post.job, self._post.device, self._tick)
        except Exception as error:
            return broken(error)
        return None

    def make(self, index: int, wait: float) -> PartDone | Broken:
        """Make part ``index``; ``wait`` seconds for the lock of somebody else who worked on it."""
        try:
            if self._encoder is None:
                raise LsnError("A process was to make a part before it had a model.")
            self._at = (index, 0)
            return work_part(self._post.job, index, self._encoder, wait=wait)
        except Exception as error:
            return broken(error)

    def progress(self) -> tuple[int, int]:
        """After a moment: the part at work, and how many of its images are done."""
        time.sleep(HEAR_SECONDS)
        return self._at

    def stop(self) -> None:
        """Stop behind the present batch; what is done is committed."""
        self._stop.set()

    def _tick(self, step: int, note: str = "") -> None:
        if self._stop.is_set():
            raise Stopped
        index, images = self._at
        self._at = (index, images + step)


def check_sight(post: Post) -> None:
    """Work in the folder of the command. Raises LsnError if this machine is not like the one it was given on:
    then every image of a part would be noted as unreadable."""
    host = socket.gethostname()
    if post.version != __version__:
        raise LsnError(
            f"The machine '{host}' has lsn {__version__}, the one that plans has {post.version}.",
            "Install the same version on all machines of the cluster.",
        )
    for path in (str(post.folder), *post.seen):
        if not os.path.exists(os.path.join(post.folder, path)):
            raise LsnError(
                f"The machine '{host}' does not see {path}.",
                "Images, --work and the folder where lsn is started need the same paths on every machine.",
            )
    os.chdir(post.folder)
