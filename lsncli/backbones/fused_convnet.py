"""A convolutional image tower on a CPU with fewer operations: the runtime "fused".

Batch normalisation after a convolution is one more factor and summand of each of its channels, so it is
folded into the convolution's weights. Weights and pixels are stored channels last, with which oneDNN's
convolutions are fastest.
"""

from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lsncli.backbones.trainable_image_tower import on_cpu_in_float32, pooled


def is_known(tower: nn.Module) -> bool:
    """Return whether ``FusedConvnet`` may compute this module: on a CPU in float32, with something to fold.

    That the folded tower computes the same is for the caller to check: the order of the children of a module
    is not always that of its computation.
    """
    usable = on_cpu_in_float32(tower) and not tower.training
    return usable and any(_pairs(module) for module in tower.modules())


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Return the names of children of which the second normalises the first, a convolution."""
    children = list(module.named_children())
    return [
        (first, second)
        for (first, convolution), (second, norm) in pairwise(children)
        if type(convolution) is nn.Conv2d
        and isinstance(norm, nn.BatchNorm2d)
        and norm.running_var is not None
        and norm.num_features == convolution.out_channels
    ]


class FusedConvnet:
    """The forward of a folded copy of a tower for which ``is_known`` holds."""

    def __init__(self, tower: nn.Module) -> None:
        folded: Any = deepcopy(tower)
        for module in folded.modules():
            for first, second in _pairs(module):
                convolution: Any = module.get_submodule(first)
                norm: Any = module.get_submodule(second)
                setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                # timm's normalisation has the activation that follows in it
                setattr(module, second, getattr(norm, "act", nn.Identity()))
        self._tower = folded.requires_grad_(False).to(memory_format=torch.channels_last)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, H, W) to features (B, D), not normalised; thread-safe."""
        return pooled(self._tower(pixels.contiguous(memory_format=torch.channels_last)))
