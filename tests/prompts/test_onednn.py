"""oneDNN's operators: what they compute, and that they are tried before anything relies on them."""

import pytest
import torch
from tower_samples import random

from lsncli.prompts import kernels

pytestmark = pytest.mark.skipif(not kernels.works(), reason="this torch has no oneDNN linear operator")

THEN = {
    "none": lambda x: x,
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "tanh_gelu": lambda x: x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x / (1 + (-x).exp()),
}


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7)])
def test_a_product_and_what_is_applied_to_it(then: kernels.Then, shape: tuple[int, ...]) -> None:
    matrix, bias, x = random(4, 7, seed=1), random(4, seed=2), 3 * random(*shape, seed=3)
    found = kernels.multiply(x.float(), kernels.pack(matrix.float()), bias.float(), then)
    torch.testing.assert_close(found.double(), THEN[then](x @ matrix.T + bias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7)])
def test_a_product_is_added_and_the_sum_is_left_alone(shape: tuple[int, ...]) -> None:
    matrix, bias, x = random(4, 7, seed=1), random(4, seed=2), random(*shape, seed=3)
    y = random(*shape[:-1], 4, seed=4).float()
    before = y.clone()
    found = kernels.multiply_and_add(x.float(), kernels.pack(matrix.float()), bias.float(), y)
    torch.testing.assert_close(found.double(), x @ matrix.T + bias + y.double(), rtol=1e-5, atol=1e-6)
    assert torch.equal(y, before)


@pytest.mark.parametrize("how", ["wrong", "missing"])
def test_operators_that_are_wrong_or_missing_do_not_work(monkeypatch, how: str) -> None:
    def multiply(x: torch.Tensor, *_: object) -> torch.Tensor:
        if how == "missing":
            raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute")
        return torch.zeros(3, 5)

    monkeypatch.setattr(kernels, "multiply", multiply)
    assert kernels.works.__wrapped__() is False
