"""The stages of a CUDA device: what can be seen of them without one, and with one."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Barrier, get_ident

import numpy as np
import pytest
import torch
from fake_backbone import FakeBackbone, make_images
from waiting import PATIENCE

from lsncli.backbones import load_backbone
from lsncli.extraction import encoder as encode
from lsncli.extraction.encoder import ENCODERS, encode_stream, own_stream
from lsncli.images.listing import list_images
from lsncli.images.loader import Batch, load_batches
from lsncli.types import Seconds


def test_batches_are_pinned_moved_and_encoded_by_threads_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = FakeBackbone()
    backbone.device = torch.device("cuda", 0)
    moved: list[int] = []
    movers, encoders = set(), set()
    asked = []

    def mover(device: torch.device) -> Callable[[Batch], Batch]:
        def move(batch: Batch) -> Batch:
            movers.add(get_ident())
            moved.append(batch.start)
            pixels = batch.pixels.clone()
            batch.release()
            return replace(batch, pixels=pixels, release=lambda: None)

        return move

    all_there = Barrier(ENCODERS, timeout=PATIENCE)

    @contextmanager
    def stream(device: torch.device) -> Iterator[None]:
        if get_ident() not in encoders:
            encoders.add(get_ident())
            all_there.wait()  # no thread does the work of another before that one began
        yield

    def unpinned(*given: object, pinned: bool, **options: object) -> object:
        asked.append(pinned)
        return load_batches(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(encode, "mover", mover)
    monkeypatch.setattr(encode, "own_stream", stream)
    monkeypatch.setattr(encode, "load_batches", unpinned)
    items = list_images([make_images(tmp_path, 40)]).items
    found = list(encode_stream(items, backbone, batch_size=4, workers=2))
    monkeypatch.undo()
    plain = list(encode_stream(items, FakeBackbone(), batch_size=4, workers=2))
    assert asked == [True]
    assert moved == [batch.start for batch in plain]
    assert len(movers) == 1
    assert len(encoders) == ENCODERS
    assert not movers & encoders
    for one, other in zip(found, plain, strict=True):
        assert one.keys == other.keys
        assert np.array_equal(one.features, other.features)


def test_other_devices_have_no_streams() -> None:
    for device in (torch.device("cpu"), torch.device("mps")):
        with own_stream(device):
            assert True


def test_threads_have_streams_of_their_own_and_later_ones_use_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    class Stream:
        def __init__(self, device: torch.device) -> None:
            self.device, self.waits = device, 0
            made.append(self)

        def wait_stream(self, other: str) -> None:
            assert other == f"default of {self.device}"
            self.waits += 1

        def synchronize(self) -> None:
            pass

    monkeypatch.setattr(encode, "_free", defaultdict(list))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: f"default of {device}")
    one, other = torch.device("cuda", 0), torch.device("cuda", 1)
    for _ in range(40):  # more than the 32 that torch has
        with own_stream(one), own_stream(one):
            pass
        with own_stream(other):
            pass
    assert [stream.device for stream in made] == [one, one, other]
    assert [stream.waits for stream in made] == [40] * 3
    pixels = torch.ones(1)
    batch = Batch(0, 1, pixels, np.zeros(1), ("a",), (), Seconds(), lambda: None)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking: (self, device, non_blocking))
    for _ in range(3):
        assert encode.mover(one)(batch).pixels == (pixels, one, True)
    assert [stream.waits for stream in made] == [40, 40, 40, 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_features_are_those_of_batches_encoded_one_by_one(tmp_path: Path) -> None:
    backbone = load_backbone("mini", device="cuda")
    items = list_images([make_images(tmp_path, 64)]).items
    found = list(encode_stream(items, backbone, batch_size=8, workers=4))
    see = encode.pixels_of(backbone)
    for one, batch in zip(found, load_batches(items, see, batch_size=8, workers=1), strict=True):
        assert one.keys == batch.keys
        # float16, and cuBLAS promises no bits where several streams are busy: the last bit may differ.
        np.testing.assert_allclose(one.features, backbone.encode(batch.pixels), rtol=2e-3, atol=1e-4)
