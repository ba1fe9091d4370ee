"""SGD and Adam: the updates of ``torch.optim``, to the bit, and its interface.

``torch.optim`` imports torch's compiler, which takes as long as torch itself, and for the few small tensors
of prompts spends most of a step on bookkeeping.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

Update = Callable[[Tensor, Tensor, dict[str, Any], float], None]
"""Updates a parameter and its state, empty at first: parameter, gradient, state and rate."""


class Optimizer:
    """Updates parameters by their gradients; make one with ``sgd`` or ``adam``.

    A step skips parameters without a gradient, and their state. ``param_groups`` and states are as those of
    ``torch.optim``, ``lr`` is the rate of a group.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], rate: float, update: Update) -> None:
        self.defaults = {"lr": rate}
        self.param_groups = [self.defaults | group for group in groups]
        self._update = update
        self._states: list[dict[str, Any]] = [{} for _ in self._parameters]

    @property
    def _parameters(self) -> list[tuple[Tensor, dict[str, Any]]]:
        """Every parameter with its group."""
        return [(parameter, group) for group in self.param_groups for parameter in group["params"]]

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for parameter, _ in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for (parameter, group), state in zip(self._parameters, self._states, strict=True):
            if parameter.grad is not None:
                self._update(parameter, parameter.grad, state, group["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Return the states by the numbers of their parameters, and the groups."""
        states = {number: state for number, state in enumerate(self._states) if state}
        return {"state": states, "param_groups": self.param_groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take the states of ``state_dict``. Raises ValueError for those of other parameters."""
        found: dict[int, dict[str, Tensor]] = saved["state"]
        parameters = [parameter for parameter, _ in self._parameters]
        for number, state in found.items():
            shapes = {value.shape for name, value in state.items() if name != "step"}
            if number >= len(parameters) or shapes - {parameters[number].shape}:
                raise ValueError(f"it has a state for another parameter {number}")
        self._states = [
            {
                name: value if name == "step" else value.to(parameter.device)
                for name, value in found.get(number, {}).items()
            }
            for number, parameter in enumerate(parameters)
        ]


def sgd(
    groups: Sequence[dict[str, Any]],
    rate: float,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Return stochastic gradient descent with an L2 penalty, as ``torch.optim.SGD``."""
    return Optimizer(groups, rate, partial(_sgd, momentum, weight_decay, nesterov))


def _sgd(
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
    rate: float,
) -> None:
    if weight_decay:
        gradient = gradient.add(parameter, alpha=weight_decay)
    if momentum:
        if state:
            state["momentum_buffer"].mul_(momentum).add_(gradient)
        else:
            state["momentum_buffer"] = gradient.clone()
        velocity = state["momentum_buffer"]
        gradient = gradient.add(velocity, alpha=momentum) if nesterov else velocity
    parameter.add_(gradient, alpha=-rate)


BETAS = (0.9, 0.999)
EPSILON = 1e-8


def adam(groups: Sequence[dict[str, Any]], rate: float) -> Optimizer:
    """Return Adam with its usual settings, without weight decay, as ``torch.optim.Adam``."""
    return Optimizer(groups, rate, _adam)


def _adam(parameter: Tensor, gradient: Tensor, state: dict[str, Any], rate: float) -> None:
    if not state:
        state["step"] = torch.tensor(0.0)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    first, second = BETAS
    state["step"] += 1
    step = state["step"].item()
    mean = state["exp_avg"].lerp_(gradient, 1 - first)
    square = state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    spread = (square.sqrt() / (1 - second**step) ** 0.5).add_(EPSILON)
    parameter.addcdiv_(mean, spread, value=-(rate / (1 - first**step)))
