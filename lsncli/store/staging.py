"""An unfinished split on disk, ``<store>.parts/<split>/``: its plan, what is needed to finish it, its parts.

The plan says what the extraction set out to do, so that nothing else is mixed into it.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from lsncli.errors import LsnError, UsageError
from lsncli.files import LINK, read_own, write_own
from lsncli.locks import locked
from lsncli.store.format import check_split_name, digest_texts
from lsncli.types import Failure, Fingerprint
from lsncli.validation import parse_json, validate

PART_ROWS = 65536
"""Items of a part unless told otherwise: half a minute of a GPU, and a file of 64 MiB at D = 512."""
MAX_PLAN_BYTES = 1 << 20
"""Of plan.json: a thousand times what it takes."""
PLAN_ERRORS = (OSError, ValueError, KeyError, TypeError)
"""What reading a damaged or hostile plan raises."""
MAX_SHOWN = 120
"""Characters of a value, and values, that a message shows."""
OVERWRITE_HINT = "Finish it with the same arguments, or start again with --overwrite."


@dataclass(frozen=True)
class ExtractionPlan:
    """What an extraction set out to do. Chunks of one plan are never mixed with those of another.

    Part k is the items [k P, (k + 1) P) of the listing, P = ``part_rows``, a multiple of ``batch_size``: no
    batch crosses a border, so it does not matter who makes which part, or when.
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
        """The first 16 hexadecimal digits of the sha256 over all of it; every chunk carries them."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.items // self.part_rows)

    def borders(self, index: int) -> tuple[int, int]:
        """The first item of part ``index``, and the first one behind it."""
        return index * self.part_rows, min((index + 1) * self.part_rows, self.items)


@dataclass(frozen=True)
class StoredPlan:
    """``plan.json``: the plan, whether it began with ``--overwrite``, and which run of which processes wrote
    it last ("" for one process, which has nobody to tell)."""

    plan: ExtractionPlan
    overwrite: bool
    launch: str


def part_rows_for(batch_size: int, wanted: int = 0) -> int:
    """``wanted`` items a part; for 0 the largest multiple of ``batch_size`` up to PART_ROWS.

    Raises UsageError for invalid numbers, such as no multiple of ``batch_size``.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size: expected 1 or more, found {batch_size}.")
    fitting = max((wanted or PART_ROWS) // batch_size, 1) * batch_size
    if wanted and fitting != wanted:
        raise UsageError(
            f"--part-rows: expected a multiple of the batch size ({batch_size}), found {wanted}.",
            f"Give --part-rows {fitting}, for example.",
        )
    return fitting


def must_restart(folder: Path, plan: ExtractionPlan, overwrite: bool, remark: Callable[[str], None]) -> bool:
    """Whether what lies in ``folder`` has to go before ``plan`` can begin.

    It stays if it is of this very plan, begun in the same way; ``remark`` gets a sentence if it goes since
    its plan is damaged. Raises LsnError if it is of another plan and ``overwrite`` does not allow to lose it.
    """
    try:
        stored = _read(folder)
        began_with_overwrite, _ = validate(bool, stored.pop("overwrite")), stored.pop("launch")
    except FileNotFoundError:
        return folder.exists()
    except PLAN_ERRORS:
        # A plan that cannot be read belongs to nothing that could be resumed.
        remark(f"Warning: {folder / 'plan.json'} is damaged: the extraction starts anew.")
        return True
    wanted = asdict(plan)
    differing = sorted(name for name in {*wanted, *stored} if wanted.get(name) != stored.get(name))
    if differing and not overwrite:
        changes = "; ".join(
            f"{name.replace('_', ' ')} was {_short(stored.get(name))}, is {_short(wanted.get(name))}"
            for name in differing[:MAX_SHOWN]
        )
        raise LsnError(
            f"An unfinished extraction of this split had other arguments: {changes} ({folder}).",
            OVERWRITE_HINT,
        )
    return bool(differing) or (overwrite and not began_with_overwrite)


def _short(value: object) -> str:
    """A value of a plan for a message; the start of a sha256 is enough to see that it differs."""
    text = re.sub(r"([0-9a-f]{12})[0-9a-f]{20,}", r"\1...", str(value))
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def read_plan(folder: Path) -> StoredPlan | None:
    """The plan in ``folder``, None if there is none. Raises LsnError for one that cannot be believed."""
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
    """Raise LsnError if ``folder`` no longer belongs to ``plan``: whoever goes on would harm another."""
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
    """Raise LsnError for a symbolic link in the place of a folder of parts: what it leads to is not ours."""
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
    """A plan of which everything is of the right kind and size. Raises ValueError or TypeError."""
    plan = validate(ExtractionPlan, stored, "the plan")
    if (
        plan.items < 0
        or min(plan.dim, plan.batch_size, plan.part_rows) < 1
        or plan.part_rows % plan.batch_size
    ):
        raise ValueError("invalid numbers")
    return plan


MAX_METADATA_BYTES = 1 << 30
"""Of split.json: it has a line for every class, and for everything that could not be listed."""
FINISH_WAIT = 60.0  # seconds to wait for another writer of the store: hours of work depend on it


@dataclass(frozen=True)
class SplitMetadata:
    """What the finished split says besides its rows: the model, class names, what could not be listed, where
    the images came from; and whether it takes the place of another."""

    fingerprint: Fingerprint
    classes: tuple[str, ...]
    problems: tuple[Failure, ...] = ()
    source: str = ""
    replace: bool = False


def parts_folder(store: Path, split: str) -> Path:
    """Where the parts of an unfinished split lie."""
    return store.with_name(store.name + ".parts") / split


@contextmanager
def split_lock(store: Path, split: str, *, shared: bool = False, wait: float = 0.0) -> Iterator[Path]:
    """Keep others off a split; gives the folder of its parts. Raises LsnError if somebody works on it.

    ``shared`` keeps off only those who want it alone, for whom it waits so many seconds.
    """
    folder = parts_folder(store, split)
    try:
        with locked(folder, shared=shared, wait=wait):
            yield folder
    finally:
        with suppress(OSError):  # unless something is unfinished, here or for another split
            folder.parent.rmdir()


def prepare_staging(
    store: Path,
    split: str,
    plan: ExtractionPlan,
    *,
    overwrite: bool,
    remark: Callable[[str], None] = lambda text: None,
) -> Path:
    """The folder for the parts of ``plan``, where nothing of another plan is left; the caller has claimed it.

    ``overwrite`` starts again, unless what is unfinished is this very plan begun with ``overwrite``. If its
    plan is damaged, ``remark`` gets a sentence. Raises LsnError if another plan is unfinished here.
    """
    check_split_name(split)
    folder = parts_folder(store, split)
    if must_restart(folder, plan, overwrite, remark):
        remove_parts(store, split)
    return folder


def write_staging(folder: Path, plan: ExtractionPlan, about: SplitMetadata, *, launch: str = "") -> None:
    """Write down what is being made; the plan comes last, since those who wait for it go on then."""
    write_metadata(folder, about)
    stored = read_plan(folder)
    if stored is None or stored.launch != launch:
        write_plan(folder, plan, about.replace, launch)


def write_metadata(folder: Path, about: SplitMetadata) -> None:
    """Write ``split.json``. Raises LsnError if that is not possible."""
    fields = asdict(about)
    fields["checksum"] = _checksum(fields)
    write_own(folder / "split.json", (json.dumps(fields, indent=1) + "\n").encode())


def read_metadata(folder: Path) -> SplitMetadata:
    """What ``split.json`` says. Raises LsnError."""
    path = folder / "split.json"
    try:
        stored = validate(
            dict[str, Any], parse_json(read_own(path, MAX_METADATA_BYTES).decode()), "split.json"
        )
        stated = stored.pop("checksum", None)  # an older lsn wrote none
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
    """Forget whatever is unfinished for a split; the caller has claimed it."""
    folder = parts_folder(store, split)
    check_no_link(folder)
    try:
        # The plan goes first: chunks without one are never believed.
        (folder / "plan.json").unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise LsnError(f"{folder} could not be removed: {error.strerror or error}.") from error
