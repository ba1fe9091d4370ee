"""One part of an extraction as a piece of work that any process can do, alone or beside others."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from lsncli import console
from lsncli.app.encode import Encoder
from lsncli.app.manifest import read_manifest
from lsncli.backbones import load_again
from lsncli.images.sources import ImageItem
from lsncli.store.part import COMMIT_SECONDS, Part
from lsncli.store.parts import parts_folder
from lsncli.store.plan import Plan
from lsncli.types import Failure, Fingerprint, Seconds


@dataclass(frozen=True)
class Job:
    """What a process must know to make parts of a split; small, and it can be sent (pickled).

    ``pretrained`` is where the weights are if not where the fingerprint says; ``workers`` decoding threads.
    """

    store: Path
    split: str
    plan: Plan
    fingerprint: Fingerprint
    pretrained: str = ""
    workers: int = 1
    commit_seconds: float = COMMIT_SECONDS

    @property
    def folder(self) -> Path:
        """Where the parts lie."""
        return parts_folder(self.store, self.split)


@dataclass(frozen=True)
class PartDone:
    """What became of a part: its ``rows`` and ``failures``; how many of its items were ``found`` done and how
    many were ``encoded`` now, and on which ``device``; the seconds of this run, and those of writing that no
    file tells of; and a sentence for each piece that was ``damaged`` and made again."""

    index: int
    rows: int
    failures: tuple[Failure, ...]
    found: int
    encoded: int
    seconds: Seconds
    unrecorded: float
    device: str = ""
    damaged: tuple[str, ...] = ()


def encoder_for(job: Job, device: str, tick: console.Tick = console.silent) -> Encoder:
    """The job's model on ``device``. Raises FingerprintMismatch if other weights are found here."""
    backbone = load_again(job.fingerprint, pretrained=job.pretrained, device=device)
    return Encoder(backbone, job.plan.batch_size, job.workers, tick)


def work_part(
    job: Job,
    index: int,
    encoder: Encoder,
    items: Sequence[ImageItem] | None = None,
    *,
    wait: float = 0.0,
) -> PartDone:
    """Make part ``index``, or what is missing of it. ``items`` are those of the whole listing; without them
    they are read from the manifest.

    ``encoder.tick`` hears of the items found done, then of every batch. What was encoded stays, however this
    ends. Raises LsnError if another process works on the part for ``wait`` seconds, or the extraction was
    started anew.
    """
    with Part.open(job.folder, job.plan, index, commit_seconds=job.commit_seconds, wait=wait) as part:
        found = part.done - part.start
        encoder.tick(found)
        seconds = Seconds()
        if not part.complete:
            own = (
                read_manifest(job.folder, job.plan, index) if items is None else items[part.start : part.stop]
            )
            batches = encoder.stream(own, found)
            with closing(batches):
                for batch in batches:
                    seconds += batch.seconds
                    moved = replace(batch, start=batch.start + part.start, stop=batch.stop + part.start)
                    part.add(moved, batch.seconds)
            part.commit()
        return PartDone(
            index=index,
            rows=sum(piece.rows for piece in part.pieces),
            failures=tuple(failure for piece in part.pieces for failure in piece.failures),
            found=found,
            encoded=part.stop - part.start - found,
            seconds=seconds + Seconds(write=part.wrote),
            unrecorded=part.unrecorded,
            device=encoder.device,
            damaged=tuple(part.damaged),
        )
