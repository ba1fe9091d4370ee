"""What an unfinished extraction set out to do, written down so that nothing else is mixed into it."""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lsncli.errors import LsnError
from lsncli.store.container import sync


@dataclass(frozen=True)
class Plan:
    """What an extraction set out to do. Pieces of one plan are never mixed with those of another."""

    listing: str  # digest
    fingerprint: str  # digest
    items: int
    dim: int
    batch_size: int
    options: dict[str, str] = field(default_factory=dict)


def must_restart(folder: Path, plan: Plan, overwrite: bool) -> bool:
    """Whether what lies in ``folder`` has to go before ``plan`` can begin.

    It stays if it is of this very plan, begun in the same way. Raises LsnError if it is of another plan and
    ``overwrite`` does not allow to lose it.
    """
    try:
        text = (folder / "plan.json").read_text(encoding="utf-8")
        stored = json.loads(text)
        began_with_overwrite = stored.pop("overwrite")
    except FileNotFoundError:
        return folder.exists()
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return True  # a plan that cannot be read belongs to nothing that could be resumed
    wanted = asdict(plan)
    differing = sorted(name for name in {*wanted, *stored} if wanted.get(name) != stored.get(name))
    if differing and not overwrite:
        changes = "; ".join(
            f"{name.replace('_', ' ')} was {_short(stored.get(name))}, is {_short(wanted.get(name))}"
            for name in differing
        )
        raise LsnError(
            f"An unfinished extraction of this split had other arguments: {changes} ({folder}).",
            "Finish it with the same arguments, or start again with --overwrite.",
        )
    return bool(differing) or (overwrite and not began_with_overwrite)


def _short(value: object) -> str:
    """A value of a plan for a message; the start of a sha256 is enough to see that it differs."""
    return re.sub(r"([0-9a-f]{12})[0-9a-f]{20,}", r"\1...", str(value))


def write_plan(folder: Path, plan: Plan, overwrite: bool) -> None:
    """Write ``plan.json``. Raises LsnError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temp = folder / "plan.json.tmp"
        temp.write_text(json.dumps({**asdict(plan), "overwrite": overwrite}, indent=1) + "\n", "utf-8")
        sync(temp)
        os.replace(temp, folder / "plan.json")
        sync(folder)
    except OSError as error:
        raise LsnError(f"{folder} could not be written: {error.strerror}.") from error
