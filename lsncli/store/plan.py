"""What an unfinished extraction set out to do, written down so that nothing else is mixed into it."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from lsncli.errors import LsnError, UsageError
from lsncli.files import LINK, read_own, write_own
from lsncli.validation import parsed, typed

PART_ROWS = 65536
"""Items of a part unless told otherwise: half a minute of a GPU, and a file of 64 MiB at D = 512."""
MOST_BYTES = 1 << 20
"""Of plan.json: a thousand times what it takes."""
UNBELIEVABLE = (OSError, ValueError, KeyError, TypeError)
"""What reading a damaged or hostile plan raises."""
SHOWN = 120
"""Characters of a value, and values, that a message shows."""
OVERWRITE = "Finish it with the same arguments, or start again with --overwrite."


@dataclass(frozen=True)
class Plan:
    """What an extraction set out to do. Pieces of one plan are never mixed with those of another.

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
        """The first 16 hexadecimal digits of the sha256 over all of it; every piece carries them."""
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

    plan: Plan
    overwrite: bool
    launch: str


def part_rows_for(batch_size: int, wanted: int = 0) -> int:
    """``wanted`` items a part; for 0 the largest multiple of ``batch_size`` up to PART_ROWS.

    Raises UsageError for numbers that cannot be meant, such as no multiple of ``batch_size``.
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


def must_restart(folder: Path, plan: Plan, overwrite: bool, remark: Callable[[str], None]) -> bool:
    """Whether what lies in ``folder`` has to go before ``plan`` can begin.

    It stays if it is of this very plan, begun in the same way; ``remark`` gets a sentence if it goes since
    its plan is damaged. Raises LsnError if it is of another plan and ``overwrite`` does not allow to lose it.
    """
    try:
        stored = _read(folder)
        began_with_overwrite, _ = typed(bool, stored.pop("overwrite")), stored.pop("launch")
    except FileNotFoundError:
        return folder.exists()
    except UNBELIEVABLE:
        # A plan that cannot be read belongs to nothing that could be resumed.
        remark(f"Warning: {folder / 'plan.json'} is damaged: the extraction starts anew.")
        return True
    wanted = asdict(plan)
    differing = sorted(name for name in {*wanted, *stored} if wanted.get(name) != stored.get(name))
    if differing and not overwrite:
        changes = "; ".join(
            f"{name.replace('_', ' ')} was {_short(stored.get(name))}, is {_short(wanted.get(name))}"
            for name in differing[:SHOWN]
        )
        raise LsnError(
            f"An unfinished extraction of this split had other arguments: {changes} ({folder}).", OVERWRITE
        )
    return bool(differing) or (overwrite and not began_with_overwrite)


def _short(value: object) -> str:
    """A value of a plan for a message; the start of a sha256 is enough to see that it differs."""
    text = re.sub(r"([0-9a-f]{12})[0-9a-f]{20,}", r"\1...", str(value))
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def read_plan(folder: Path) -> StoredPlan | None:
    """The plan in ``folder``, None if there is none. Raises LsnError for one that cannot be believed."""
    try:
        stored = _read(folder)
        overwrite, launch = typed(bool, stored.pop("overwrite")), typed(str, stored.pop("launch"))
        return StoredPlan(_checked(stored), overwrite, launch)
    except FileNotFoundError:
        return None
    except UNBELIEVABLE as error:
        raise LsnError(
            f"{folder / 'plan.json'} is damaged.", "Run the same `lsn extract` again: it starts anew."
        ) from error


def check_plan(folder: Path, plan: Plan) -> None:
    """Raise LsnError if ``folder`` no longer belongs to ``plan``: whoever goes on would harm another."""
    stored = read_plan(folder)
    if stored is None or stored.plan.digest != plan.digest:
        raise LsnError(
            f"{folder} was finished or started anew by another process.", "Run the same command again."
        )


def write_plan(folder: Path, plan: Plan, overwrite: bool, launch: str = "") -> None:
    """Write ``plan.json``. Raises LsnError if that is not possible."""
    content = {**asdict(plan), "overwrite": overwrite, "launch": launch}
    write_own(folder / "plan.json", (json.dumps(content, indent=1) + "\n").encode())


def check_own(folder: Path) -> None:
    """Raise LsnError for a symbolic link in the place of a folder of parts: what it leads to is not ours."""
    if folder.is_symlink():
        raise LsnError(
            f"{folder} {LINK}: expected the folder in which `lsn extract` keeps its parts.",
            "Remove the link.",
        )


def _read(folder: Path) -> dict[str, Any]:
    check_own(folder)
    text = read_own(folder / "plan.json", MOST_BYTES).decode()
    return typed(dict[str, Any], parsed(text), "the plan")


def _checked(stored: dict[str, Any]) -> Plan:
    """A plan of which everything is of the right kind and size. Raises ValueError or TypeError."""
    plan = typed(Plan, stored, "the plan")
    if (
        plan.items < 0
        or min(plan.dim, plan.batch_size, plan.part_rows) < 1
        or plan.part_rows % plan.batch_size
    ):
        raise ValueError("numbers that cannot be meant")
    return plan
