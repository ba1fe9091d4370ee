"""Run an extraction: plan it, extract its parts in this process or with an engine, and finish the split.

Only the first process of a launch lists images; the others wait for its plan (``join``). The workspace's
``results/extract-<split>.json`` records the time spent in each stage. It is not part of the store, where
equal features are equal bytes.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lsncli import __version__, console
from lsncli.errors import LsnError
from lsncli.extraction.encoder import Encoder
from lsncli.extraction.engines import WorkerGroup, engine
from lsncli.extraction.engines.torchrun import wait_for_plan
from lsncli.extraction.part_job import PartJob, PartResult, work_part, write_manifest
from lsncli.files import read_own, write_own
from lsncli.images.item import Listing
from lsncli.images.listing import shareable
from lsncli.store.format import SplitInfo, check_split_name
from lsncli.store.merge import (
    finish_external_split,
    finish_split,
    gather_split,
    has_all_parts,
    read_parts,
    remove_unsound_parts,
)
from lsncli.store.reader import find_split
from lsncli.store.staging import (
    FINISH_WAIT,
    RUNTIME,
    ExtractionPlan,
    SplitMetadata,
    StoredPlan,
    parts_folder,
    prepare_staging,
    read_metadata,
    read_plan,
    remove_parts,
    split_lock,
    write_metadata,
    write_staging,
)
from lsncli.types import Failure, Fingerprint, Seconds
from lsncli.validation import parse_json, validate


@dataclass(frozen=True)
class RunResult:
    """The result of this process and those that it started.

    ``rows`` and ``failures`` are those of their parts. ``found`` images were encoded by an earlier run and
    ``encoded`` by this one, on ``devices``, in ``elapsed`` seconds; ``seconds`` by stage. ``finished`` is
    whether the split is in the store.
    """

    rows: int
    failures: tuple[Failure, ...]
    found: int
    encoded: int
    elapsed: float
    seconds: Seconds
    finished: bool
    devices: tuple[str, ...] = ()


def untouched(found: int) -> RunResult:
    """Return the result for a split that was finished before."""
    return RunResult(0, (), found, 0, 0.0, Seconds(), finished=True)


def plan_of(
    listing: Listing, classes: Sequence[str], encoder: Encoder, part_rows: int, runtime: str
) -> ExtractionPlan:
    """Return the plan of an extraction: everything that the bytes of the split depend on.

    ``runtime`` is that of the image tower, "" for a model without runtimes.
    """
    names = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape")).hexdigest()
    return ExtractionPlan(
        listing=listing.digest,
        fingerprint=encoder.fingerprint.digest,
        items=len(listing.items),
        dim=encoder.fingerprint.dim,
        batch_size=encoder.batch_size,
        part_rows=part_rows,
        options={"class names": names} | ({RUNTIME: runtime} if runtime else {}),
    )


def make_here(
    job: PartJob,
    metadata: SplitMetadata,
    listing: Listing,
    encoder: Encoder,
    *,
    merge: bool,
    record: Path | None,
    remark: Callable[[str], None],
) -> RunResult:
    """Extract every part in this process, which listed the images and has the model.

    ``remark`` is called with a sentence for each damaged chunk, which is encoded again.
    """
    with split_lock(job.store, job.split):
        if not metadata.replace and _is_finished(job, metadata):
            return untouched(len(listing.items))
        folder = prepare_staging(job.store, job.split, job.plan, overwrite=metadata.replace, remark=remark)
        write_staging(folder, job.plan, metadata)
        began = time.monotonic()
        results = [work_part(job, index, encoder, listing.items) for index in range(job.plan.parts)]
        elapsed = time.monotonic() - began
        _remark_damage(results, remark)
        if merge:
            _finish(job, metadata, results, record)
    return _run_result(results, elapsed, merge)


def make_by(
    group: WorkerGroup,
    job: PartJob,
    metadata: SplitMetadata,
    listing: Listing,
    *,
    merge: bool,
    record: Path | None,
    progress: console.ProgressCallback,
    remark: Callable[[str], None],
) -> RunResult:
    """Plan, then extract the parts with the processes of ``group``, which read their jobs from the disk.

    Processes that were restarted resume the plan of their launch, on which others may work already. Raises
    LsnError if they could not read the images.
    """
    if reason := shareable(listing):
        raise LsnError(reason, "Unpack it, or extract it with one process (--engine local --processes 1).")
    if group.together and _resumes(group, job, metadata, listing):
        return make_share(group, job, merge=merge, record=record, progress=progress, remark=remark)
    with split_lock(job.store, job.split):
        is_finished = group.again and record is not None and launch_of(record) == group.launch
        if is_finished if metadata.replace else _is_finished(job, metadata):
            return untouched(len(listing.items))
        folder = prepare_staging(job.store, job.split, job.plan, overwrite=metadata.replace, remark=remark)
        write_manifest(folder, job.plan, listing.items)
        write_staging(folder, job.plan, metadata, launch=group.launch)
        if not group.together:
            began = time.monotonic()
            results = engine(group)(job, group, progress)
            elapsed = time.monotonic() - began
            _remark_damage(results, remark)
            if merge:
                _finish(job, metadata, results, record)
            return _run_result(results, elapsed, merge)
    return make_share(group, job, merge=merge, record=record, progress=progress, remark=remark)


def _is_finished(job: PartJob, metadata: SplitMetadata) -> bool:
    """Whether other processes have finished the split since this one began."""
    info = find_split(job.store, job.split) if job.store.exists() else None
    return info is not None and (info.listing, info.classes) == (job.plan.listing, metadata.classes)


def _resumes(group: WorkerGroup, job: PartJob, metadata: SplitMetadata, listing: Listing) -> bool:
    """Whether the plan of this launch exists; its damaged files are written again.

    The lock is shared: processes that were restarted may work before this one does.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(split_lock(job.store, job.split, shared=True, wait=FINISH_WAIT))
            stored = read_plan(job.folder)
        except LsnError:
            return False
        if stored != StoredPlan(job.plan, metadata.replace, group.launch):
            return False
        write_manifest(job.folder, job.plan, listing.items)
        write_metadata(job.folder, metadata)
        return True


def make_share(
    group: WorkerGroup,
    job: PartJob,
    *,
    merge: bool,
    record: Path | None,
    progress: console.ProgressCallback,
    remark: Callable[[str], None],
) -> RunResult:
    """Extract this process's share of a planned split, and finish the split if the other shares are complete.

    ``remark`` is called with a sentence for each damaged chunk, which is encoded again.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(split_lock(job.store, job.split, shared=True, wait=FINISH_WAIT))
        except LsnError:
            if not has_all_parts(job.folder, job.plan):
                raise
            return _run_result([], 0.0, False)  # the others have all parts and are finishing
        if read_plan(job.folder) is None:
            return _run_result([], 0.0, False)  # they finished before this process began its first part
        began = time.monotonic()
        results = engine(group)(job, group, progress)
        elapsed = time.monotonic() - began
        _remark_damage(results, remark)
    finished = merge and _finish_last(group, job, results, record, remark)
    return _run_result(results, elapsed, finished)


def _finish_last(
    group: WorkerGroup,
    job: PartJob,
    results: Sequence[PartResult],
    record: Path | None,
    remark: Callable[[str], None],
) -> bool:
    """Finish the split if all parts are complete and no other process works on it."""
    if not has_all_parts(job.folder, job.plan):
        return False
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(split_lock(job.store, job.split))
        except LsnError:
            return False
        stored = read_plan(folder)
        if stored is None or stored.plan != job.plan:
            return False  # another process has finished it
        try:
            _finish(job, read_metadata(folder), results, record, group.launch)
        except LsnError:
            if remove_unsound_parts(folder, job.plan, remark):
                return False  # the process whose part it is may still start, and extracts it again
            raise
    return True


def _remark_damage(results: Sequence[PartResult], remark: Callable[[str], None]) -> None:
    for text in (text for part in results for text in part.damaged):
        remark(text)


def _finish(
    job: PartJob,
    metadata: SplitMetadata,
    results: Sequence[PartResult],
    record: Path | None,
    launch: str = "",
) -> None:
    seconds = sum((part.seconds for part in read_parts(job.folder, job.plan)), Seconds())
    unrecorded = Seconds(write=sum(part.unrecorded for part in results))
    info = finish_split(job.store, job.split, job.plan, metadata)
    if record is not None:
        write_record(record, info, job.plan, metadata.fingerprint, seconds + unrecorded, launch)


def _run_result(results: Sequence[PartResult], elapsed: float, finished: bool) -> RunResult:
    return RunResult(
        rows=sum(part.rows for part in results),
        failures=tuple(failure for part in results for failure in part.failures),
        found=sum(part.found for part in results),
        encoded=sum(part.encoded for part in results),
        elapsed=elapsed,
        seconds=sum((part.seconds for part in results), Seconds()),
        finished=finished,
        devices=tuple(sorted({part.device for part in results if part.encoded})),
    )


def join(
    group: WorkerGroup,
    *,
    store: Path,
    split: str,
    pretrained: str = "",
    workers: int = 4,
    overwrite: bool = False,
    merge: bool = True,
    record: Path,
    progress: console.ProgressCallback = console.silent,
    remark: Callable[[str], None] = lambda text: None,
) -> RunResult:
    """Extract this process's share of the plan of process 0; the last process finishes the split.

    The arguments are those of the command, the same as in process 0; ``remark`` is that of ``make_share``.
    Raises LsnError if process 0 writes no plan, FingerprintMismatch if the weights differ.
    """
    check_split_name(split)
    before = _version(record)

    def finished() -> bool:
        # With static addresses two manual launches have the same name: the record may be of the previous one.
        if launch_of(record) == group.launch and (group.again or not overwrite or _version(record) != before):
            return True
        return not overwrite and store.exists() and find_split(store, split) is not None

    stored = wait_for_plan(store, split, group, finished)
    if stored is None:
        return untouched(0)
    metadata = read_metadata(parts_folder(store, split))
    job = PartJob(store, split, stored.plan, metadata.fingerprint, pretrained, workers)
    return make_share(group, job, merge=merge, record=record, progress=progress, remark=remark)


def _version(path: Path) -> tuple[int, int] | None:
    """Return the inode and time of a file, which change when it is written again; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def write_record(
    path: Path,
    info: SplitInfo,
    plan: ExtractionPlan,
    fingerprint: Fingerprint,
    seconds: Seconds,
    launch: str = "",
) -> None:
    """Write the record of a finished split, with the launch (``WorkerGroup.launch``) that finished it.

    ``seconds`` are sums over every process and run, including killed ones up to their last commit. Raises
    LsnError if the file cannot be written.
    """
    content = {
        "split": info.name,
        "rows": info.rows,
        "failures": len(info.failures),
        "model": str(fingerprint),
        "plan": plan.digest,
        "parts": plan.parts,
        "part_rows": plan.part_rows,
        "batch_size": plan.batch_size,
        "seconds": {stage: round(value, 3) for stage, value in asdict(seconds).items()},
        "launch": launch,
        "lsn": __version__,
    }
    write_own(path, (json.dumps(content, indent=1) + "\n").encode())


def launch_of(path: Path) -> str:
    """Return the launch that finished the split, from its record; "" if it is unknown."""
    try:
        return validate(
            str, validate(dict[str, Any], parse_json(read_own(path, 1 << 20).decode())).get("launch", "")
        )
    except (OSError, ValueError):
        return ""


def merge(store: Path, split: str, *, copy: bool, record: Path) -> SplitInfo:
    """Finish ``split``: its rows stay in part files, or are written into the store (``copy``).

    Without parts, ``copy`` writes the rows that an earlier merge left in part files into the store. Raises
    LsnError, and changes nothing, if a part is missing, damaged or of another plan, or if there are no parts.
    """
    check_split_name(split)
    with split_lock(store, split) as folder:
        stored = read_plan(folder)
        if stored is None:
            if copy and store.exists() and find_split(store, split) is not None:
                return gather_split(store, split)
            raise LsnError(
                f"There are no parts of split '{split}' in {folder}.",
                "Make them with `lsn extract --no-merge`; --split names another split.",
            )
        metadata = read_metadata(folder)
        finished = find_split(store, split) if store.exists() and not metadata.replace else None
        if finished is not None and finished.listing == stored.plan.listing:
            remove_parts(store, split)  # a run was killed in its last step
            return finished
        seconds = sum((part.seconds for part in read_parts(folder, stored.plan)), Seconds())
        info = (finish_split if copy else finish_external_split)(store, split, stored.plan, metadata)
        write_record(record, info, stored.plan, metadata.fingerprint, seconds)
    return info
