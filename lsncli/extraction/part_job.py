"""One part of an extraction as a unit of work that any process can do.

The process that listed the images writes the items of every part to disk; the others read them there.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from lsncli import console
from lsncli.backbones import load_again
from lsncli.credentials import masked
from lsncli.errors import LsnError
from lsncli.extraction.encoder import Encoder
from lsncli.files import read_own, write_own
from lsncli.images.item import Content, ImageItem
from lsncli.images.source_kinds import content_types
from lsncli.store.part import COMMIT_SECONDS, Part
from lsncli.store.staging import ExtractionPlan, parts_folder
from lsncli.types import Failure, Fingerprint, Seconds
from lsncli.validation import parse_json, validate

AGAIN = "Run the same `lsn extract` again: it writes it anew."

MOST_BYTES = 1 << 32
"""Of a part's list: no part that can be encoded comes near it."""

Fields = tuple[str, int, str, int | None, int | None, int | None, str | None, int | None]
"""Those of an ImageItem in order, its content by number."""


def manifest_path(folder: Path, index: int) -> Path:
    """Where the items of a part are written."""
    return folder / f"items-{index:06d}.json"


def write_manifest(folder: Path, plan: ExtractionPlan, items: Sequence[ImageItem]) -> None:
    """Write the items of all parts; a file that says the same already is left alone. Raises LsnError.

    Objects that several items of a part share, such as the tar they lie in, are written once. Only the owner
    can read a file with credentials, which other processes need to read the images.
    """
    for index in range(plan.parts):
        start, stop = plan.borders(index)
        content = _written(items[start:stop])
        whole, path = _head(plan, index, content) + content, manifest_path(folder, index)
        if not _says(path, whole):
            write_own(path, whole, private=_has_credentials(items[start:stop]))


def read_manifest(folder: Path, plan: ExtractionPlan, index: int) -> list[ImageItem]:
    """The items of part ``index``. Raises LsnError for a file that is missing, torn or of another plan."""
    path = manifest_path(folder, index)
    try:
        line, end, content = read_own(path, MOST_BYTES).partition(b"\n")
    except OSError as error:
        raise LsnError(
            f"{path}, the list of a part's images, cannot be read: {error.strerror or error}.", AGAIN
        ) from error
    try:
        sound = line + end == _head(plan, index, content)
        items = _read(parse_json(content.decode())) if sound else []
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise LsnError(f"{path}, images of a part, is damaged: {error}.", AGAIN) from error
    start, stop = plan.borders(index)
    if len(items) != stop - start:
        raise LsnError(f"{path}, images of a part, is damaged or of another extraction.", AGAIN)
    return items


def _has_credentials(items: Sequence[ImageItem]) -> bool:
    contents = {one.content for one in items if one.content is not None}
    return any(masked(text) != text for text in map(repr, contents))


def _head(plan: ExtractionPlan, index: int, content: bytes) -> bytes:
    """The first line: whose items follow, and what they must be."""
    head = {"plan": plan.digest, "part": index, "sha256": sha256(content).hexdigest()}
    return json.dumps(head).encode() + b"\n"


def _written(items: Sequence[ImageItem]) -> bytes:
    number: dict[Content, int] = {}
    rows: list[Fields] = []
    for one in items:
        at = None if one.content is None else number.setdefault(one.content, len(number))
        rows.append((one.key, one.label, one.path, one.offset, one.size, at, one.member, one.mtime))
    names = {made: name for name, made in content_types().items()}
    written = [{"kind": names[type(one)], **asdict(cast(Any, one))} for one in number]
    return json.dumps({"contents": written, "items": rows}).encode()


def _read(whole: dict[str, Any]) -> list[ImageItem]:
    known = content_types()
    holding: list[Content] = [validate(known[one.pop("kind")], one, "content") for one in whole["contents"]]
    return [
        ImageItem(key, path, offset, size, None if at is None else holding[at], member, mtime, label=label)
        for key, label, path, offset, size, at, member, mtime in validate(tuple[Fields, ...], whole["items"])
    ]


def _says(path: Path, whole: bytes) -> bool:
    try:
        return read_own(path, len(whole)) == whole
    except OSError:
        return False


@dataclass(frozen=True)
class PartJob:
    """What a process must know to make parts of a split; small, and it can be sent (pickled).

    ``pretrained`` is where the weights are if not where the fingerprint says; ``workers`` decoding threads.
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
        """Where the parts lie."""
        return parts_folder(self.store, self.split)


@dataclass(frozen=True)
class PartResult:
    """The result of a part.

    Its ``rows`` and ``failures``; how many of its items were ``found`` done and how many were ``encoded``
    now, and on which ``device``; the seconds of this run, and those of writing that no file records; and a
    sentence for each chunk that was ``damaged`` and made again.
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
    """The job's model on ``device``. Raises FingerprintMismatch if other weights are found here."""
    backbone = load_again(job.fingerprint, pretrained=job.pretrained, device=device)
    return Encoder(backbone, job.plan.batch_size, job.workers, progress)


def work_part(
    job: PartJob,
    index: int,
    encoder: Encoder,
    items: Sequence[ImageItem] | None = None,
    *,
    wait: float = 0.0,
) -> PartResult:
    """Make part ``index``, or what is missing of it.

    ``items`` are those of the whole listing; without them they are read from the manifest.

    ``encoder.progress`` counts the items found done, then of every batch. What was encoded stays, however
    this ends. Raises LsnError if another process works on the part for ``wait`` seconds, or the extraction
    was started anew.
    """
    with Part.open(job.folder, job.plan, index, commit_seconds=job.commit_seconds, wait=wait) as part:
        found = part.next_item - part.start
        encoder.progress(found)
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
        return PartResult(
            index=index,
            rows=sum(chunk.rows for chunk in part.chunks),
            failures=tuple(failure for chunk in part.chunks for failure in chunk.failures),
            found=found,
            encoded=part.stop - part.start - found,
            seconds=seconds + Seconds(write=part.wrote),
            unrecorded=part.unrecorded,
            device=encoder.device,
            damaged=tuple(part.damaged),
        )
