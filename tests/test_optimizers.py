"""SGD and Adam give what torch.optim gives, to the bit, and import no compiler."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lsncli.optimizers import Optimizer, adam, sgd

PAIRS: dict[str, tuple[Callable, Callable]] = {
    "sgd": (lambda groups: sgd(groups, 0.1), lambda groups: torch.optim.SGD(groups, lr=0.1)),
    "momentum": (
        lambda groups: sgd(groups, 0.1, momentum=0.9, weight_decay=0.01),
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
    "nesterov": (
        lambda groups: sgd(groups, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    ),
    "adam": (lambda groups: adam(groups, 0.1), lambda groups: torch.optim.Adam(groups, lr=0.1)),
}


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 4), (2,), (5, 2))]


def groups_of(tensors: list[Tensor]) -> list[dict]:
    return [{"params": tensors[:2]}, {"params": tensors[2:], "lr": 0.01}]


def steps(optimizer, tensors: list[Tensor], count: int, *, first: int = 0) -> list[Tensor]:
    """The parameters after some steps, in each second of which the last has no gradient."""
    for number in range(first, first + count):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(number)
        for tensor in tensors[: 2 if number % 2 else 3]:
            tensor.grad = torch.randn(tensor.shape, generator=generator)
        optimizer.step()
    return [tensor.detach().clone() for tensor in tensors]


@pytest.mark.parametrize("name", PAIRS)
def test_every_update_is_torchs_to_the_bit(name: str) -> None:
    ours, theirs = parameters(), parameters()
    make, make_torch = PAIRS[name]
    found, expected = make(groups_of(ours)), make_torch(groups_of(theirs))
    for first in range(0, 12, 3):
        pairs = zip(steps(found, ours, 3, first=first), steps(expected, theirs, 3, first=first), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert found.state_dict()["state"].keys() == {
        number
        for number, state in expected.state_dict()["state"].items()
        if any(value is not None for value in state.values())
    }


@pytest.mark.parametrize("name", PAIRS)
def test_states_go_into_another_optimizer(name: str) -> None:
    make, _ = PAIRS[name]
    whole, parts = parameters(), parameters()
    expected = steps(make(groups_of(whole)), whole, 6)
    first = make(groups_of(parts))
    steps(first, parts, 3)
    second = make(groups_of(parts))
    second.load_state_dict(first.state_dict())
    assert all(map(torch.equal, steps(second, parts, 3, first=3), expected))


def test_states_of_other_parameters_are_refused() -> None:
    tensors = parameters()
    found = adam(groups_of(tensors), 0.1)
    steps(found, tensors, 1)
    fewer: Optimizer = adam([{"params": tensors[:1]}], 0.1)
    with pytest.raises(ValueError, match="another parameter 1"):
        fewer.load_state_dict(found.state_dict())
    other = adam([{"params": tensors[::-1]}], 0.1)
    with pytest.raises(ValueError, match="another parameter 0"):
        other.load_state_dict(found.state_dict())


SCRIPT = """
import sys, torch
from lsncli.optimizers import adam, sgd
x = torch.ones(2, requires_grad=True)
for make in (adam, sgd):
    optimizer = make([{"params": [x]}], 0.1)
    x.sum().backward()
    optimizer.step()
print("torch._dynamo" in sys.modules)
"""


def test_no_compiler_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
