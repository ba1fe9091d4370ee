"""Finish a split whose parts exist already, whatever engine made them, and record where the time went.

The record is ``results/extract-<split>.json`` of a workspace. It lies beside the store and not in it: equal
features are equal bytes, however long they took.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lsncli import __version__
from lsncli.errors import LsnError
from lsncli.files import read_own, write_own
from lsncli.store.format import SplitInfo, check_split_name
from lsncli.store.merge import finish_external_split, finish_split, gather_split, read_parts
from lsncli.store.reader import find_split
from lsncli.store.staging import ExtractionPlan, read_metadata, read_plan, remove_parts, split_lock
from lsncli.types import Fingerprint, Seconds
from lsncli.validation import parse_json, validate


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
