"""CoCoOp: prompts that depend on the image. A small network shifts every context vector by what it sees.

Zhou et al., "Conditional prompt learning for vision-language models", CVPR 2022: V_x(l_c) = [v_1 + pi(x) ...
v_M + pi(x), w_c], pi(x) the meta-net. Every image needs a text pass over all classes of its own.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsncli.device import threads_for
from lsncli.prompts.layout import PromptLayout, TextTower
from lsncli.prompts.text_features import bounded
from lsncli.types import CosineFunction, Float64Array, FloatArray, unit

META = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
"""The tensors of K meta-nets: (K, h, D), (K, h), (K, W, h) and (K, W)."""

MEMORY = 1 << 30
"""Bytes (``activation_bytes``) that the text passes of some images may take at a time."""

CPU_MEMORY = 1 << 26
"""On a CPU more images at a time are slower, because their activations leave the cache: with the mini model
and 100 classes, 128 images at a time take 1.5 times as long each as 4."""


def shift(meta: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """pi(x) = A relu(B x + b) + a (K, B, W): what each of K meta-nets adds for unit ``images`` (B, D)."""
    hidden = torch.einsum("khd,bd->kbh", meta["hidden.weight"], images) + meta["hidden.bias"][:, None]
    return torch.einsum("kwh,kbh->kbw", meta["out.weight"], hidden.relu()) + meta["out.bias"][:, None]


def conditioned(contexts: Tensor, shift: Tensor) -> Tensor:
    """Contexts (K, M, W) or (K, C, M, W) of every image (K * B, [C,] M, W): set by set, in the images' order.

    ``shift`` (K, B, W) is added to every context vector.
    """
    sets, images, width = shift.shape
    between = (1,) * (contexts.ndim - 2)
    return (contexts[:, None] + shift.reshape(sets, images, *between, width)).flatten(0, 1)


def conditional_cosines(
    tower: TextTower,
    contexts: Tensor,
    meta: Mapping[str, Tensor],
    layout: PromptLayout,
    memory: int = MEMORY,
    *,
    ensemble: bool = False,
) -> CosineFunction:
    """A function from raw features (N, D) to cosines (K, N, C) with the prompts of K contexts for each image.

    With ``ensemble`` a class is represented by the unit mean of its K unit text features: cosines (N, C). Any
    number of rows is encoded piece by piece, as many images at a time as ``memory`` bytes allow. float64, but
    text features are the tower's float32: rounding differs by 1e-7 or so with the number of images at a time.
    """
    contexts = contexts.to(tower.device)
    meta = {name: tensor.to(tower.device) for name, tensor in meta.items()}
    encode = bounded(tower, layout, memory)
    sets, classes = len(contexts), len(layout.prompts)
    budget = min(memory, CPU_MEMORY) if tower.device.type == "cpu" else memory
    at_once = max(1, budget // max(1, sets * tower.activation_bytes(layout)))
    wide = torch.float32 if tower.device.type == "mps" else torch.float64  # mps has no float64

    def of(images: Tensor) -> Tensor:
        text = encode(conditioned(contexts, shift(meta, images.float()))).unflatten(0, (sets, -1))
        text = normalize(text.to(wide), dim=-1)
        if ensemble:
            text = normalize(text.mean(0, keepdim=True), dim=-1)
        return torch.einsum("kbcd,bd->kbc", text, images)

    @torch.no_grad()
    def cosines(features: FloatArray) -> Float64Array:
        images = torch.from_numpy(unit(features))
        found = np.empty((1 if ensemble else sets, len(images), classes))
        with threads_for(tower.vocabulary.width):
            for first in range(0, len(images), at_once):
                part = images[first : first + at_once].to(tower.device, wide)
                found[:, first : first + at_once] = of(part).cpu().numpy()
        return found[0] if ensemble else found

    return cosines
