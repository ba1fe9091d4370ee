"""The program's learners as single steps from given starting values, which a plain loop can share.

Everything else is the program's own: tower, chunks, losses, optimisers, settings.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from benchmarks.speed.plain_learning import Loop
from lsncli.prompts.cocoop import conditioned, shift
from lsncli.prompts.layout import TextTower
from lsncli.prompts.learner import MEMORY, settings_layout
from lsncli.prompts.loop import make_optimizer
from lsncli.prompts.settings import PromptSettings, classification, logits, orthogonality
from lsncli.prompts.text_features import bounded


def loop(
    tower: TextTower,
    names: Sequence[str],
    settings: PromptSettings,
    contexts: Tensor,
    *,
    meta: Mapping[str, Tensor] | None = None,
    others: Tensor | None = None,
    memory: int = MEMORY,
) -> Loop:
    """Return a loop that starts from ``contexts`` (K, [C,] M, W), for CoCoOp with K meta-nets.

    ``others`` (k, C, D) are text features of sets that this step does not change.
    """
    encode = bounded(tower, settings_layout(tower, names, settings), memory)
    parameters = [contexts.requires_grad_(), *(tensor.requires_grad_() for tensor in (meta or {}).values())]

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        sets = len(contexts)
        moved = conditioned(contexts, shift(meta, images)) if meta else contexts
        text = encode(moved)
        if meta:
            text = text.unflatten(0, (sets, -1))
        values = logits(images, text, settings.kind, settings.tau)
        fit = classification(values, labels, double_softmax=settings.double_softmax)
        if not settings.weight:
            return fit
        every, own = (text, None) if others is None else (torch.cat([text, others]), 0)
        return fit + settings.weight * orthogonality(every, settings.orthogonality, own=own)

    return Loop(make_optimizer(parameters, settings), loss)


def as_tensors(meta: nn.Sequential) -> dict[str, Tensor]:
    """Return a copy of a plain meta-net as one set of the program's (``cocoop.META``)."""
    hidden, out = meta[0], meta[2]
    return {
        f"{name}.{kind}": getattr(layer, kind).detach().clone()[None]
        for name, layer in (("hidden", hidden), ("out", out))
        for kind in ("weight", "bias")
    }
