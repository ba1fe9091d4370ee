"""Make a split: plan it, have its parts made by this process or by an engine, and finish it.

Processes other than the first list nothing: they wait for the plan (``join``). The workspace's
``results/extract-<split>.json`` records where the time went. It is not in the store: equal features are equal
bytes, however long they took.
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

    The ``rows`` and ``failures`` of their parts; how many images were ``found`` done and ``encoded`` now, on
    which ``devices``, in ``elapsed`` seconds, and where these went; whether the split is ``finished``.
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
    """Of a split that was finished before."""
    return RunResult(0, (), found, 0, 0.0, Seconds(), finished=True)


def plan_of(listing: Listing, classes: Sequence[str], encoder: Encoder, part_rows: int) -> ExtractionPlan:
    """The plan of an extraction: everything that decides on the bytes of the split."""
    names = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape")).hexdigest()
    return ExtractionPlan(
        listing=listing.digest,
        fingerprint=encoder.fingerprint.digest,
        items=len(listing.items),
        dim=encoder.fingerprint.dim,
        batch_size=encoder.batch_size,
        part_rows=part_rows,
        options={"class names": names},
    )


def make_here(
    job: PartJob,
    about: SplitMetadata,
    listing: Listing,
    encoder: Encoder,
    *,
    merge: bool,
    record: Path | None,
    remark: Callable[[str], None],
) -> RunResult:
    """Make every part in this process, which listed the images and has the model.

    ``remark`` gets a sentence for whatever is damaged and made again.
    """
    with split_lock(job.store, job.split):
        if not about.replace and _is_finished(job, about):
            return untouched(len(listing.items))
        folder = prepare_staging(job.store, job.split, job.plan, overwrite=about.replace, remark=remark)
        write_staging(folder, job.plan, about)
        began = time.monotonic()
        done = [work_part(job, index, encoder, listing.items) for index in range(job.plan.parts)]
        elapsed = time.monotonic() - began
        _remark_damage(done, remark)
        if merge:
            _finish(job, about, done, record)
    return _made(done, elapsed, merge)


def make_by(
    group: WorkerGroup,
    job: PartJob,
    about: SplitMetadata,
    listing: Listing,
    *,
    merge: bool,
    record: Path | None,
    progress: console.ProgressCallback,
    remark: Callable[[str], None],
) -> RunResult:
    """Plan, then have the parts made by ``group``, whose processes read what to do from the disk.

    Processes that were started again go on with the plan of their launch, at which some may be at work
    already. Raises LsnError if they could not read the images.
    """
    if reason := shareable(listing):
        raise LsnError(reason, "Unpack it, or extract it with one process (--engine local --processes 1).")
    if group.together and _goes_on(group, job, about, listing):
        return make_share(group, job, merge=merge, record=record, progress=progress, remark=remark)
    with split_lock(job.store, job.split):
        ended = group.again and record is not None and launch_of(record) == group.launch
        if ended if about.replace else _is_finished(job, about):
            return untouched(len(listing.items))
        folder = prepare_staging(job.store, job.split, job.plan, overwrite=about.replace, remark=remark)
        write_manifest(folder, job.plan, listing.items)
        write_staging(folder, job.plan, about, launch=group.launch)
        if not group.together:
            began = time.monotonic()
            done = engine(group)(job, group, progress)
            elapsed = time.monotonic() - began
            _remark_damage(done, remark)
            if merge:
                _finish(job, about, done, record)
            return _made(done, elapsed, merge)
    return make_share(group, job, merge=merge, record=record, progress=progress, remark=remark)


def _is_finished(job: PartJob, about: SplitMetadata) -> bool:
    """Whether other processes have finished the split since this one began."""
    info = find_split(job.store, job.split) if job.store.exists() else None
    return info is not None and (info.listing, info.classes) == (job.plan.listing, about.classes)


def _goes_on(group: WorkerGroup, job: PartJob, about: SplitMetadata, listing: Listing) -> bool:
    """Whether the plan of this very launch is there; then what the others read is written anew if it was
    damaged. Nobody is kept off: processes that were started again may be at work before this one is."""
    with ExitStack() as stack:
        try:
            stack.enter_context(split_lock(job.store, job.split, shared=True, wait=FINISH_WAIT))
            stored = read_plan(job.folder)
        except LsnError:
            return False
        if stored != StoredPlan(job.plan, about.replace, group.launch):
            return False
        write_manifest(job.folder, job.plan, listing.items)
        write_metadata(job.folder, about)
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
    """Make this process's share of a planned split, and finish it if the other shares are there.

    ``remark`` gets a sentence for whatever is damaged and made again.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(split_lock(job.store, job.split, shared=True, wait=FINISH_WAIT))
        except LsnError:
            if not has_all_parts(job.folder, job.plan):
                raise
            return _made([], 0.0, False)  # the others made all of it and are finishing
        if read_plan(job.folder) is None:
            return _made([], 0.0, False)  # they have finished, before this process came to its first part
        began = time.monotonic()
        done = engine(group)(job, group, progress)
        elapsed = time.monotonic() - began
        _remark_damage(done, remark)
    finished = merge and _finish_last(group, job, done, record, remark)
    return _made(done, elapsed, finished)


def _finish_last(
    group: WorkerGroup,
    job: PartJob,
    done: Sequence[PartResult],
    record: Path | None,
    remark: Callable[[str], None],
) -> bool:
    """Finish the split unless others still work: who comes last finds every part, and nobody else at work."""
    if not has_all_parts(job.folder, job.plan):
        return False
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(split_lock(job.store, job.split))
        except LsnError:
            return False
        stored = read_plan(folder)
        if stored is None or stored.plan != job.plan:
            return False  # somebody was quicker
        try:
            _finish(job, read_metadata(folder), done, record, group.launch)
        except LsnError:
            if remove_unsound_parts(folder, job.plan, remark):
                return False  # whose part it is may be yet to come, and makes it anew
            raise
    return True


def _remark_damage(done: Sequence[PartResult], remark: Callable[[str], None]) -> None:
    for text in (text for part in done for text in part.damaged):
        remark(text)


def _finish(
    job: PartJob, about: SplitMetadata, done: Sequence[PartResult], record: Path | None, launch: str = ""
) -> None:
    seconds = sum((part.seconds for part in read_parts(job.folder, job.plan)), Seconds())
    unrecorded = Seconds(write=sum(part.unrecorded for part in done))
    info = finish_split(job.store, job.split, job.plan, about)
    if record is not None:
        write_record(record, info, job.plan, about.fingerprint, seconds + unrecorded, launch)


def _made(done: Sequence[PartResult], elapsed: float, finished: bool) -> RunResult:
    return RunResult(
        rows=sum(one.rows for one in done),
        failures=tuple(failure for one in done for failure in one.failures),
        found=sum(one.found for one in done),
        encoded=sum(one.encoded for one in done),
        elapsed=elapsed,
        seconds=sum((one.seconds for one in done), Seconds()),
        finished=finished,
        devices=tuple(sorted({one.device for one in done if one.encoded})),
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
    """Make this process's share of what process 0 of the same launch plans, and finish it if it comes last.

    The arguments are those of the command, as process 0 has them; ``remark`` is that of ``make_share``.
    Raises LsnError if process 0 plans nothing, FingerprintMismatch if other weights are found here.
    """
    check_split_name(split)
    before = _version(record)

    def finished() -> bool:
        # With static addresses two launches by hand have one name: the record may be that of the last one.
        if launch_of(record) == group.launch and (group.again or not overwrite or _version(record) != before):
            return True
        return not overwrite and store.exists() and find_split(store, split) is not None

    stored = wait_for_plan(store, split, group, finished)
    if stored is None:
        return untouched(0)
    about = read_metadata(parts_folder(store, split))
    job = PartJob(store, split, stored.plan, about.fingerprint, pretrained, workers)
    return make_share(group, job, merge=merge, record=record, progress=progress, remark=remark)


def _version(path: Path) -> tuple[int, int] | None:
    """Which file lies there; every one that is written anew is another."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def write_record(
    path: Path,
    info: SplitInfo,
    plan: ExtractionPlan,
    fingerprint: Fingerprint,
    seconds: Seconds,
    launch: str = "",
) -> None:
    """Write what is known of a finished split, and which launch (``WorkerGroup.launch``) finished it.

    Raises LsnError if that is not possible.

    ``seconds`` are sums over every process and run, also those that were killed, up to their last commit.
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
    """Which launch of processes finished the split that a record is about; "" if nobody knows."""
    try:
        return validate(
            str, validate(dict[str, Any], parse_json(read_own(path, 1 << 20).decode())).get("launch", "")
        )
    except (OSError, ValueError):
        return ""


def merge(store: Path, split: str, *, copy: bool, record: Path) -> SplitInfo:
    """Finish ``split``: its rows stay in part files, or are written into the store (``copy``).

    Without parts, ``copy`` writes into the store what an earlier merge left in part files. Raises LsnError,
    naming it, if a part is missing, torn or foreign, or if there is nothing to merge; then nothing changes.
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
        about = read_metadata(folder)
        there = find_split(store, split) if store.exists() and not about.replace else None
        if there is not None and there.listing == stored.plan.listing:
            remove_parts(store, split)  # a run was killed in its very last step
            return there
        seconds = sum((part.seconds for part in read_parts(folder, stored.plan)), Seconds())
        info = (finish_split if copy else finish_external_split)(store, split, stored.plan, about)
        write_record(record, info, stored.plan, about.fingerprint, seconds)
    return info
