"""Extract features into a store: resumable, with every failure recorded, and no image encoded twice.

Also checks the fraction of failures that a command tolerates (``--max-failure-rate``).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsncli import console
from lsncli.backbones import Backbone, on_runtime, runtime_of, runtimes_of, text_ids_of
from lsncli.backbones.runtime_choice import for_images
from lsncli.console import printable
from lsncli.device import INT8, threads
from lsncli.errors import LsnError, TooManyFailures, Unavailable, UsageError
from lsncli.extraction.encoder import Encoder
from lsncli.extraction.engines import WorkerGroup
from lsncli.extraction.int8_agreement import check_int8
from lsncli.extraction.part_job import PartJob
from lsncli.extraction.reuse import ReusingEncoder, retry_failures
from lsncli.extraction.runner import RunResult, make_by, make_here, plan_of, untouched
from lsncli.images.class_names import classes_of
from lsncli.images.item import Listing
from lsncli.images.listing import check_not_empty
from lsncli.store.format import SplitInfo, check_split_name
from lsncli.store.part import COMMIT_SECONDS
from lsncli.store.reader import find_split, read_fingerprint
from lsncli.store.staging import (
    OVERWRITE_HINT,
    RUNTIME,
    ExtractionPlan,
    SplitMetadata,
    part_rows_for,
    parts_folder,
    read_plan,
    remove_parts,
    split_lock,
    unfinished_plan,
)
from lsncli.store.writer import check_same_model
from lsncli.types import Failure, Fingerprint, Seconds

SHOWN = 3


def check_failures(
    failed: int,
    total: int,
    allowed: float,
    *,
    things: str = "images",
    examples: Sequence[Failure] = (),
    hint: str,
) -> None:
    """Raise TooManyFailures if more than the fraction ``allowed`` of ``total`` things ``failed``.

    The message names up to three ``examples``; ``hint`` says where the others are, and what to do.
    """
    if failed <= allowed * total:
        return
    first = "; ".join(f"{failure.key}: {failure.reason}" for failure in examples[:SHOWN])
    more = "; ..." if len(examples) > SHOWN else ""
    raise TooManyFailures(
        f"{failed} of {total} {things} failed, more than the allowed {allowed:.1%}"
        f"{f' ({printable(first)}{more})' if first else ''}.",
        hint,
    )


def check_split(info: SplitInfo, allowed: float, store: Path) -> None:
    """Check the failures of a finished split in ``store`` as ``check_failures`` does."""
    check_failures(
        len(info.failures),
        info.rows + len(info.failures),
        allowed,
        examples=info.failures,
        hint=f"The other {info.rows} are in {store}. Repair the images and run `lsn extract` again with "
        "--retry-failed, or raise --max-failure-rate.",
    )


@dataclass(frozen=True)
class Extraction:
    """The result of ``lsn extract``.

    ``rows`` and ``failures`` are those of the finished split, or of the parts extracted here if it is not
    ``finished``; ``resumed`` images were encoded by an earlier run (all of them if the split was ``already``
    complete); ``seconds`` by stage, summed over threads and processes, ``images_per_second`` and ``devices``
    are those of this run.
    """

    split: str
    rows: int
    resumed: int
    failures: tuple[Failure, ...]
    seconds: Seconds
    images_per_second: float
    already: bool
    finished: bool
    devices: tuple[str, ...] = ()
    runtime: str = ""
    """The runtime of the image tower; "" for a model without runtimes."""


def extract(
    listing: Listing,
    *,
    source: str,
    store: Path,
    split: str,
    backbone: Backbone,
    batch_size: int = 64,
    workers: int = 4,
    names_file: Path | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    max_failure_rate: float = 0.05,
    commit_seconds: float = COMMIT_SECONDS,
    part_rows: int = 0,
    merge: bool = True,
    group: WorkerGroup | None = None,
    record: Path | None = None,
    known: Mapping[str, NDArray[np.float16]] | None = None,
    progress: console.ProgressCallback = console.silent,
    remark: Callable[[str], None] = lambda text: None,
) -> Extraction:
    """Encode the images of ``listing``, which came from ``source``, into one split of ``store``.

    An unfinished run is resumed, a finished one of the same images is left alone, and one of other images is
    an error unless ``overwrite``. ``retry_failed`` reads only the recorded failures of a finished split
    again. ``max_failure_rate`` is a fraction of all images: above it the split is still written completely,
    and then TooManyFailures is raised. A part has ``part_rows`` images (0: up to 65,536, and work for every
    process); a ``group`` extracts them in other processes; without ``merge`` they are left as parts.
    ``record`` is the file for the time spent in each stage. ``known`` are features by key to reuse (without a
    ``group``). ``progress`` is called with the number of resumed images first, then with that of every
    batch; ``remark`` is called with sentences about the source of class names, images without a class,
    damaged chunks that are encoded again, and too few parts. Other errors: UsageError,
    FingerprintMismatch, LsnError. After a KeyboardInterrupt the encoded batches are kept.
    """
    check_split_name(split)
    if not 0 <= max_failure_rate <= 1:
        raise UsageError(f"--max-failure-rate: expected a fraction from 0 to 1, found {max_failure_rate}.")
    source = console.printable(source)[:4000]
    check_not_empty(listing, source)
    classes = classes_of(listing, names_file, text_ids=text_ids_of(backbone), remark=remark)

    def encoder_of(backbone: Backbone) -> Encoder:
        if known:
            return ReusingEncoder(backbone, batch_size, threads(workers), progress, known)
        return Encoder(backbone, batch_size, threads(workers), progress)

    encoder = encoder_of(backbone)
    # A split that is replaced may be damaged: it is not read.
    reads_split = retry_failed or not overwrite
    complete = _finished_split(store, split, encoder.fingerprint, reads_split)
    if retry_failed:
        if complete is None:
            raise LsnError(
                f"{store} has no finished split '{split}', so there are no failures to read again.",
                "Run the same command without --retry-failed.",
            )
        result = _retry(store, split, listing, classes, encoder, source)
    elif complete is not None and not overwrite:
        _check_same_images(store, complete, listing, classes)
        if parts_folder(store, split).parent.exists():  # a run was killed in its very last steps
            with split_lock(store, split):
                remove_parts(store, split)
        result = untouched(len(listing.items))
        progress(result.found)
    else:
        about = SplitMetadata(encoder.fingerprint, classes, listing.problems, source, replace=overwrite)
        planned = _planned_runtime(parts_folder(store, split), overwrite)
        encoder = encoder_of(_on_planned_runtime(backbone, planned, len(listing.items), remark))
        if planned is None and encoder.fingerprint.precision == INT8:
            check_int8(backbone, listing.items, classes, remark)
        runtime = "" if planned == "" else encoder.runtime  # as the plan of an older version
        plan = plan_of(listing, classes, encoder, part_rows_for(batch_size, part_rows), runtime)
        if not part_rows:
            plan = _with_parts_for(group, plan, parts_folder(store, split), overwrite, remark)
        pretrained = encoder.fingerprint.pretrained
        job = PartJob(store, split, plan, encoder.fingerprint, pretrained, workers, commit_seconds)
        if group is None:
            result = make_here(job, about, listing, encoder, merge=merge, record=record, remark=remark)
        else:
            result = make_by(
                group, job, about, listing, merge=merge, record=record, progress=progress, remark=remark
            )
    info = find_split(store, split) if result.finished else None
    if info is not None:
        check_split(info, max_failure_rate, store)
    return Extraction(
        split=split,
        rows=info.rows if info else result.rows,
        resumed=result.found,
        failures=info.failures if info else result.failures,
        seconds=result.seconds,
        images_per_second=result.encoded / result.elapsed if result.elapsed else 0.0,
        already=complete is not None and not overwrite and not retry_failed,
        finished=result.finished,
        devices=result.devices,
        runtime=encoder.runtime,
    )


def _planned_runtime(folder: Path, overwrite: bool) -> str | None:
    """Return the runtime of an unfinished extraction; "" if its plan names none, None if there is no plan."""
    with suppress(LsnError):  # a damaged plan is replaced
        stored = read_plan(folder)
        if stored is not None and stored.overwrite == overwrite:
            return stored.plan.options.get(RUNTIME, "")
    return None


def _on_planned_runtime(
    backbone: Backbone, planned: str | None, images: int, remark: Callable[[str], None]
) -> Backbone:
    """Return the backbone with the runtime of an unfinished extraction, or the best one for a new one.

    A runtime that was asked for stays. ``remark`` is called with a sentence if one was chosen by measurement.
    Raises Unavailable if the planned one is not available here.
    """
    if not runtimes_of(backbone)[1:]:
        return backbone
    if planned is not None:
        try:
            return on_runtime(backbone, planned or runtime_of(backbone))
        except Unavailable as error:
            raise Unavailable(
                f"The unfinished extraction uses the runtime {planned}. {error.message}", OVERWRITE_HINT
            ) from error
    chosen = for_images(backbone, images)
    if chosen is not backbone:
        remark(f"Runtime {runtime_of(chosen)}: the fastest one here, by a self-test.")
        return chosen
    return on_runtime(backbone, runtime_of(backbone))


def _with_parts_for(
    group: WorkerGroup | None,
    plan: ExtractionPlan,
    folder: Path,
    overwrite: bool,
    remark: Callable[[str], None],
) -> ExtractionPlan:
    """Return the plan with parts for every process of ``group``, or as large as those in ``folder``."""
    processes = group.expected if group is not None else 1
    rows = part_rows_for(plan.batch_size, items=plan.items, processes=processes)
    plan = replace(plan, part_rows=rows)
    started = unfinished_plan(folder, plan, overwrite)
    if started is None:
        return plan
    if started.parts < min(processes, plan.parts):
        remark(
            f"The unfinished extraction has {started.parts} part{'s' * (started.parts > 1)}, so no more of "
            f"the {processes} processes have work; --overwrite begins again with smaller ones."
        )
    return started


def _retry(
    store: Path, split: str, listing: Listing, classes: tuple[str, ...], encoder: Encoder, source: str
) -> RunResult:
    began = time.monotonic()
    resumed = retry_failures(store, split, listing, classes, encoder, source)
    elapsed = time.monotonic() - began
    return replace(
        untouched(resumed),
        encoded=encoder.images,
        elapsed=elapsed,
        seconds=encoder.seconds,
        devices=(encoder.device,),
    )


def _finished_split(store: Path, split: str, fingerprint: Fingerprint, reads_split: bool) -> SplitInfo | None:
    """Return the finished split; None if there is none, or without ``reads_split``.

    Raises FingerprintMismatch before any work is done.
    """
    if not store.exists():
        return None
    check_same_model(store, read_fingerprint(store), fingerprint)
    return find_split(store, split) if reads_split else None


def _check_same_images(store: Path, complete: SplitInfo, listing: Listing, classes: tuple[str, ...]) -> None:
    if complete.listing != listing.digest:
        before, now = complete.rows + len(complete.failures), len(listing.items) + len(listing.problems)
        retry = " If only failed images were repaired, use --retry-failed." if complete.failures else ""
        raise LsnError(
            f"{store} has a split '{complete.name}' of other images: {before} then, {now} now, and their "
            "names, classes or sizes differ.",
            f"Replace it with --overwrite, or choose another name with --split.{retry}",
        )
    for old, new in zip_longest(complete.classes, classes, fillvalue=""):
        if old != new:
            raise LsnError(
                f"The split '{complete.name}' of {store} has other class names: '{old}' then, '{new}' now.",
                "Give the same --classes file, or replace the split with --overwrite.",
            )
