"""Encoding without a store."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_backbone import DIM, FakeBackbone, make_images, png
from numpy.typing import NDArray
from slow_images import DECODER, SLEEPS, WATCHED
from waiting import wait_until

from lsncli.errors import LsnError
from lsncli.extraction.encoder import Encoder, encode_stream
from lsncli.images import decode_process
from lsncli.images.budget import IMAGE_SECONDS
from lsncli.images.listing import list_images
from lsncli.store.format import shortest_safe_length


def test_batches_carry_features_keys_and_labels_in_order(tmp_path: Path) -> None:
    items = list_images([make_images(tmp_path, 10)]).items
    backbone = FakeBackbone()
    batches = list(encode_stream(items, backbone, batch_size=4, workers=2))
    assert [(batch.start, batch.stop) for batch in batches] == [(0, 4), (4, 8), (8, 10)]
    assert [key for batch in batches for key in batch.keys] == [item.key for item in items]
    assert [label for batch in batches for label in batch.labels] == [item.label for item in items]
    for batch in batches:
        assert batch.features.dtype == np.float16
        assert batch.features.shape == (batch.stop - batch.start, DIM)
        assert batch.seconds.read > 0
        assert batch.seconds.decode > 0
        assert batch.seconds.waiting >= 0
        assert batch.seconds.encode > 0
        assert batch.seconds.write == 0
    (later,) = encode_stream(items, backbone, batch_size=4, workers=2, start=8)
    assert (later.features == batches[2].features).all()


def test_broken_infinite_and_zero_images_are_failures_in_order(tmp_path: Path) -> None:
    for name, data in [("a", png(1, 2, 3)), ("b", b""), ("c", png(255, 0, 0)), ("d", png(0, 255, 0))]:
        (tmp_path / f"{name}.png").write_bytes(data)
    (batch,) = encode_stream(list_images([tmp_path]).items, FakeBackbone(), batch_size=8, workers=1)
    assert batch.keys == ("a.png",)
    assert len(batch.features) == len(batch.labels) == 1
    assert [(failure.key, failure.reason) for failure in batch.failures] == [
        ("b.png", "an empty file"),
        ("c.png", "the features are not finite"),
        ("d.png", "the features are all zero"),
    ]


def test_closing_does_not_wait_for_an_image_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_process, "RUN", DECODER + SLEEPS)
    monkeypatch.setenv(IMAGE_SECONDS, "3600")  # far more than the time limit of a test
    decode_process.end_all()
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(1, 2, 3) if number < 2 else WATCHED["AVIF"]())
    batches = encode_stream(list_images([tmp_path]).items, FakeBackbone(), batch_size=2, workers=2)
    assert next(batches).keys == ("0.png", "1.png")
    wait_until(lambda: bool(decode_process._all), "a process for an image of the next batch")
    batches.close()
    assert not decode_process._all


class Faint(FakeBackbone):
    """A model whose features are near the end of float16."""

    def encode(self, pixels: torch.Tensor) -> NDArray[np.float16]:
        features = super().encode(pixels).astype(np.float64)
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        return (features / lengths * shortest_safe_length(DIM) * [[1.5], [0.5]]).astype(np.float16)


def test_features_that_float16_cannot_hold_are_failures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(png(1, 2, 3))
    (batch,) = encode_stream(list_images([tmp_path]).items, Faint(), batch_size=8, workers=1)
    assert batch.keys == ("a.png",)
    reason = "the features are too small for float16, in which they are stored"
    assert [(failure.key, failure.reason) for failure in batch.failures] == [("b.png", reason)]


def test_a_batch_that_is_all_broken_is_not_encoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    backbone = FakeBackbone()
    (batch,) = encode_stream(list_images([tmp_path]).items, backbone, batch_size=8, workers=1)
    assert batch.features.shape == (0, DIM)
    assert backbone.encoded == 0


def test_an_encoder_counts_and_ticks_after_the_batch_was_used(tmp_path: Path) -> None:
    items = list_images([make_images(tmp_path, 10)]).items
    steps: list[int] = []
    encoder = Encoder(FakeBackbone(pause=0.001), 4, 2, lambda step, note="": steps.append(step))
    assert encoder.images_per_second == 0
    for done, _ in enumerate(encoder.stream(items)):
        assert len(steps) == done
    assert steps == [4, 4, 2]
    assert encoder.images == 10
    assert encoder.seconds.encode >= 0.003
    assert encoder.seconds.write > 0
    assert encoder.images_per_second == pytest.approx(10 / encoder.elapsed)


def test_encoding_goes_on_while_the_caller_writes(tmp_path: Path) -> None:
    """A caller that holds each batch until the next one is encoded would wait for ever if they took turns."""
    backbone = FakeBackbone()
    encoder = Encoder(backbone, 2, 1, lambda step, note="": None)
    for batch in encoder.stream(list_images([make_images(tmp_path, 20)]).items):
        following = min(batch.stop + 2, 20)
        wait_until(lambda following=following: backbone.encoded >= following, f"image {following}")
    assert encoder.images == 20


def test_closing_early_ends_every_thread(tmp_path: Path) -> None:
    def running() -> set[str]:
        return {one.name for one in threading.enumerate() if one.name.startswith("lsn-")}

    backbone = FakeBackbone()
    stream = encode_stream(list_images([make_images(tmp_path, 200)]).items, backbone, batch_size=4, workers=2)
    next(stream)
    assert {name.split("-")[1] for name in running()} == {"encode", "images"}
    stream.close()
    assert running() == set()
    assert backbone.encoded < 40


class Full(FakeBackbone):
    """Has room for ``room`` images at a time."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.asked = room, []

    def encode(self, pixels: torch.Tensor) -> np.ndarray:
        self.asked.append(len(pixels))
        if len(pixels) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super().encode(pixels)


@pytest.mark.parametrize("room", [1, 2, 3, 7])
def test_a_device_out_of_memory_gets_fewer_images_at_a_time(tmp_path: Path, room: int) -> None:
    items, full = list_images([make_images(tmp_path, 21)]).items, Full(room)
    found = list(encode_stream(items, full, batch_size=8, workers=1))
    plain = list(encode_stream(items, FakeBackbone(), batch_size=8, workers=1))
    for one, other in zip(found, plain, strict=True):
        assert one.keys == other.keys
        assert np.array_equal(one.features, other.features)
    refused = [asked for asked in full.asked if asked > room]
    assert len(refused) <= 3 * torch.get_num_threads()  # 8, 4, 2, but for batches at once


def test_no_memory_for_a_single_image_is_a_sentence(tmp_path: Path) -> None:
    items = list_images([make_images(tmp_path, 3)]).items
    with pytest.raises(LsnError, match="not enough memory for one image at a time") as caught:
        next(encode_stream(items, Full(0), batch_size=4, workers=1))
    assert "--precision fp16" in caught.value.hint
