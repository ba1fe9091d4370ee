"""Finish a split whose parts were made before, by whatever engine."""

from pathlib import Path

from lsncli.app.record import write_record
from lsncli.errors import LsnError
from lsncli.store.format import SplitInfo, check_split_name
from lsncli.store.merge import finish_split, gather_split, parts_of, spread_split
from lsncli.store.parts import claimed, read_about, remove_parts
from lsncli.store.plan import read_plan
from lsncli.store.reader import find_split
from lsncli.types import Seconds


def merge(store: Path, split: str, *, copy: bool, record: Path) -> SplitInfo:
    """Finish ``split``: its rows stay in part files, or are written into the store (``copy``).

    Without parts, ``copy`` writes into the store what an earlier merge left in part files. Raises LsnError,
    naming it, if a part is missing, torn or foreign, or if there is nothing to merge; then nothing changes.
    """
    check_split_name(split)
    with claimed(store, split) as folder:
        stored = read_plan(folder)
        if stored is None:
            if copy and store.exists() and find_split(store, split) is not None:
                return gather_split(store, split)
            raise LsnError(
                f"There are no parts of split '{split}' in {folder}.",
                "Make them with `lsn extract --no-merge`; --split names another split.",
            )
        about = read_about(folder)
        there = find_split(store, split) if store.exists() and not about.replace else None
        if there is not None and there.listing == stored.plan.listing:
            remove_parts(store, split)  # a run was killed in its very last step
            return there
        seconds = sum((part.seconds for part in parts_of(folder, stored.plan)), Seconds())
        info = (finish_split if copy else spread_split)(store, split, stored.plan, about)
        write_record(record, info, stored.plan, about.fingerprint, seconds)
    return info
