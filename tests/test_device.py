"""Devices, precisions, seeds and threads by name."""

import pytest
import torch

from lsncli.device import NARROW, PRECISIONS, pick_device, pick_dtype, seeded, threads_for
from lsncli.errors import Unavailable, UsageError


@pytest.fixture
def no_accelerator(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_the_best_there_is(no_accelerator, monkeypatch) -> None:
    assert pick_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")


def test_a_named_device_is_taken_if_it_is_here(monkeypatch) -> None:
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(Unavailable, match="'cuda:2' is not available"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_a_device_that_is_not_here_is_unavailable(no_accelerator, name: str) -> None:
    with pytest.raises(Unavailable, match=f"'{name}' is not available here") as caught:
        pick_device(name)
    assert caught.value.exit_code == 5
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize("name", ["", "tpu", "gpu", "cuda:x", "meta", "xpu", "CPU"])
def test_a_device_that_is_none_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="expected auto, cpu, cuda, cuda:N or mps, found"):
        pick_device(name)


def test_precisions_are_dtypes() -> None:
    assert [pick_dtype(name) for name in PRECISIONS] == [torch.float32, torch.float16, torch.bfloat16]
    with pytest.raises(UsageError, match="--precision: expected one of fp32, fp16, bf16, found 'float32'"):
        pick_dtype("float32")


def test_a_seeded_generator_repeats_and_leaves_the_global_one_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (torch.randn(5, generator=seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_narrow_towers_get_one_thread_and_give_it_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(NARROW - 1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with threads_for(NARROW):
            assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="inside"), threads_for(8):
            raise ValueError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
