"""``results/extract-<split>.json`` of a workspace: where the time of an extraction went, over all its runs.

Beside the store and not in it: equal features are equal bytes, however long they took.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lsncli import __version__
from lsncli.disk import read_own, write_own
from lsncli.records import parsed, typed
from lsncli.store.format import SplitInfo
from lsncli.store.plan import Plan
from lsncli.types import Fingerprint, Seconds


def write_record(
    path: Path, info: SplitInfo, plan: Plan, fingerprint: Fingerprint, seconds: Seconds, launch: str = ""
) -> None:
    """Write what is known of a finished split, and which launch of processes (``Crew.launch``) finished it.

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
        return typed(str, typed(dict[str, Any], parsed(read_own(path, 1 << 20).decode())).get("launch", ""))
    except (OSError, ValueError):
        return ""
