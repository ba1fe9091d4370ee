"""Shards, tables and folders in one extraction by two processes; failures of all of them reach the store."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from fake_backbone import FakeBackbone, make_images

from lsncli.extraction.encoder import Encoder
from lsncli.extraction.engines import WorkerGroup, torchrun
from lsncli.extraction.extract import extract
from lsncli.extraction.runner import join
from lsncli.images.item import Listing
from lsncli.images.listing import list_images
from lsncli.store.reader import read_split

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listing:
    """Six images each in a folder, in two shards and in a table; the third of each is broken."""
    make_images(tmp_path / "images", 6, broken=(2,))
    files = sorted((tmp_path / "images").rglob("*.png"))
    assert len(files) == 6
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number, file in enumerate(files):
                for ending, data in (("png", file.read_bytes()), ("cls", str(number % 2).encode())):
                    member = tarfile.TarInfo(f"{number:03d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    column = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": column, "label": [0, 1] * 3}), tmp_path / "t.parquet", row_group_size=4)
    monkeypatch.setattr(
        torchrun,
        "encoder_for",
        lambda job, device, progress: Encoder(FakeBackbone(), 4, job.workers, progress),
    )
    return list_images([tmp_path / "images", tmp_path / "{0..1}.tar", tmp_path / "t.parquet"])


def record_of(store: Path) -> Path:
    return store.with_suffix(".json")


def first(listing: Listing, store: Path, group: WorkerGroup | None = None) -> None:
    extract(
        listing,
        source="all",
        store=store,
        split="train",
        backbone=FakeBackbone(),
        group=group,
        batch_size=4,
        workers=2,
        part_rows=4,
        max_failure_rate=1.0,
        record=record_of(store),
    )


def by_two(listing: Listing, store: Path, between: Path | None = None) -> None:
    """Extract as two processes do; meanwhile the file ``between`` changes."""
    with torchrun.planning(store, "train"):
        first(listing, store, WorkerGroup("torchrun", 2, launch="a"))
    if between is not None:
        os.utime(between, ns=(1, 1))
    join(
        WorkerGroup("torchrun", 2, rank=1, launch="a"),
        store=store,
        split="train",
        workers=2,
        record=record_of(store),
    )


def test_two_processes_make_the_store_of_one_with_every_failure(listing: Listing, tmp_path: Path) -> None:
    first(listing, tmp_path / "one.h5")
    by_two(listing, tmp_path / "two.h5")
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    split = read_split(tmp_path / "two.h5", "train")
    assert [failure.key.partition("/")[0] for failure in split.failures] == [
        "0.tar",
        "1.tar",
        "images",
        "t.parquet",
    ]
    assert len(split.keys) == 20


def test_what_changes_while_processes_work_is_a_failure_in_the_store(
    listing: Listing, tmp_path: Path
) -> None:
    by_two(listing, tmp_path / "two.h5", between=tmp_path / "0.tar")
    split = read_split(tmp_path / "two.h5", "train")
    reasons = {failure.key: failure.reason for failure in split.failures}
    assert reasons["0.tar/004.png"] == reasons["0.tar/005.png"] == "its tar changed since it was listed"
    assert len(reasons) == 4 + 2
    assert "0.tar/000.png" in split.keys  # done before
