"""The frozen text tower g, as prompt learning sees it: one protocol, two ways through it.

``fast.FastTower`` computes what a causal CLIP text transformer computes with a twentieth of the work;
``plain.PlainTower`` runs any other text encoder as it is. Which one serves a model is decided by inspection,
in ``backbones/text.py``.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lsncli.prompts.layout import Layout, Vocabulary

Encoder = Callable[[Tensor], Tensor]
"""Contexts to unit text features (G, C, D) in float32, differentiable in the contexts.

G contexts at a time (sets, or images in CoCoOp): (G, M, W) shared by all classes or (G, C, M, W)
class-specific, as the layout says; (1, 0, W) for plain texts.
"""


class TextTower(Protocol):
    """A frozen text encoder that takes vectors where words would stand."""

    @property
    def path(self) -> str:
        """``fast`` or ``plain``, and the linear kernel where there is a choice, such as "fast (onednn)"."""

    @property
    def kernel(self) -> str:
        """``torch`` or ``onednn``."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def device(self) -> torch.device: ...

    def encoder(self, layout: Layout) -> Encoder:
        """Everything about ``layout`` that does not depend on the contexts, computed once."""

    def activation_bytes(self, layout: Layout) -> int:
        """About how many bytes one context of ``layout`` keeps for its gradient."""
