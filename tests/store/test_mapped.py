"""Large splits are used where they lie: the same rows, no memory, and nobody sees a store change."""

from pathlib import Path

import numpy as np
import pytest
from store_samples import fingerprint, same, split

from lsncli.store import container
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(container, "MAPPED", 0)
    write_split(tmp_path / "f.h5", split(), fingerprint())
    return tmp_path / "f.h5"


def test_a_mapped_split_is_the_split(store: Path) -> None:
    found = read_split(store, "train")
    assert same(found, split())
    assert type(found.features) is np.ndarray
    assert not found.features.flags.owndata
    assert found.rows.content == split().rows.content


def test_it_stays_what_it_was_when_the_store_is_replaced(store: Path) -> None:
    found = read_split(store, "train")
    write_split(store, split(rows=3, seed=1), fingerprint(), replace=True)
    assert same(found, split())


def test_writing_to_it_changes_nothing_on_the_disk(store: Path) -> None:
    before = store.read_bytes()
    read_split(store, "train").features[:] = 7
    assert store.read_bytes() == before


def test_keys_are_a_tuple_that_is_read_when_it_is_asked_for(store: Path) -> None:
    keys = read_split(store, "train").keys
    assert len(keys) == 6
    assert "_all" not in vars(keys)
    assert keys == split().keys
    assert split().keys == keys
    assert (keys[2], keys[-1], keys[1:3]) == (split().keys[2], split().keys[-1], split().keys[1:3])
    assert tuple(keys) == split().keys
    assert hash(keys) == hash(split().keys)
    assert split().keys[3] in keys


def test_no_rows_are_fine_too(store: Path) -> None:
    write_split(store, split("none", rows=0), fingerprint())
    assert same(read_split(store, "none"), split("none", rows=0))
