"""Create modules whose weights are loaded right after: without random numbers, and without copying a file.

Random initial weights take most of the time in which a model is created, and the weights that are loaded
next replace them all. Weights are used where they are, which for a safetensors file is the file itself,
mapped into memory: what is never used, such as the text encoder of a detector that stores its text features,
is never copied. A mapped file must not be overwritten in place; lsn replaces files as a whole.
"""

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)

ALIGNMENT = 64
"""Alignment in bytes of the memory that torch allocates. Tensors in a file have any, and products with a
matrix could round differently with it."""

METHODS = ("normal_", "uniform_", "random_", "bernoulli_", "exponential_")
INITIALISERS = (
    "uniform_",
    "normal_",
    "trunc_normal_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
    "orthogonal_",
)
RANDOM = {getattr(Tensor, name) for name in METHODS} | {getattr(nn.init, name) for name in INITIALISERS}
"""Functions that fill their first argument with random numbers, and return it."""


class _Loading(TorchFunctionMode):
    """Leaves new parameters unset, and lets them adopt the tensors that are copied into them."""

    def __init__(self) -> None:
        super().__init__()
        self.unset: WeakValueDictionary[int, nn.Parameter] = WeakValueDictionary()
        """Parameters without values, by identity; one that is replaced, as timm's last layer, drops out."""
        self._taken: set[int] = set()
        """Addresses of the tensors that were adopted."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        first = args[0] if args else (kwargs or {}).get("tensor")
        if isinstance(first, nn.Parameter):
            if function in RANDOM:
                self.unset[id(first)] = first
                return first
            if function is Tensor.copy_ and len(args) > 1:
                self.unset.pop(id(first), None)
                if self._adopts(first, args[1]):
                    self._taken.add(args[1].data_ptr())
                    first.data = args[1].detach()
                    return first
        return function(*args, **kwargs or {})

    def _adopts(self, parameter: nn.Parameter, values: Tensor) -> bool:
        """Return whether ``values`` are the same kind of tensor as a parameter, and nobody else's memory."""
        return (
            values.shape == parameter.shape
            and values.dtype == parameter.dtype
            and values.device == parameter.device
            and values.is_contiguous()
            and values.untyped_storage().nbytes() == values.nbytes
            and values.data_ptr() not in self._taken
        )


def create_loaded(create: Callable[[], T]) -> T:
    """Return what ``create`` returns; it creates modules, and then loads all of their weights.

    If it leaves a parameter without weights, it is called again, and initialises as usual.
    """
    loading = _Loading()
    with loading:
        created = create()
    return create() if loading.unset else created


@torch.no_grad()
def in_memory(module: M) -> M:
    """Copy those weights of ``module`` that torch has not allocated, such as those of a mapped file."""
    for parameter in module.parameters():
        if parameter.data_ptr() % ALIGNMENT:
            parameter.data = parameter.clone()
    return module
