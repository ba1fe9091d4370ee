"""The comparison of runtimes: it runs, and int8 is within the error that rounding allows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import gelu, silu

from benchmarks.speed import runtimes
from benchmarks.speed.runtimes import Int8Linear


def layer(rows: int, width: int, out: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(out, width, generator=generator), torch.randn(out, generator=generator)
    return torch.randn(rows, width, generator=generator), weight, bias


def bound(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The largest difference (rows, out) that rounding to 8 bits of weights and 7 bits of inputs can make."""
    step_w = weight.abs().amax(dim=1) / 127
    step_x = (x.max().clamp_min(0) - x.min().clamp_max(0)) / 127
    # The zero of the inputs is rounded, too: a full step at the ends of the range.
    per_input = step_x * weight.abs().sum(dim=1) + step_x * step_w * x.shape[1] / 2
    return per_input + x.abs().sum(dim=1, keepdim=True) * step_w / 2 + 1e-4


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 50), st.integers(0, 2**31 - 1))
def test_a_product_is_within_the_error_of_rounding(rows: int, width: int, out: int, seed: int) -> None:
    x, weight, bias = layer(rows, width, out, seed)
    assert ((Int8Linear.of(weight, bias)(x) - (x @ weight.T + bias)).abs() <= bound(x, weight)).all()


def test_large_inputs_of_one_sign_do_not_overflow() -> None:
    x, weight = torch.full((3, 512), 9.0), torch.full((4, 512), 2.0)
    torch.testing.assert_close(Int8Linear.of(weight, None)(x), x @ weight.T, rtol=0.01, atol=0.0)


def test_activations_and_sums_are_in_float32() -> None:
    x, weight, bias = layer(6, 32, 16, 1)
    linear = Int8Linear.of(weight, bias)
    y, near = linear(x), {"rtol": 0.0, "atol": 1e-5}
    torch.testing.assert_close(linear(x, "gelu"), gelu(y), **near)
    torch.testing.assert_close(linear(x, "tanh_gelu"), gelu(y, approximate="tanh"), **near)
    torch.testing.assert_close(linear(x, "silu"), silu(y), **near)
    torch.testing.assert_close(linear.add(x, y), y + y, **near)


def test_a_dwarf_goes_through_every_runtime(monkeypatch, capsys) -> None:
    monkeypatch.setattr(runtimes, "record", lambda *_, **__: pytest.fail("the tiny form is not recorded"))
    runtimes.main(["--tiny"])
    text = capsys.readouterr().out
    for name in (runtimes.SHARED, "torch", "onednn", "int8"):
        assert f"  {name:<22}" in text


def test_float32_agrees_with_open_clip_and_int8_nearly() -> None:
    before = torch.get_num_threads()
    agreement = runtimes.measure("dwarf", 3, 1)["agreement"]
    assert torch.get_num_threads() == before
    for name in agreement.keys() - {"int8"}:
        assert agreement[name]["difference"] <= 2e-5
    assert agreement["int8"]["cosine"] > 0.99
