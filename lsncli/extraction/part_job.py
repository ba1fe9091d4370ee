"""The part of an extraction as a unit of work for any process.

The process that lists the images writes a manifest of the items of every part; the other processes read it.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from lsncli import console
from lsncli.backbones import load_again, on_runtime, runtime_of, runtimes_of
from lsncli.credentials import mask_credentials
from lsncli.device import threads
from lsncli.errors import LsnError
from lsncli.extraction.encoder import Encoder
from lsncli.files import read_own, write_own
from lsncli.images.item import Content, ImageItem
from lsncli.images.source_kinds import content_types
from lsncli.store.part import COMMIT_SECONDS, Part
from lsncli.store.staging import RUNTIME, ExtractionPlan, parts_folder
from lsncli.types import Failure, Fingerprint, Seconds
from lsncli.validation import parse_json, validate

AGAIN = "Run the same `lsn extract` again: it writes it anew."

MOST_BYTES = 1 << 32
"""Largest manifest that is read; those of real parts are far smaller."""

Fields = tuple[str, int, str, int | None, int | None, int | None, str | None, int | None]
"""Fields of an ImageItem in order, with the index of its content."""


def manifest_path(folder: Path, index: int) -> Path:
    """Return the path of the manifest of a part."""
    return folder / f"items-{index:06d}.json"


def write_manifest(folder: Path, plan: ExtractionPlan, items: Sequence[ImageItem]) -> None:
    """Write the manifests of all parts; a file with the same content is left alone. Raises LsnError.

    Objects that several items of a part share, such as their tar, are written once. A file with credentials,
    which other processes need to read the images, is readable by its owner only.
    """
    for index in range(plan.parts):
        start, stop = plan.borders(index)
        content = _to_json(items[start:stop])
        data, path = _header(plan, index, content) + content, manifest_path(folder, index)
        if not _has_content(path, data):
            write_own(path, data, private=_has_credentials(items[start:stop]))


def read_manifest(folder: Path, plan: ExtractionPlan, index: int) -> list[ImageItem]:
    """Read the items of part ``index``. Raises LsnError for a missing or damaged file, or another plan's."""
    path = manifest_path(folder, index)
    try:
        line, end, content = read_own(path, MOST_BYTES).partition(b"\n")
    except OSError as error:
        raise LsnError(
            f"{path}, the list of a part's images, cannot be read: {error.strerror or error}.", AGAIN
        ) from error
    try:
        valid = line + end == _header(plan, index, content)
        items = _from_json(parse_json(content.decode())) if valid else []
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise LsnError(f"{path}, images of a part, is damaged: {error}.", AGAIN) from error
    start, stop = plan.borders(index)
    if len(items) != stop - start:
        raise LsnError(f"{path}, images of a part, is damaged or of another extraction.", AGAIN)
    return items


def _has_credentials(items: Sequence[ImageItem]) -> bool:
    contents = {item.content for item in items if item.content is not None}
    return any(mask_credentials(text) != text for text in map(repr, contents))


def _header(plan: ExtractionPlan, index: int, content: bytes) -> bytes:
    """Return the first line: the plan, the part, and the digest of the items."""
    fields = {"plan": plan.digest, "part": index, "sha256": sha256(content).hexdigest()}
    return json.dumps(fields).encode() + b"\n"


def _to_json(items: Sequence[ImageItem]) -> bytes:
    indices: dict[Content, int] = {}
    rows: list[Fields] = []
    for item in items:
        at = None if item.content is None else indices.setdefault(item.content, len(indices))
        rows.append((item.key, item.label, item.path, item.offset, item.size, at, item.member, item.mtime))
    names = {kind: name for name, kind in content_types().items()}
    contents = [{"kind": names[type(content)], **asdict(cast(Any, content))} for content in indices]
    return json.dumps({"contents": contents, "items": rows}).encode()


def _from_json(fields: dict[str, Any]) -> list[ImageItem]:
    kinds = content_types()
    contents: list[Content] = [validate(kinds[row.pop("kind")], row, "content") for row in fields["contents"]]
    return [
        ImageItem(key, path, offset, size, None if at is None else contents[at], member, mtime, label=label)
        for key, label, path, offset, size, at, member, mtime in validate(tuple[Fields, ...], fields["items"])
    ]


def _has_content(path: Path, data: bytes) -> bool:
    try:
        return read_own(path, len(data)) == data
    except OSError:
        return False


@dataclass(frozen=True)
class PartJob:
    """The job of a process that extracts parts of a split; small and picklable.

    ``pretrained`` is the path of the weights if they have moved; ``workers`` is the number of decoding
    threads, 0 for one per core, divided among the processes of a machine.
    """

    store: Path
    split: str
    plan: ExtractionPlan
    fingerprint: Fingerprint
    pretrained: str = ""
    workers: int = 1
    commit_seconds: float = COMMIT_SECONDS

    @property
    def folder(self) -> Path:
        """The folder of the parts."""
        return parts_folder(self.store, self.split)

    def divided(self, processes: int) -> "PartJob":
        """Return the job of each of the ``processes`` of one machine that have parts to extract."""
        return replace(self, workers=self.workers or max(1, threads(0) // max(1, processes)))


@dataclass(frozen=True)
class PartResult:
    """The result of a part.

    ``rows`` and ``failures`` are those of the whole part. ``found`` of its items were encoded by an earlier
    run and ``encoded`` by this one, on ``device``. ``seconds`` are those of this run, ``unrecorded`` those of
    writing that no file records. ``damaged`` has a sentence for each damaged chunk, which was encoded again.
    """

    index: int
    rows: int
    failures: tuple[Failure, ...]
    found: int
    encoded: int
    seconds: Seconds
    unrecorded: float
    device: str = ""
    damaged: tuple[str, ...] = ()


def encoder_for(job: PartJob, device: str, progress: console.ProgressCallback = console.silent) -> Encoder:
    """Load the job's model on ``device``. Raises FingerprintMismatch if the weights differ."""
    backbone = load_again(job.fingerprint, pretrained=job.pretrained, device=device)
    if runtimes_of(backbone)[1:]:  # elsewhere than on a CPU there is no choice
        backbone = on_runtime(backbone, job.plan.options.get(RUNTIME) or runtime_of(backbone))
    return Encoder(backbone, job.plan.batch_size, job.workers, progress)


def work_part(
    job: PartJob,
    index: int,
    encoder: Encoder,
    items: Sequence[ImageItem] | None = None,
    *,
    wait: float = 0.0,
) -> PartResult:
    """Extract part ``index``, or the items missing from it.

    ``items`` are those of the whole listing; without them they are read from the manifest.

    ``encoder.progress`` counts the items found done, then of every batch. What was encoded stays, however
    this ends. Raises LsnError if another process works on the part for ``wait`` seconds, or the extraction
    was started anew.
    """
    with Part.open(job.folder, job.plan, index, commit_seconds=job.commit_seconds, wait=wait) as part:
        resumed = part.next_item - part.start
        encoder.progress(resumed)
        seconds = Seconds()
        if not part.complete:
            own = (
                read_manifest(job.folder, job.plan, index) if items is None else items[part.start : part.stop]
            )
            batches = encoder.stream(own, resumed)
            with closing(batches):
                for batch in batches:
                    seconds += batch.seconds
                    moved = replace(batch, start=batch.start + part.start, stop=batch.stop + part.start)
                    part.add(moved, batch.seconds)
            part.commit()
        return PartResult(
            index=index,
            rows=sum(chunk.rows for chunk in part.chunks),
            failures=tuple(failure for chunk in part.chunks for failure in chunk.failures),
            found=resumed,
            encoded=part.stop - part.start - resumed,
            seconds=seconds + Seconds(write=part.wrote),
            unrecorded=part.unrecorded,
            device=encoder.device,
            damaged=tuple(part.damaged),
        )
