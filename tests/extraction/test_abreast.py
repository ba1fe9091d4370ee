"""Batches abreast: each is one thread's work, so the bytes of features do not show how many there were."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import numpy as np
import pytest
import torch
from fake_backbone import FakeBackbone, make_images
from waiting import PATIENCE

from lsncli.backbones import load_backbone
from lsncli.extraction.encoder import encode_stream
from lsncli.images.listing import list_images


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["tiny", "mini"])
def backbone(request):
    return request.getfixturevalue("tiny_backbone") if request.param == "tiny" else load_backbone("mini")


class OnCpu(FakeBackbone):
    """Notes how many threads torch has where it encodes; ``meet`` lets none go on before all are there."""

    device = torch.device("cpu")

    def __init__(self, meet: int = 1, patience: float = PATIENCE) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.barrier = Barrier(meet, timeout=patience)

    def encode(self, pixels: torch.Tensor) -> np.ndarray:
        self.threads.append(torch.get_num_threads())
        self.barrier.wait()
        return super().encode(pixels)


def test_equal_bytes_whatever_the_number_of_threads(backbone, tmp_path: Path) -> None:
    items = list_images([make_images(tmp_path, 29, broken=(3, 17))]).items  # batches of 7, 8, 7 and 5 images
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        batches = encode_stream(items, backbone, batch_size=8, workers=2)
        found.append(np.concatenate([batch.features for batch in batches]))
    assert found[0].shape == (27, backbone.fingerprint.dim)
    assert all(one.tobytes() == found[0].tobytes() for one in found)


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_batches_at_once_as_there_are_threads_one_thread_each(tmp_path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    backbone = OnCpu(meet=threads)  # fewer at once would wait for each other until they break
    stream = encode_stream(list_images([make_images(tmp_path, 12)]).items, backbone, batch_size=2, workers=1)
    assert [batch.start for batch in stream] == [0, 2, 4, 6, 8, 10]
    assert backbone.threads == [1] * 6


@pytest.mark.parametrize("end", ["all", "closed", "broken"])
def test_torch_has_its_threads_again(tmp_path: Path, end: str) -> None:
    torch.set_num_threads(2)
    backbone = OnCpu(meet=3 if end == "broken" else 1, patience=0.2)
    stream = encode_stream(list_images([make_images(tmp_path, 6)]).items, backbone, batch_size=2, workers=1)
    if end == "broken":
        with pytest.raises(BrokenBarrierError):
            next(stream)
    elif end == "closed":
        next(stream)
        assert torch.get_num_threads() == 2  # whoever takes the batches computes as before
        stream.close()
    else:
        assert len(list(stream)) == 3
    with ThreadPoolExecutor(1) as new:
        assert (torch.get_num_threads(), new.submit(torch.get_num_threads).result()) == (2, 2)


def test_a_model_that_names_no_device_encodes_one_batch_at_a_time(tmp_path: Path) -> None:
    torch.set_num_threads(3)
    items = list_images([make_images(tmp_path, 6)]).items
    stream = encode_stream(items, FakeBackbone(), batch_size=2, workers=1)
    assert [len(batch.keys) for batch in stream] == [2, 2, 2]
    assert torch.get_num_threads() == 3
