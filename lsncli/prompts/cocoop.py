"""CoCoOp: prompts that depend on the image, whose context vectors a small network shifts.

Zhou et al., "Conditional prompt learning for vision-language models", CVPR 2022: V_x(l_c) = [v_1 + pi(x) ...
v_M + pi(x), w_c], pi(x) the meta-net. Every image needs its own text pass over all classes.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsncli.device import memory_for, threads_for
from lsncli.memory import InParts
from lsncli.prompts.layout import PromptLayout, TextTower
from lsncli.prompts.text_features import bounded
from lsncli.types import CosineFunction, Float64Array, FloatArray, unit

META = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
"""The tensors of K meta-nets: (K, h, D), (K, h), (K, W, h) and (K, W)."""

MEMORY = 1 << 30
"""Largest memory (``activation_bytes``) of the text passes of a batch of images, except on CUDA."""

CARD_SHARE = 1 / 8
"""The same on CUDA, as a share of the card's memory."""

CPU_MEMORY = 1 << 26
"""The same on a CPU, where larger batches are slower because activations leave the cache: with the mini model
and 100 classes, an image takes 1.5 times as long in a batch of 128 as in one of 4."""


def shift(meta: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Return pi(x) = A relu(B x + b) + a (K, B, W) of K meta-nets for unit ``images`` (B, D)."""
    hidden = torch.einsum("khd,bd->kbh", meta["hidden.weight"], images) + meta["hidden.bias"][:, None]
    return torch.einsum("kwh,kbh->kbw", meta["out.weight"], hidden.relu()) + meta["out.bias"][:, None]


def conditioned(contexts: Tensor, shift: Tensor) -> Tensor:
    """Return the contexts of every image (K * B, [C,] M, W), ordered by set, then image.

    ``contexts`` are (K, M, W) or (K, C, M, W).

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
    memory: int | None = None,
    *,
    ensemble: bool = False,
) -> CosineFunction:
    """Return a function from raw features (N, D) to cosines (K, N, C) with the prompts of each image.

    With ``ensemble`` a class is represented by the unit mean of its K unit text features: cosines (N, C). Any
    number of rows is encoded in chunks, as many images at a time as ``memory`` bytes allow (None: as suits
    the device). float64, but text features are the tower's float32: rounding differs by 1e-7 or so with the
    number of images at a time.
    """
    contexts = contexts.to(tower.device)
    meta = {name: tensor.to(tower.device) for name, tensor in meta.items()}
    if memory is None:
        memory = memory_for(tower.device, MEMORY, CARD_SHARE)
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

    compute = InParts(
        lambda part: of(part.to(tower.device, wide)).cpu().numpy(),
        join=lambda parts: np.concatenate(parts, axis=1),
    )

    @torch.no_grad()
    def cosines(features: FloatArray) -> Float64Array:
        images = torch.from_numpy(unit(features))
        cosines_of_sets = np.empty((1 if ensemble else sets, len(images), classes))
        with threads_for(tower.vocabulary.width):
            for first in range(0, len(images), at_once):
                cosines_of_sets[:, first : first + at_once] = compute(images[first : first + at_once])
        return cosines_of_sets[0] if ensemble else cosines_of_sets

    return cosines
