"""What processes other than the first do of an extraction: they list nothing and wait for the plan."""

from collections.abc import Callable
from pathlib import Path

from lsncli import console
from lsncli.app.engines import Crew
from lsncli.app.engines.torchrun import wait_for_plan
from lsncli.app.job import Job
from lsncli.app.making import Made, make_share, untouched
from lsncli.app.record import launch_of
from lsncli.store.format import check_split_name
from lsncli.store.parts import parts_folder, read_about
from lsncli.store.reader import find_split


def join(
    crew: Crew,
    *,
    store: Path,
    split: str,
    pretrained: str = "",
    workers: int = 4,
    overwrite: bool = False,
    merge: bool = True,
    record: Path,
    tick: console.Tick = console.silent,
    remark: Callable[[str], None] = lambda text: None,
) -> Made:
    """Make this process's share of what process 0 of the same launch plans, and finish it if it comes last.

    The arguments are those of the command, as process 0 has them; ``remark`` is that of ``make_share``.
    Raises LsnError if process 0 plans nothing, FingerprintMismatch if other weights are found here.
    """
    check_split_name(split)
    before = _version(record)

    def finished() -> bool:
        # With static addresses two launches by hand have one name: the record may be that of the last one.
        if launch_of(record) == crew.launch and (crew.again or not overwrite or _version(record) != before):
            return True
        return not overwrite and store.exists() and find_split(store, split) is not None

    stored = wait_for_plan(store, split, crew, finished)
    if stored is None:
        return untouched(0)
    about = read_about(parts_folder(store, split))
    job = Job(store, split, stored.plan, about.fingerprint, pretrained, workers)
    return make_share(crew, job, merge=merge, record=record, tick=tick, remark=remark)


def _version(path: Path) -> tuple[int, int] | None:
    """Which file lies there; every one that is written anew is another."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
