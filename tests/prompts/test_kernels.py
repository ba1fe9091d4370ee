"""Linear kernels: both are right, ``auto`` takes what the self-test found, a name is obeyed or refused."""

import json
from types import SimpleNamespace

import pytest
import torch
from tower_samples import CLASSES, VOCABULARY, random, tower

from lsncli.errors import Unavailable, UsageError
from lsncli.machine import measurements_file
from lsncli.prompts import kernels
from lsncli.prompts import kernels as onednn
from lsncli.prompts.kernels import linear_map, pick_kernel
from lsncli.prompts.layout import context_layout
from lsncli.prompts.packing import Linear

CPU = torch.device("cpu")

with_onednn = pytest.mark.skipif(not onednn.works(), reason="this torch has no oneDNN linear operator")


@pytest.mark.parametrize("kernel", ["torch", pytest.param("onednn", marks=with_onednn)])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7), (2, 0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_map_and_its_input_gradient_are_the_matrix(kernel: str, shape, bias: bool) -> None:
    matrix, shift, x = random(4, 7, seed=1), random(4, seed=2), random(*shape, seed=3)
    run = linear_map(Linear(matrix.float(), shift.float() if bias else None), kernel)
    direction = random(*shape[:-1], 4, seed=4)
    y, gradient = run(x.float()), run.backward(direction.float())
    expected = x @ matrix.T + (shift if bias else 0)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), direction @ matrix, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["torch", pytest.param("onednn", marks=with_onednn)])
def test_rows_that_do_not_lie_side_by_side_are_no_problem(kernel: str) -> None:
    matrix, x = random(4, 7, seed=1).float(), random(7, 5, seed=3).float().T
    assert not x.is_contiguous()
    torch.testing.assert_close(linear_map(Linear(matrix), kernel)(x), x @ matrix.T, rtol=1e-5, atol=1e-5)


@with_onednn
def test_a_tower_gives_the_same_with_either_kernel() -> None:
    towers = [tower(kernel=name) for name in ("torch", "onednn")]
    assert [one.path for one in towers] == ["fast (torch)", "fast (onednn)"]
    layout = context_layout(VOCABULARY, CLASSES, 4)
    found = []
    for one in towers:
        context = random(1, 4, VOCABULARY.width, seed=5).float().requires_grad_()
        features = one.encoder(layout)(context)
        direction = random(*features.shape, seed=6).float()
        (gradient,) = torch.autograd.grad((features * direction).sum(), context)
        found.append((features.detach(), gradient))
    for first, second in zip(*found, strict=True):
        assert torch.dist(first, second) <= 2e-6 * first.norm()


def test_an_unknown_kernel_is_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"^--kernel: expected one of auto, torch, onednn, found 'mkl'\.$"):
        pick_kernel("mkl", 64, CPU, torch.float32)


def test_torch_serves_everywhere() -> None:
    for device, dtype in ((CPU, torch.float16), (torch.device("cuda"), torch.float32)):
        assert pick_kernel("torch", 64, device, dtype) == "torch"


@with_onednn
def test_onednn_serves_when_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "_onednn_leads", lambda *_: pytest.fail("it was asked for, not measured"))
    assert pick_kernel("onednn", 64, CPU, torch.float32) == "onednn"


@pytest.mark.parametrize(
    ("device", "dtype", "found"),
    [
        ("cpu", torch.float16, "found cpu, float16"),
        ("cpu", torch.bfloat16, "found cpu, bfloat16"),
        ("cuda", torch.float32, "found cuda, float32"),
    ],
)
def test_onednn_is_refused_where_it_cannot_serve(device: str, dtype: torch.dtype, found: str) -> None:
    with pytest.raises(Unavailable, match=found) as caught:
        pick_kernel("onednn", 64, torch.device(device), dtype)
    assert caught.value.hint == "Use --kernel auto."


class TestAuto:
    """What the self-test says is done; where there is no choice nothing is measured."""

    @pytest.fixture
    def asked(self, monkeypatch) -> list[tuple[int, int]]:
        """Every question to the self-test, which says yes from width 500 on."""
        questions = []

        def leads(width: int, threads: int) -> bool:
            questions.append((width, threads))
            return width >= 500

        monkeypatch.setattr(kernels, "_onednn_leads", leads)
        monkeypatch.setattr(onednn, "works", lambda: True)
        return questions

    def test_the_faster_kernel_is_taken(self, asked) -> None:
        assert pick_kernel("auto", 192, CPU, torch.float32) == "torch"  # narrow: not even measured
        assert pick_kernel("auto", 400, CPU, torch.float32) == "torch"
        assert pick_kernel("auto", 512, CPU, torch.float32) == "onednn"
        assert asked == [(width, torch.get_num_threads()) for width in (400, 512)]

    def test_half_precision_and_other_devices_are_not_measured(self, asked) -> None:
        for device, dtype in ((CPU, torch.bfloat16), (torch.device("cuda"), torch.float32)):
            assert pick_kernel("auto", 512, device, dtype) == "torch"
        assert asked == []

    def test_a_torch_without_the_operators_is_served_by_torch(self, asked, monkeypatch) -> None:
        monkeypatch.setattr(onednn, "works", lambda: False)
        assert pick_kernel("auto", 512, CPU, torch.float32) == "torch"
        with pytest.raises(Unavailable, match="torch with oneDNN"):
            pick_kernel("onednn", 512, CPU, torch.float32)
        assert asked == []

    @pytest.mark.parametrize(("torch_time", "leads"), [(1.0, False), (1.05, False), (1.2, True)])
    def test_the_self_test_asks_for_a_clear_lead(self, monkeypatch, torch_time: float, leads: bool) -> None:
        clock = 0.0
        first = {"torch": 50.0, "onednn": 0.0}  # a slow first call is warming up, not speed

        def fake(layer: Linear, kernel: str):
            def run(x: torch.Tensor) -> torch.Tensor:
                nonlocal clock
                clock += first.pop(kernel, 0.0) + (torch_time if kernel == "torch" else 1.0)
                return x

            return run

        monkeypatch.setattr(kernels, "linear_map", fake)
        monkeypatch.setattr(kernels, "time", SimpleNamespace(perf_counter=lambda: clock))
        assert kernels._measure_lead(64) is leads

    def test_the_real_self_test_answers(self) -> None:
        if kernels.works():
            assert kernels._measure_lead(32, rows=8, rounds=3) in (True, False)

    @pytest.mark.parametrize("damaged", [None, "[]", '{"KEY": "yes"}'])
    def test_the_result_is_kept_for_this_machine(self, monkeypatch, tmp_path, damaged: str | None) -> None:
        monkeypatch.setenv("LSN_CACHE", str(tmp_path))
        measured = []
        monkeypatch.setattr(
            kernels, "_measure_lead", lambda width: bool(measured.append(width)) or width > 500
        )
        assert [kernels._onednn_leads(width, 2) for width in (400, 512, 400, 512)] == [False, True] * 2
        assert measured == [400, 512]
        assert kernels._onednn_leads(512, 8)  # another number of threads is another measurement
        if damaged is not None:
            (key, *_) = json.loads(measurements_file().read_text())
            measurements_file().write_text(damaged.replace("KEY", key))
            assert not kernels._onednn_leads(400, 2)
            assert measured == [400, 512, 512, 400]
