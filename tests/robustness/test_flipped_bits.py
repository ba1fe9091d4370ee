"""Thousands of flipped bits in stores and in part files: what is read is what was written, or is refused.

The quick form is in tests/store/test_integrity.py.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from flipped_bits import everything, some_bits, unnoticed
from part_samples import ABOUT, PLAN, make, plan_split
from store_samples import fingerprint, split

from lsncli.store import container
from lsncli.store.external_rows import rows_folder
from lsncli.store.merge import finish_external_split
from lsncli.store.staging import split_lock
from lsncli.store.writer import write_split, write_text

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("at_least", [0, 1 << 26], ids=["mapped", "in memory"])
@pytest.mark.parametrize("rows", [6, 400], ids=["mostly structure", "mostly rows"])
def test_flipped_bits_of_a_store(tmp_path: Path, monkeypatch, at_least: int, rows: int) -> None:
    monkeypatch.setattr(container, "MAPPED", at_least)
    store = tmp_path / "f.h5"
    write_split(store, split(rows=rows), fingerprint())
    write_split(store, split("other", rows=rows, seed=1), fingerprint())
    write_text(store, ("x", "y"), np.ones((2, 4), np.float32))
    read = partial(everything, splits=("train", "other"))
    assert unnoticed(store, store, some_bits(store, 2000, rows), read) == []


def test_flipped_bits_of_part_files(tmp_path: Path) -> None:
    store = tmp_path / "f.h5"
    plan_split(store)
    make(store, 0, 1, 2)
    with split_lock(store, "train"):
        finish_external_split(store, "train", PLAN, ABOUT)
    read = partial(everything, splits=("train",))
    for number, file in enumerate([store, *sorted(rows_folder(store).rglob("*.h5"))]):
        assert unnoticed(store, file, some_bits(file, 600, number), read) == []
