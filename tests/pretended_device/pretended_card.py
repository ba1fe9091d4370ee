"""A pytest plugin that gives this process a CUDA device: numbers are computed on the CPU, rules are CUDA's.

A tensor on the card is an ``OnCard``, which states the device ``cuda:0`` and holds a tensor of the CPU. Every
operator of torch passes ``Card.run``, which refuses what a CUDA build would refuse: operands on two devices,
a generator of the CPU, an operator of oneDNN. It counts the bytes on the card, and rounds float32 products to
TF32 where torch's settings allow it.

A CPU build of torch needs a guard for the device, or autograd aborts: ``card.cpp``, whose compiled form the
environment variable PRETENDED_CARD names.
"""

import contextlib
import ctypes
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

assert "torch" not in sys.modules, "torch looks for a card when it is imported"
LIBRARIES = Path(find_spec("torch").origin).parent / "lib"  # type: ignore[union-attr, arg-type]
for library in (LIBRARIES / "libc10.so", LIBRARIES / "libtorch_cpu.so", os.environ["PRETENDED_CARD"]):
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)

import torch  # noqa: E402
from torch.utils._mode_utils import no_dispatch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map  # noqa: E402

DEVICE = torch.device("cuda", 0)

COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::lift_fresh"}
"""Operators that take operands on two devices."""
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
"""Operators whose index may be on the CPU while the tensor is on the card, but not the other way round."""
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::baddbmm_"}


class WrongDevice(RuntimeError):
    """What a CUDA build would refuse."""


class Bytes:
    """The memory of a tensor on the card, counted until its last tensor is gone."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._counted = ()
        place_and_size = storage.data_ptr(), storage.nbytes()
        CARD.count(*place_and_size)  # raises where there is no room
        self._counted = place_and_size

    def __del__(self) -> None:
        if self._counted:
            CARD.forget(*self._counted)


class OnCard(torch.Tensor):
    """A tensor that says it is on the card; ``held`` has its numbers."""

    held: torch.Tensor
    bytes: Bytes
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnCard":
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        self.held, self.bytes = held, Bytes(held.untyped_storage())
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return CARD.run(func, args, kwargs or {})

    # With these two, Module.to swaps its parameters for those on the card and keeps the objects, as on CUDA:
    # an optimizer holds those that the module computes with.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: object) -> "OnCard":
        return OnCard(inner["held"])

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        with torch.no_grad():
            copy = self.detach().clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copy._is_param = True
        memo[id(self)] = copy
        return copy

    def __repr__(self, **_: Any) -> str:
        return f"OnCard({self.held!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise WrongDevice("a tensor on CUDA cannot become an array; it is copied to the CPU first.")


class Card:
    """The card: its rules, its memory, and what was done on it."""

    def __init__(self) -> None:
        self.limit: float = float("inf")
        """Bytes that fit."""
        self.refused = 0
        """How often something did not fit, since the limit was set."""
        self.live = 0
        self.peak = 0
        self.ran: Counter[str] = Counter()
        """How often each operator had an operand or a result on the card."""
        self._storages: Counter[int] = Counter()

    @contextlib.contextmanager
    def limited(self, spare: float) -> Iterator[None]:
        """Leave ``spare`` bytes beside what is there now."""
        self.limit, self.refused = self.live + spare, 0
        try:
            yield
        finally:
            self.limit = float("inf")

    def count(self, place: int, size: int) -> None:
        """Count the storage of one more tensor, once for all that share it."""
        if place and not self._storages[place]:
            if self.live + size > self.limit:
                self.refused += 1
                raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
            self.live += size
            self.peak = max(self.peak, self.live)
        self._storages[place] += 1

    def forget(self, place: int, size: int) -> None:
        """Count one tensor of a storage less."""
        self._storages[place] -= 1
        if place and not self._storages[place]:
            self.live -= size
            del self._storages[place]

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operator as a CUDA build would, or raise WrongDevice."""
        name = func._schema.name
        flat, _ = tree_flatten((args, kwargs))
        tensors = [each for each in flat if isinstance(each, torch.Tensor)]
        here = [each for each in tensors if isinstance(each, OnCard)]
        asked = kwargs.get("device")
        result_here = bool(here) if asked is None else torch.device(asked).type == "cuda"
        if here or result_here:
            self.ran[name] += 1
            self._check(name, args, flat, tensors, result_here)
        if name == "aten::_fused_sdp_choice":
            return 0  # plain products: what the kernels of a card would do
        if name == "aten::is_pinned":
            return False
        if name in ("aten::pin_memory", "aten::_pin_memory"):
            return args[0].clone()
        if name == "aten::record_stream":
            return None
        of = {id(each.held): each for each in here}
        held_args, held_kwargs = tree_map(_held, (args, kwargs))
        if "pin_memory" in held_kwargs:
            held_kwargs["pin_memory"] = False
        if name in PRODUCTS and here and torch.backends.cuda.matmul.allow_tf32:
            held_args = tree_map(_rounded, held_args)
        if name == "aten::convolution" and here and torch.backends.cudnn.allow_tf32:
            held_args = tree_map(_rounded, held_args)
        result = func(*held_args, **held_kwargs)
        if here and torch.Tag.inplace_view in func.tags:
            with no_dispatch():  # squeeze_ and the like: the wrapper gets the new shape, too
                func(*args, **kwargs)
        if not result_here:
            return result

        def on_card(each: Any) -> Any:
            if not isinstance(each, torch.Tensor) or isinstance(each, OnCard):
                return each
            same = of.get(id(each))
            return OnCard(each) if same is None else same

        return tree_map(on_card, result)

    def _check(
        self, name: str, args: Any, flat: list[Any], tensors: Sequence[torch.Tensor], result_here: bool
    ) -> None:
        if "mkldnn" in name or "onednn" in name:
            raise WrongDevice(f"{name} does not run on CUDA.")
        if result_here and any(isinstance(each, torch.Generator) for each in flat):
            raise WrongDevice(f"{name}: expected a 'cuda' generator, found one of the CPU.")
        if name in COPIES:
            return
        elsewhere = [each for each in tensors if not isinstance(each, OnCard) and each.dim()]
        if name in INDEXED and isinstance(args[0], OnCard):
            indices = [each for each in args[1] if each is not None]
            elsewhere = [each for each in elsewhere if not any(each is index for index in indices)]
        if elsewhere and any(isinstance(each, OnCard) for each in tensors):
            raise WrongDevice(
                f"{name}: expected all tensors on one device, found a {tuple(elsewhere[0].shape)} of the CPU."
            )


CARD = Card()


def _held(each: Any) -> Any:
    if isinstance(each, OnCard):
        return each.held
    if isinstance(each, torch.device) and each.type == "cuda":
        return torch.device("cpu")
    return each


def _rounded(each: Any) -> Any:
    """Round float32 to TF32's 10 bits of mantissa."""
    if not isinstance(each, torch.Tensor) or each.dtype != torch.float32:
        return each
    bits = each.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


class Pretence(TorchDispatchMode):
    """Sends operators without a tensor on the card through ``Card.run``, too: factories and copies to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return CARD.run(func, args, kwargs or {})


class Stream:
    """A stream of a card that does everything at once."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def synchronize(self) -> None:
        """Have nothing to wait for."""

    def wait_stream(self, other: Any) -> None:
        """Have nothing to wait for."""


def plug_in() -> None:
    """Make torch find the card, in this thread and in all that it starts."""
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") copies in the open
    torch.inference_mode = torch.no_grad  # tensors that wrap others cannot be inference tensors
    torch.backends.cuda.is_built = lambda: True
    properties = SimpleNamespace(total_memory=1 << 34)
    for name, value in {
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda index=0: (8, 0),
        "get_arch_list": lambda: ["sm_80"],
        "get_device_name": lambda index=0: "a pretended card",
        "get_device_properties": lambda index=0: properties,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "get_rng_state": lambda device=None: torch.empty(0),
        "set_rng_state": lambda state, device=None: None,
        "Stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "default_stream": Stream,
    }.items():
        setattr(torch.cuda, name, value)
    run: Callable[[threading.Thread], None] = threading.Thread.run

    def run_with_card(self: threading.Thread) -> None:
        with Pretence():
            run(self)

    threading.Thread.run = run_with_card  # type: ignore[method-assign]
    Pretence().__enter__()


def pytest_configure() -> None:
    """Plug the card in before any test is imported."""
    plug_in()
