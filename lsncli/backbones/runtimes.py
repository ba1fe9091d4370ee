"""Runtimes: the ways to compute an image tower, equal up to rounding.

Which one is fastest depends on the processor (``runtime_choice``). Their features are within ``AGREEMENT`` of
open_clip's own, as a fraction of the largest one: each is compared with them when it is made, and refused
otherwise. Equal bytes are promised for one runtime, not across them.
To add a runtime: a function that makes its forward, a row in ``RUNTIMES``, a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from threading import RLock

import torch
from torch import Tensor, nn

from lsncli.backbones import fused_convnet, fused_vit, int8_linear
from lsncli.backbones.fused_convnet import FusedConvnet
from lsncli.backbones.fused_vit import FusedVit
from lsncli.backbones.openvino_tower import openvino_forward
from lsncli.backbones.trainable_image_tower import on_cpu_in_float32, pooled
from lsncli.errors import Unavailable, UsageError

Forward = Callable[[Tensor], Tensor]
"""Pixels (B, 3, H, W) to raw image features (B, D); thread-safe."""

AGREEMENT = 2e-5
TORCH = "torch"


@dataclass(frozen=True)
class Runtime:
    """A row of ``RUNTIMES``: all but torch's own need a tower on a CPU in float32."""

    supports: Callable[[nn.Module], bool]
    make: Callable[[nn.Module, Tensor], Forward]
    """The forward of a tower for pixels of the size of these. Raises Unavailable."""
    automatic: bool = True
    """Whether it may be chosen without being asked for."""


def torch_forward(tower: nn.Module, _pixels: Tensor) -> Forward:
    """Return open_clip's own forward."""
    return lambda pixels: pooled(tower(pixels))


def fused_forward(tower: nn.Module, _pixels: Tensor) -> Forward:
    """Return the forward with fewer operations, of an architecture that has one."""
    return FusedVit(tower) if fused_vit.is_known(tower) else FusedConvnet(tower)


RUNTIMES = {
    TORCH: Runtime(lambda tower: True, torch_forward),
    "fused": Runtime(lambda tower: fused_vit.is_known(tower) or fused_convnet.is_known(tower), fused_forward),
    "openvino": Runtime(
        lambda tower: find_spec("openvino") is not None and on_cpu_in_float32(tower),
        openvino_forward,
        automatic=False,  # processes that had used it crashed at a signal or a fork: decision 26
    ),
}

AUTO = ("auto", *RUNTIMES)


def check_runtime(name: str) -> None:
    """Raise UsageError unless ``name`` is ``auto`` or a runtime."""
    if name not in AUTO:
        raise UsageError(f"--runtime: expected one of {', '.join(AUTO)}, found '{name}'.")


class ImageForwards:
    """The forwards of one image tower, each made once, when it is first asked for; thread-safe.

    ``size`` is the height and width of its pixels. With ``int8`` the only one is the fused one with linear
    layers in integers, which agrees with open_clip's less closely.
    """

    def __init__(self, tower: nn.Module, size: tuple[int, int], *, int8: bool = False) -> None:
        self._tower, self._size, self._int8 = tower, size, int8
        self._made: dict[str, Forward] = {}
        self._lock = RLock()
        if int8 and not (fused_vit.is_known(tower) and int8_linear.works()):
            raise Unavailable(
                "--precision int8 needs a vision transformer of open_clip on a CPU, and torch with oneDNN's "
                f"quantised layers; found a {type(tower).__name__}.",
                "Use --precision fp32.",
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The runtimes to choose from without being asked for one."""
        if self._int8:
            return ("fused",)
        return tuple(name for name, row in RUNTIMES.items() if row.automatic and row.supports(self._tower))

    @cached_property
    def usual(self) -> str:
        """The runtime for little work.

        Folding takes no time, and is always faster; packing the layers of a transformer takes longer than
        some hundred images gain by it, where they gain.
        """
        return "fused" if self._int8 or fused_convnet.is_known(self._tower) else TORCH

    def get(self, name: str) -> Forward:
        """Return the forward of a runtime. Raises UsageError or Unavailable if there is none here."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    @torch.inference_mode()
    def _make(self, name: str) -> Forward:
        check_runtime(name)
        if self._int8:
            if name != "fused":
                raise UsageError(f"--precision int8 has the runtime fused only; found --runtime {name}.")
            return FusedVit(self._tower, int8=True)
        pixels = torch.randn(2, 3, *self._size, generator=torch.Generator().manual_seed(0))
        if name == TORCH:
            return torch_forward(self._tower, pixels)
        if not RUNTIMES[name].supports(self._tower) and name != "openvino":  # which says what it lacks
            raise Unavailable(
                f"--runtime {name}: it does not compute this image tower ({type(self._tower).__name__}), or "
                "not on this device or in this precision.",
                "Use --runtime auto.",
            )
        forward = RUNTIMES[name].make(self._tower, pixels)
        expected = pooled(self._tower(pixels))
        difference = float((forward(pixels) - expected).abs().max() / expected.abs().max())
        if not difference <= AGREEMENT:  # nor is NaN
            raise Unavailable(
                f"--runtime {name}: features differ from open_clip's by {difference:.1e} of the largest one; "
                f"at most {AGREEMENT:.0e} is accepted.",
                "Use --runtime auto.",
            )
        return forward
