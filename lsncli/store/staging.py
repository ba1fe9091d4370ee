"""The folder of an unfinished split, ``<store>.parts/<split>/``: its plan, its metadata and its parts.

The plan identifies the extraction, so that parts of another one are never mixed in.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from lsncli.device import check_sizes
from lsncli.errors import LsnError, UsageError
from lsncli.files import LINK, read_own, write_own
from lsncli.locks import locked
from lsncli.store.format import check_split_name, digest_texts
from lsncli.types import Failure, Fingerprint
from lsncli.validation import parse_json, validate

PART_ROWS = 65536
"""Default number of items of a part: half a minute of a GPU, and a file of 64 MiB at D = 512."""
FEW_ROWS = 2048
"""Items of a part below which a process gets one part instead of several."""
ROUNDS = 4
"""Parts per process, so that processes of different speed end together."""
MAX_PLAN_BYTES = 1 << 20
"""Largest size of plan.json, a thousand times the usual one."""
PLAN_ERRORS = (OSError, ValueError, KeyError, TypeError)
"""Exceptions of reading a damaged or hostile plan."""
MAX_SHOWN = 120
"""Largest number of characters of a value, and of values, in a message."""
RUNTIME = "runtime"
"""Name of the option of a plan for the runtime of the image tower; plans of older versions have none."""
OVERWRITE_HINT = "Finish it with the same arguments, or start again with --overwrite."


@dataclass(frozen=True)
class ExtractionPlan:
    """The inputs and options of an extraction. Chunks of different plans are never mixed.

    Part k is the items [k P, (k + 1) P) of the listing, P = ``part_rows``, a multiple of ``batch_size``: no
    batch crosses a border, so the result does not depend on which process encodes which part, or when.
    """

    listing: str  # digest
    fingerprint: str  # digest
    items: int
    dim: int
    batch_size: int
    part_rows: int
    options: dict[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the sha256 of all fields; every chunk has them."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def parts(self) -> int:
        """The number of parts."""
        return -(-self.items // self.part_rows)

    def borders(self, index: int) -> tuple[int, int]:
        """Return the first item of part ``index``, and the first one after it."""
        return index * self.part_rows, min((index + 1) * self.part_rows, self.items)


@dataclass(frozen=True)
class StoredPlan:
    """The content of ``plan.json``: the plan and how it was started.

    ``overwrite`` is whether it began with ``--overwrite``; ``launch`` identifies the run of several processes
    that wrote it last ("" for a single process).
    """

    plan: ExtractionPlan
    overwrite: bool
    launch: str


def part_rows_for(batch_size: int, requested: int = 0, *, items: int = 0, processes: int = 1) -> int:
    """Return the items per part: ``requested``, or for 0 a multiple of ``batch_size`` up to PART_ROWS.

    For several ``processes``, 0 divides ``items`` among all of them: into ROUNDS parts for each, or fewer of
    at least FEW_ROWS. Raises UsageError for a number that is invalid or no multiple of ``batch_size``.
    """
    check_sizes(batch_size=batch_size)
    if not requested and processes > 1:
        rounds = max(1, min(ROUNDS, items // (processes * FEW_ROWS)), -(-items // (processes * PART_ROWS)))
        share = -(-items // (processes * rounds))
        return max(1, min(-(-share // batch_size), PART_ROWS // batch_size)) * batch_size
    fitting = max((requested or PART_ROWS) // batch_size, 1) * batch_size
    if requested and fitting != requested:
        raise UsageError(
            f"--part-rows: expected a multiple of the batch size ({batch_size}), found {requested}.",
            f"Give --part-rows {fitting}, for example.",
        )
    return fitting


def unfinished_plan(folder: Path, plan: ExtractionPlan, overwrite: bool) -> ExtractionPlan | None:
    """Return the plan in ``folder`` if it differs from ``plan`` at most in the size of parts, else None.

    An extraction that began with parts of one size continues with them, whatever the processes are now.
    """
    try:
        stored = read_plan(folder)
    except LsnError:
        return None
    if stored is None or (overwrite and not stored.overwrite):
        return None
    return stored.plan if replace(stored.plan, part_rows=plan.part_rows) == plan else None


def must_restart(folder: Path, plan: ExtractionPlan, overwrite: bool, remark: Callable[[str], None]) -> bool:
    """Return whether the content of ``folder`` must be removed before ``plan`` can begin.

    It is kept if it has the same plan, started in the same way. ``remark`` is called with a sentence if its
    plan is damaged. Raises LsnError if it has another plan and ``overwrite`` is False.
    """
    try:
        stored = _read(folder)
        began_with_overwrite, _ = validate(bool, stored.pop("overwrite")), stored.pop("launch")
    except FileNotFoundError:
        return folder.exists()
    except PLAN_ERRORS:
        # Without a readable plan nothing can be resumed.
        remark(f"Warning: {folder / 'plan.json'} is damaged: the extraction starts anew.")
        return True
    new = asdict(plan)
    differing = sorted(name for name in {*new, *stored} if new.get(name) != stored.get(name))
    if differing and not overwrite:
        changes = "; ".join(
            f"{name.replace('_', ' ')} was {_short(stored.get(name))}, is {_short(new.get(name))}"
            for name in differing[:MAX_SHOWN]
        )
        raise LsnError(
            f"An unfinished extraction of this split had other arguments: {changes} ({folder}).",
            OVERWRITE_HINT,
        )
    return bool(differing) or (overwrite and not began_with_overwrite)


def _short(value: object) -> str:
    """Shorten a value of a plan for a message; the start of a sha256 is enough to show a difference."""
    text = re.sub(r"([0-9a-f]{12})[0-9a-f]{20,}", r"\1...", str(value))
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def read_plan(folder: Path) -> StoredPlan | None:
    """Read the plan in ``folder``; None if there is none. Raises LsnError for a damaged one."""
    try:
        stored = _read(folder)
        overwrite, launch = validate(bool, stored.pop("overwrite")), validate(str, stored.pop("launch"))
        return StoredPlan(_checked(stored), overwrite, launch)
    except FileNotFoundError:
        return None
    except PLAN_ERRORS as error:
        raise LsnError(
            f"{folder / 'plan.json'} is damaged.", "Run the same `lsn extract` again: it starts anew."
        ) from error


def check_plan(folder: Path, plan: ExtractionPlan) -> None:
    """Raise LsnError if ``folder`` no longer belongs to ``plan``: writing would damage another extraction."""
    stored = read_plan(folder)
    if stored is None or stored.plan.digest != plan.digest:
        raise LsnError(
            f"{folder} was finished or started anew by another process.", "Run the same command again."
        )


def write_plan(folder: Path, plan: ExtractionPlan, overwrite: bool, launch: str = "") -> None:
    """Write ``plan.json``. Raises LsnError if that is not possible."""
    content = {**asdict(plan), "overwrite": overwrite, "launch": launch}
    write_own(folder / "plan.json", (json.dumps(content, indent=1) + "\n").encode())


def check_no_link(folder: Path) -> None:
    """Raise LsnError if the folder of parts is a symbolic link, whose target may belong to somebody else."""
    if folder.is_symlink():
        raise LsnError(
            f"{folder} {LINK}: expected the folder in which `lsn extract` keeps its parts.",
            "Remove the link.",
        )


def _read(folder: Path) -> dict[str, Any]:
    check_no_link(folder)
    text = read_own(folder / "plan.json", MAX_PLAN_BYTES).decode()
    return validate(dict[str, Any], parse_json(text), "the plan")


def _checked(stored: dict[str, Any]) -> ExtractionPlan:
    """Return a plan whose fields are valid. Raises ValueError or TypeError."""
    plan = validate(ExtractionPlan, stored, "the plan")
    if (
        plan.items < 0
        or min(plan.dim, plan.batch_size, plan.part_rows) < 1
        or plan.part_rows % plan.batch_size
    ):
        raise ValueError("invalid numbers")
    return plan


MAX_METADATA_BYTES = 1 << 30
"""Largest size of split.json, which has a line for every class and every listing problem."""
FINISH_WAIT = 60.0
"""Seconds to wait for another writer of the store; hours of work depend on it."""


@dataclass(frozen=True)
class SplitMetadata:
    """The description of the finished split: model, class names, listing problems and source.

    ``replace`` is whether it replaces a split of the same name.
    """

    fingerprint: Fingerprint
    classes: tuple[str, ...]
    problems: tuple[Failure, ...] = ()
    source: str = ""
    replace: bool = False


def parts_folder(store: Path, split: str) -> Path:
    """Return the folder of the parts of an unfinished split."""
    return store.with_name(store.name + ".parts") / split


@contextmanager
def split_lock(store: Path, split: str, *, shared: bool = False, wait: float = 0.0) -> Iterator[Path]:
    """Hold the lock of an unfinished split; yields the folder of its parts.

    A ``shared`` lock excludes only exclusive ones. Waits ``wait`` seconds, then raises LsnError if another
    process holds the lock.
    """
    folder = parts_folder(store, split)
    try:
        with locked(folder, shared=shared, wait=wait):
            yield folder
    finally:
        with suppress(OSError):  # unless this or another split is unfinished
            folder.parent.rmdir()


def prepare_staging(
    store: Path,
    split: str,
    plan: ExtractionPlan,
    *,
    overwrite: bool,
    remark: Callable[[str], None] = lambda text: None,
) -> Path:
    """Return the folder for the parts of ``plan``, without parts of another plan.

    The caller holds ``split_lock``. ``overwrite`` starts again, unless the unfinished extraction is this
    plan started with ``overwrite``. ``remark`` is called with a sentence if its plan is damaged. Raises
    LsnError if another plan is unfinished.
    """
    check_split_name(split)
    folder = parts_folder(store, split)
    if must_restart(folder, plan, overwrite, remark):
        remove_parts(store, split)
    return folder


def write_staging(folder: Path, plan: ExtractionPlan, metadata: SplitMetadata, *, launch: str = "") -> None:
    """Write metadata and plan; the plan comes last, since waiting processes continue when it exists."""
    write_metadata(folder, metadata)
    stored = read_plan(folder)
    if stored is None or stored.launch != launch:
        write_plan(folder, plan, metadata.replace, launch)


def write_metadata(folder: Path, metadata: SplitMetadata) -> None:
    """Write ``split.json``. Raises LsnError if that is not possible."""
    fields = asdict(metadata)
    fields["checksum"] = _checksum(fields)
    write_own(folder / "split.json", (json.dumps(fields, indent=1) + "\n").encode())


def read_metadata(folder: Path) -> SplitMetadata:
    """Read ``split.json``. Raises LsnError for a damaged one."""
    path = folder / "split.json"
    try:
        stored = validate(
            dict[str, Any], parse_json(read_own(path, MAX_METADATA_BYTES).decode()), "split.json"
        )
        stated = stored.pop("checksum", None)  # absent in files of older versions
        if stated is not None and stated != _checksum(stored):
            raise ValueError("changed after it was written")
        return validate(SplitMetadata, stored, "split.json")
    except (OSError, ValueError, TypeError) as error:
        raise LsnError(
            f"{path} is damaged.", "Run the same `lsn extract` again: it writes it anew."
        ) from error


def _checksum(fields: Mapping[str, Any]) -> str:
    return digest_texts([json.dumps(fields, sort_keys=True)])


def remove_parts(store: Path, split: str) -> None:
    """Remove the unfinished parts of a split; the caller holds ``split_lock``. Raises LsnError."""
    folder = parts_folder(store, split)
    check_no_link(folder)
    try:
        # The plan is removed first: chunks without one are never used.
        (folder / "plan.json").unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise LsnError(f"{folder} could not be removed: {error.strerror or error}.") from error
