"""DualCoOp: a positive and a negative context, trained as a pair with an asymmetric loss.

Sun et al., "DualCoOp: fast adaptation to multi-label recognition with limited annotations", NeurIPS 2022;
code: sunxm2357/DualCoOp. The pair is two sets of prompts of ``learner.learn``: set 0 for "the class is in the
image", set 1 for "it is not".

The authors weight image regions per class: 20 cos for each region, a softmax of the positive ones over the
regions as weights, and 5 times the weighted sum. A store has one global feature per image: a single region
has the weight 1, so that the product of both factors remains, the scale 100 (tau = 0.01).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from lsncli.errors import UsageError
from lsncli.prompts.settings import PromptSettings, check

POSITIVE, NEGATIVE = 0, 1
"""The sets of the pair."""

DUAL = PromptSettings(sets=2, warmup=1, batch_size=32)
"""The authors' configuration: 16 + 16 shared vectors, SGD 0.002, 50 epochs, the first at 1e-5."""

FIXED = ("kind", "learner", "sets", "turns")
"""Settings that define the pair and cannot be changed."""


@dataclass(frozen=True)
class Asymmetric:
    """The asymmetric loss (Ridnik et al., ICCV 2021) on the probability p of a class against its negative.

    With p = softmax([positive, negative])_positive and m = min(1 - p + clip, 1):

    * the image's own class: -(1 - p)^gamma_pos log p
    * every other class: -(1 - m)^gamma_neg log m

    summed over classes, mean over images. The weights in front of the logarithms carry no gradient, as in the
    authors' code. That code sums over images and multiplies by a weight (1, and 0.03 in its example for
    MS-COCO); a mean over their 32 images is the weight 1 / 32 = 0.031. ``clip`` leaves out the negatives that
    are already easy.
    """

    gamma_pos: float = 1.0
    gamma_neg: float = 2.0
    clip: float = 0.05

    def __post_init__(self) -> None:
        for name, value in (("gamma-pos", self.gamma_pos), ("gamma-neg", self.gamma_neg)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"--{name}: expected zero or a number above it, found {value}.")
        if not 0 <= self.clip < 1:
            raise UsageError(f"--clip: expected a fraction from 0 to below 1, found {self.clip}.")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of ``logits`` (2, B, C), positive first, with labels (B,)."""
        margin = logits[POSITIVE] - logits[NEGATIVE]
        absent = (torch.sigmoid(-margin) + self.clip).clamp(max=1)
        with torch.no_grad():
            weight_own = torch.sigmoid(-margin) ** self.gamma_pos
            weight_other = (1 - absent) ** self.gamma_neg
        own = one_hot(labels, margin.shape[1]).bool()
        # ``where`` instead of products with 0 and 1, which would be NaN where the other side is infinite.
        gain = torch.where(own, weight_own * logsigmoid(margin), weight_other * absent.clamp(min=1e-6).log())
        return -gain.sum(dim=1).mean()


def dual_settings(**options: Any) -> PromptSettings:
    """Return ``DUAL`` with every option that is not None replaced. Raises UsageError for an invalid value."""
    settings = replace(DUAL, **{name: value for name, value in options.items() if value is not None})
    check(settings)
    if any(getattr(settings, name) != getattr(DUAL, name) for name in FIXED):
        raise UsageError(f"DualCoOp learns a pair of contexts: {', '.join(FIXED)} cannot be chosen.")
    return settings
