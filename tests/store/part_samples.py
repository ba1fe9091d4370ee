"""A split in the making, for the tests of this room."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store_samples import chunks_of, fingerprint, split

from lsncli.store.format import SplitInfo
from lsncli.store.merge import finish_split
from lsncli.store.part import Part
from lsncli.store.staging import (
    ExtractionPlan,
    SplitMetadata,
    parts_folder,
    prepare_staging,
    split_lock,
    write_staging,
)
from lsncli.types import Seconds

CONTENT = split(rows=20)
PLAN = ExtractionPlan(
    CONTENT.listing, fingerprint().digest, 20, 4, 3, 9, {"class names": "x"}
)  # 9 + 9 + 2 items
ABOUT = SplitMetadata(fingerprint(), CONTENT.classes, CONTENT.failures, CONTENT.source)
BATCHES = chunks_of(CONTENT, 3)
SECOND = Seconds(read=1.0, encode=2.0)


def planned(store: Path, plan: ExtractionPlan = PLAN, about: SplitMetadata = ABOUT) -> Path:
    """The folder of a split that is planned; nobody is at work on it."""
    with split_lock(store, "train"):
        folder = prepare_staging(store, "train", plan, overwrite=about.replace)
        write_staging(folder, plan, about)
    return folder


def make(store: Path, *indices: int, commit_seconds: float = 1e9) -> None:
    """Make these parts, or what is missing of them."""
    for index in indices:
        with Part.open(parts_folder(store, "train"), PLAN, index, commit_seconds=commit_seconds) as part:
            add_from(part, 7)


def add_from(part: Part, last: int) -> None:
    """Add the batches of a part that are missing, up to the ``last`` batch of the split."""
    for batch in BATCHES[:last]:
        if part.next_item <= batch.start < part.stop:
            part.add(batch, SECOND)


def finish(store: Path, plan: ExtractionPlan = PLAN, about: SplitMetadata = ABOUT) -> SplitInfo:
    with split_lock(store, "train"):
        return finish_split(store, "train", plan, about)


@contextmanager
def opened(store: Path, index: int, commit_seconds: float = 0.0) -> Iterator[Part]:
    with Part.open(planned(store), PLAN, index, commit_seconds=commit_seconds) as part:
        yield part


def files(store: Path) -> list[Path]:
    """Every chunk on the disk."""
    return sorted(parts_folder(store, "train").glob("rows-*.h5"))
