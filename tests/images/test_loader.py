"""Batches: order, borders, failures, memory."""

import io
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsncli.errors import UsageError
from lsncli.images.loader import LOOKAHEAD, load_batches
from lsncli.images.sources import list_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Thirty images whose grey value is their number, every seventh of them broken."""
    for index in range(30):
        buffer = io.BytesIO()
        Image.new("RGB", (6, 6), (index, index, index)).save(buffer, "PNG")
        path = tmp_path / f"c{index // 10}" / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(buffer.getvalue() if index % 7 else b"")
    return tmp_path


def grey(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)


def test_batches_cover_the_listing_in_order(images: Path) -> None:
    items = list_images([images]).items
    batches = list(load_batches(items, grey, batch_size=8, workers=3))
    assert [(batch.start, batch.stop) for batch in batches] == [(0, 8), (8, 16), (16, 24), (24, 30)]
    for batch in batches:
        expected = [item for item in items[batch.start : batch.stop] if int(item.key[3:5]) % 7]
        assert batch.keys == tuple(item.key for item in expected)
        assert batch.labels.tolist() == [item.label for item in expected]
        assert batch.labels.dtype == np.int32
        assert batch.pixels[:, 0, 0, 0].tolist() == [int(item.key[3:5]) for item in expected]
        assert batch.pixels.shape == (len(expected), 3, 6, 6)
        missing = [item.key for item in items[batch.start : batch.stop] if item not in expected]
        assert [failure.key for failure in batch.failures] == missing
        assert {failure.reason for failure in batch.failures} == {"an empty file"}


def test_a_later_start_gives_the_later_batches(images: Path) -> None:
    items = list_images([images]).items
    later = list(load_batches(items, grey, batch_size=8, workers=1, start=16))
    assert [batch.start for batch in later] == [16, 24]
    assert list(load_batches(items, grey, batch_size=8, workers=1, start=30)) == []
    with pytest.raises(UsageError, match="cannot start"):
        load_batches(items, grey, batch_size=8, workers=1, start=3)


def test_sizes_below_one_are_usage_errors(images: Path) -> None:
    items = list_images([images]).items
    with pytest.raises(UsageError, match="--batch-size"):
        load_batches(items, grey, batch_size=0, workers=1)
    with pytest.raises(UsageError, match="--workers"):
        load_batches(items, grey, batch_size=1, workers=0)


def test_an_error_of_the_preprocessing_is_a_failure_of_one_image(images: Path) -> None:
    def picky(image: Image.Image) -> torch.Tensor:
        if image.getpixel((0, 0)) == (5, 5, 5):
            raise RuntimeError("no\nfives\0please")
        return grey(image)

    items = list_images([images]).items
    (batch,) = load_batches(items, picky, batch_size=30, workers=2)
    reasons = {failure.key: failure.reason for failure in batch.failures}
    assert reasons["c0/05.png"] == "cannot be preprocessed: RuntimeError: no fives\\x00please"
    assert len(batch.keys) == 24


def test_a_batch_of_failures_is_empty_not_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (batch,) = load_batches(list_images([tmp_path]).items, grey, batch_size=4, workers=1)
    assert len(batch.pixels) == 0
    assert batch.keys == ()
    assert len(batch.failures) == 1


def test_memory_is_bounded_by_a_few_batches(images: Path) -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    peak = 0
    lock = threading.Lock()

    def counted(image: Image.Image) -> torch.Tensor:
        nonlocal peak
        made = grey(image)
        with lock:
            alive.add(made)
            peak = max(peak, len(alive))
        return made

    items = list_images([images]).items * 4
    for _ in load_batches(items, counted, batch_size=5, workers=4):
        time.sleep(0.01)  # a slow consumer: decoding runs ahead as far as it may
    assert peak <= (LOOKAHEAD + 1) * 5


def test_closing_early_stops_the_threads(images: Path) -> None:
    def running() -> int:
        return sum(thread.name.startswith("lsn-images") for thread in threading.enumerate())

    seen = 0

    def counted(image: Image.Image) -> torch.Tensor:
        nonlocal seen
        seen += 1
        return grey(image)

    batches = load_batches(list_images([images]).items * 20, counted, batch_size=4, workers=3)
    next(batches)
    assert running() > 0
    batches.close()
    assert running() == 0
    assert seen < 40
