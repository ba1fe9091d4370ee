"""A split in the making: ``<store>.parts/<split>/`` has its plan, what is needed to finish it, its parts."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lsncli.errors import LsnError
from lsncli.files import read_own, write_own
from lsncli.locks import locked
from lsncli.store.format import check_split_name, digest_of
from lsncli.store.plan import Plan, check_own, must_restart, read_plan, write_plan
from lsncli.types import Failure, Fingerprint
from lsncli.validation import parsed, typed

MOST_SPLIT_BYTES = 1 << 30
"""Of split.json: it has a line for every class, and for everything that could not be listed."""
FINISH_WAIT = 60.0  # seconds to wait for another writer of the store: hours of work hang on it


@dataclass(frozen=True)
class About:
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
def claimed(store: Path, split: str, *, shared: bool = False, wait: float = 0.0) -> Iterator[Path]:
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


def make_room(
    store: Path,
    split: str,
    plan: Plan,
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


def begin(folder: Path, plan: Plan, about: About, *, launch: str = "") -> None:
    """Write down what is being made; the plan comes last, since those who wait for it go on then."""
    write_about(folder, about)
    stored = read_plan(folder)
    if stored is None or stored.launch != launch:
        write_plan(folder, plan, about.replace, launch)


def write_about(folder: Path, about: About) -> None:
    """Write ``split.json``. Raises LsnError if that is not possible."""
    fields = asdict(about)
    fields["checksum"] = _checksum(fields)
    write_own(folder / "split.json", (json.dumps(fields, indent=1) + "\n").encode())


def read_about(folder: Path) -> About:
    """What ``split.json`` says. Raises LsnError."""
    path = folder / "split.json"
    try:
        stored = typed(dict[str, Any], parsed(read_own(path, MOST_SPLIT_BYTES).decode()), "split.json")
        stated = stored.pop("checksum", None)  # an older lsn wrote none
        if stated is not None and stated != _checksum(stored):
            raise ValueError("changed after it was written")
        return typed(About, stored, "split.json")
    except (OSError, ValueError, TypeError) as error:
        raise LsnError(
            f"{path} is damaged.", "Run the same `lsn extract` again: it writes it anew."
        ) from error


def _checksum(fields: Mapping[str, Any]) -> str:
    return digest_of([json.dumps(fields, sort_keys=True)])


def remove_parts(store: Path, split: str) -> None:
    """Forget whatever is unfinished for a split; the caller has claimed it."""
    folder = parts_folder(store, split)
    check_own(folder)
    try:
        # The plan goes first: pieces without one are never believed.
        (folder / "plan.json").unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise LsnError(f"{folder} could not be removed: {error.strerror or error}.") from error
