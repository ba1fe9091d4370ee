"""Devices, precisions, seeds and threads by name."""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import pytest
import torch

from lsncli import device
from lsncli.device import (
    NARROW,
    PRECISIONS,
    DeviceWarning,
    apply_precision,
    cuda_problem,
    gpus,
    memory_for,
    pick_device,
    pick_dtype,
    seeded,
    threads_for,
    working_gpus,
)
from lsncli.errors import Unavailable, UsageError
from lsncli.extraction.engines import WorkerGroup
from lsncli.extraction.engines.local import devices
from lsncli.extraction.engines.torchrun import device_of
from lsncli.machine import Processor

FLAGS = torch.backends.cudnn, torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What was found out about devices, before and after a test that pretends to have others."""
    before = [flags.allow_tf32 for flags in FLAGS]
    caches = (cuda_problem, device._warn_unused)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
    for flags, allowed in zip(FLAGS, before, strict=True):
        flags.allow_tf32 = allowed


Cards = Callable[..., None]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    def pretend(*capabilities: tuple[int, int], kernels: Sequence[str] = (), error: str = "") -> None:
        def init() -> None:
            if error:
                raise RuntimeError(error)

        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(kernels))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return pretend


@pytest.fixture
def no_accelerator(cards: Cards) -> None:
    cards()


OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by "
    "downloading and installing a new version"
)
MODERN = ("sm_75", "sm_80", "sm_86", "sm_90a", "compute_90")


def test_auto_takes_the_best_there_is(cards: Cards, monkeypatch: pytest.MonkeyPatch) -> None:
    cards()
    assert pick_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    cuda_problem.cache_clear()
    cards((8, 0))
    assert pick_device("auto") == torch.device("cuda")


def test_a_named_device_is_taken_if_it_is_here(cards: Cards) -> None:
    assert pick_device("cpu") == torch.device("cpu")
    cards((8, 0), (8, 0))
    assert pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(Unavailable, match="'cuda:2' is not available here: torch finds 2 GPUs"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_a_device_that_is_not_here_is_unavailable(no_accelerator: None, name: str) -> None:
    with pytest.raises(Unavailable, match=f"'{name}' is not available here: torch finds no") as caught:
        pick_device(name)
    assert caught.value.exit_code == 5
    assert "--device cpu" in caught.value.hint


def test_a_torch_without_cuda_says_so(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(Unavailable, match="'cuda' is not available here: this torch was built without CUDA"):
        pick_device("cuda")


def test_cards_that_the_driver_cannot_use_are_left_with_a_warning(cards: Cards) -> None:
    cards((8, 0), (8, 0), error=OLD_DRIVER)
    reason = r"The NVIDIA driver on your system is too old \(found version 11040\)\.$"
    with pytest.warns(DeviceWarning, match=f"The GPU is not used: {reason}"):
        assert pick_device("auto") == torch.device("cpu")
    assert pick_device("auto") == torch.device("cpu")  # without a second warning
    assert gpus("auto") == []
    with pytest.raises(Unavailable, match=f"'cuda:1' is not available here: {reason[:-1]}"):
        pick_device("cuda:1")


def test_only_cards_that_torch_has_kernels_for_are_used(cards: Cards) -> None:
    cards((6, 1), (8, 9), (12, 0), (7, 5), kernels=MODERN)
    assert working_gpus() == [1, 2, 3]
    assert pick_device("auto") == torch.device("cuda", 1)
    assert devices(WorkerGroup("local", 4)) == ["cuda:1", "cuda:2", "cuda:3", "cuda:1"]
    assert device_of("cuda", 5) == "cuda:3"
    with pytest.raises(
        Unavailable, match=r"GPU 0 has compute capability 6\.1, and this torch has kernels for"
    ):
        pick_device("cuda")


def test_memory_is_a_share_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert memory_for(torch.device("cuda", 1), 4 << 30, 0.5) == 40 << 30
    assert memory_for(torch.device("cpu"), 4 << 30, 0.5) == 4 << 30


def test_float32_is_exact_on_cuda_unless_tf32_is_asked_for(cards: Cards) -> None:
    torch.backends.cudnn.allow_tf32 = True
    cards((8, 0))
    cuda = pick_device("cuda")
    assert [flags.allow_tf32 for flags in FLAGS] == [False, False]
    for precision in ("tf32", "fp32", "tf32", "bf16"):
        apply_precision(precision, cuda)
        assert [flags.allow_tf32 for flags in FLAGS] == [precision == "tf32"] * 2
    apply_precision("fp32", torch.device("cpu"))
    with pytest.raises(Unavailable, match="--precision tf32 needs a CUDA device, found 'cpu'"):
        apply_precision("tf32", torch.device("cpu"))


@pytest.mark.parametrize("name", ["", "tpu", "gpu", "cuda:x", "meta", "xpu", "CPU"])
def test_a_device_that_is_none_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="expected auto, cpu, cuda, cuda:N or mps, found"):
        pick_device(name)


def test_precisions_are_dtypes() -> None:
    wide = [torch.float32] * 2
    assert [pick_dtype(name) for name in PRECISIONS] == [*wide, torch.float16, torch.bfloat16]
    with pytest.raises(UsageError, match="--precision: expected one of fp32, tf32, fp16, bf16, found 'float"):
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


@pytest.mark.parametrize(
    ("flags", "capability", "precision", "refused"),
    [
        ({"avx2"}, "AVX2", "bf16", True),
        ({"avx2", "avx512f"}, "AVX512", "bf16", True),
        ({"avx2", "avx512f", "avx512_bf16"}, "AVX512", "bf16", False),
        ({"avx2", "avx512f", "avx512_bf16"}, "AVX512", "fp16", True),
        ({"avx2", "avx512f", "amx_bf16", "avx512_fp16"}, "AVX2", "bf16", True),
        ({"asimd", "bf16"}, "DEFAULT", "bf16", False),
        ({"asimd"}, "DEFAULT", "fp16", True),
        (set(), "DEFAULT", "fp16", False),
        ({"avx2"}, "AVX2", "fp32", False),
    ],
)
def test_half_precision_on_a_cpu_needs_instructions_for_it(
    monkeypatch, flags: set[str], capability: str, precision: str, refused: bool
) -> None:
    monkeypatch.setattr(device, "processor", lambda: Processor("", frozenset(flags)))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    if refused:
        with pytest.raises(UsageError, match=f"--precision {precision}: this processor has no instructions"):
            device.check_native(precision, "cpu")
    else:
        device.check_native(precision, "cpu")
