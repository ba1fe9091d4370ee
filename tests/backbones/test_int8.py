"""The image tower in int8: integers are multiplied exactly, and no image depends on its neighbours."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsncli.backbones import int8_linear, load_backbone, runtimes_of
from lsncli.backbones.int8_linear import ACTIVATED_ZERO, INPUT_LEVELS, ZERO, Int8Linear, quantise
from lsncli.errors import Unavailable, UsageError

pytestmark = pytest.mark.skipif(not int8_linear.works(), reason="this torch has no quantised oneDNN layers")


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.sampled_from([ZERO, ACTIVATED_ZERO]))
def test_quantised_rows_are_within_half_a_level(seed: int, size: float, zero: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = size * torch.randn(4, 12, generator=generator)
    integers, scale = quantise(x, zero)
    assert int(integers.max()) <= INPUT_LEVELS
    restored = scale * (integers.float() - zero)
    assert bool(((restored - x).abs() <= 0.5001 * scale).all())


def test_a_row_of_zeros_stays_zero() -> None:
    integers, scale = quantise(torch.zeros(2, 3), ZERO)
    assert integers.unique().tolist() == [ZERO]
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("then", ["none", "gelu", "tanh_gelu", "silu"])
def test_a_layer_is_the_product_of_its_integers(activated: bool, then: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(40, 24, generator=generator), torch.randn(40, generator=generator)
    x = torch.randn(7, 24, generator=generator)
    x = torch.nn.functional.gelu(3 * x) if activated else x
    layer = Int8Linear.of(weight, bias, activated=activated)
    scales = weight.abs().amax(1) / 127
    integers, scale = quantise(x, layer.zero)
    product = (integers.double() - layer.zero) @ (weight / scales[:, None]).round().double().T
    expected = (product * scale * scales + bias).float()
    after = {
        "none": lambda y: y,
        "gelu": torch.nn.functional.gelu,
        "tanh_gelu": lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
        "silu": torch.nn.functional.silu,
    }
    torch.testing.assert_close(layer(x, then), after[then](expected), rtol=1e-5, atol=1e-5)
    y = torch.randn(7, 40, generator=generator)
    torch.testing.assert_close(layer.add(x, y), expected + y, rtol=1e-5, atol=1e-5)
    exact = x @ weight.T
    assert float((layer(x) - bias - exact).norm() / exact.norm()) < 0.03


def test_the_model_agrees_with_float32_and_says_that_it_is_another(tiny_model) -> None:
    full, int8 = (load_backbone(tiny_model, device="cpu", precision=name) for name in ("fp32", "int8"))
    pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found, expected = (one.encode(pixels).astype(np.float64) for one in (int8, full))
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.999
    assert not np.array_equal(found, expected)
    assert int8.fingerprint.digest != full.fingerprint.digest
    assert runtimes_of(int8) == ("fused",)
    alone = np.concatenate([int8.encode(one[None]) for one in pixels])
    np.testing.assert_allclose(found, alone, atol=2e-3)
    with pytest.raises(UsageError, match="--precision int8 has the runtime fused only"):
        load_backbone(tiny_model, device="cpu", precision="int8", runtime="torch")


def test_a_model_without_int8_says_so() -> None:
    with pytest.raises(Unavailable, match="--precision int8 needs a vision transformer of open_clip"):
        load_backbone("mini", device="cpu", precision="int8")
