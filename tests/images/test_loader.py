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
from waiting import PATIENCE, wait_until

from lsncli.errors import UsageError
from lsncli.images import loader
from lsncli.images.decode import decode
from lsncli.images.listing import list_images
from lsncli.images.loader import LOOKAHEAD, load_batches


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


def grey(data: bytes) -> torch.Tensor:
    return torch.tensor(np.asarray(decode(data))).permute(2, 0, 1)


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
    def picky(data: bytes) -> torch.Tensor:
        pixels = grey(data)
        if pixels[0, 0, 0] == 5:
            raise RuntimeError("no\nfives\0please")
        return pixels

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
    plain_empty = torch.empty

    def counted(*shape: object, **options: object) -> torch.Tensor:
        nonlocal peak
        made = plain_empty(*shape, **options)
        with lock:
            alive.add(made)
            peak = max(peak, len(alive))
        return made

    items = list_images([images]).items * 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", counted)
        for batch in load_batches(items, grey, batch_size=5, workers=4):
            if batch.start == 0:  # a slow consumer: decoding runs ahead as far as it may
                wait_until(lambda: peak >= LOOKAHEAD, "batches ahead of the one in use")
    # The batch in use is one of them, or two where failures were taken out of it.
    assert 2 <= peak <= LOOKAHEAD + 2


def test_files_are_not_read_far_ahead_of_decoding(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "READ_AHEAD", 1000)
    held = most = 0
    lock = threading.Lock()

    def read(item: object) -> bytes:
        nonlocal held, most
        with lock:
            held += 600
            most = max(most, held)
        return bytes(600)

    def slow(data: bytes) -> torch.Tensor:
        nonlocal held
        time.sleep(0.002)
        with lock:
            held -= 600
        return torch.zeros((3, 2, 2))

    monkeypatch.setattr(loader, "read_bytes", read)
    items = list_images([images]).items * 4
    assert sum(len(b.keys) for b in load_batches(items, slow, batch_size=60, workers=1)) == len(items)
    # Four threads read, each begins a bite while there is room; the one that decodes has another.
    assert most <= 1000 + (4 + 1) * loader.IMAGES_PER_TASK * 600


def test_reading_goes_on_while_decoding_waits(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one thread that decodes, as many files are read as there are readers."""
    together = threading.Barrier(4, timeout=PATIENCE)

    def read(item: object) -> bytes:
        together.wait()
        return b"x"

    monkeypatch.setattr(loader, "read_bytes", read)
    items = list_images([images]).items[:16]
    (batch,) = load_batches(items, lambda data: torch.zeros((3, 1, 1)), batch_size=16, workers=1)
    assert len(batch.keys) == 16
    assert batch.seconds.read > 0


def test_what_is_no_image_s_fault_stops_the_run(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*shape: object, **options: object) -> torch.Tensor:
        raise MemoryError("no room for a batch")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(MemoryError, match="no room"):
        next(load_batches(list_images([images]).items, grey, batch_size=8, workers=2))


def test_where_no_more_memory_can_be_pinned_it_is_ordinary(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, pinned = torch.empty, []

    def full(*shape: object, pin_memory: bool = False, **options: object) -> torch.Tensor:
        pinned.append(pin_memory)
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", full)
    items = list_images([images]).items
    found = list(load_batches(items, grey, batch_size=8, workers=1, pinned=True))
    assert sum(len(batch.keys) for batch in found) == len(items) - sum(len(batch.failures) for batch in found)
    assert pinned.count(True) == 1


def test_an_image_of_another_shape_is_not_stretched_into_its_row(images: Path) -> None:
    def uneven(data: bytes) -> torch.Tensor:
        pixels = grey(data)
        return pixels[:, :1, :1] if pixels[0, 0, 0] == 9 else pixels

    with pytest.raises(ValueError, match=r"\(3, 1, 1\) among \(3, 6, 6\)"):
        next(load_batches(list_images([images]).items[:12], uneven, batch_size=12, workers=1))


def test_released_memory_serves_a_later_batch_and_no_other_is_touched(images: Path) -> None:
    items = [item for item in list_images([images]).items if int(item.key[3:5]) % 7] * 4
    kept, places = [], []
    for number, batch in enumerate(load_batches(items, grey, batch_size=8, workers=2)):
        places.append(batch.pixels.data_ptr())
        assert batch.pixels[:, 0, 0, 0].tolist() == [int(key[3:5]) for key in batch.keys]
        if number % 2:
            batch.release()
            batch.release()  # a second time changes nothing
        else:
            kept.append((batch.keys, batch.pixels))
    assert len(set(places)) < len(places)
    for keys, pixels in kept:
        assert pixels[:, 0, 0, 0].tolist() == [int(key[3:5]) for key in keys]


def test_closing_early_stops_the_threads(images: Path) -> None:
    def running() -> int:
        return sum(thread.name.startswith("lsn-images") for thread in threading.enumerate())

    seen = 0

    def counted(data: bytes) -> torch.Tensor:
        nonlocal seen
        seen += 1
        return grey(data)

    batches = load_batches(list_images([images]).items * 20, counted, batch_size=4, workers=3)
    next(batches)
    assert running() > 0
    batches.close()
    assert running() == 0
    assert seen < 40
