"""The losses of prompt learning, Eq. 3-8, as the paper writes them and as the authors' code computes them.

LSN: Nie et al., "Out-of-Distribution Detection with Negative Prompts", ICLR 2024; code: junz-debug/lsn.
The two differ (docs/decisions/0003-two-modes.md):

* the paper takes the cross-entropy of one softmax; the code hands the softmax to a cross-entropy that
  applies a second one, so that its loss never falls below log(1 + (C - 1) / e);
* the paper sums |cos| over classes and pairs of sets (Eq. 7); the code takes a mean of signed cosines.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Kind = Literal["positive", "negative"]
Orthogonality = Literal["sum", "mean", "signed"]


def logits(images: Tensor, text: Tensor, kind: Kind, tau: float) -> Tensor:
    """What the softmax of Eq. 3 (positive: cos / tau) or Eq. 6 (negative: (1 - cos) / tau) is taken of, (K,
    B, C).

    ``images`` (B, D) and ``text``, unit: (K, C, D), or (K, B, C, D) where prompts depend on the image
    (CoCoOp).
    """
    form = "bd,kcd->kbc" if text.ndim == 3 else "bd,kbcd->kbc"
    cosines = torch.einsum(form, images, text)
    return (cosines if kind == "positive" else 1 - cosines) / tau


def classification(logits: Tensor, labels: Tensor, *, double_softmax: bool) -> Tensor:
    """Eq. 4 and 5: cross-entropy of ``logits`` (K, B, C) with labels (B,), mean over images, summed over
    sets.

    A negative loss is small when the negative prompt of an image's own class matches the image least of all.
    """
    values = logits.softmax(-1) if double_softmax else logits
    return torch.stack([cross_entropy(one, labels) for one in values]).sum()


def orthogonality(text: Tensor, form: Orthogonality, own: int | None = None) -> Tensor:
    """Eq. 7 over pairs i < j of K sets of unit text features (K, ..., C, D); 0 for one set.

    "sum": sum over classes and pairs of |cos|, as the paper writes it; "mean": the mean over classes and
    pairs of |cos|; "signed": the mean of cos, as the code has it. With ``own`` only that set's
    pairs count. Image-conditional features (K, B, C, D) are averaged over the B images.
    """
    count = len(text)
    if count < 2:
        return text.new_zeros(())
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count) if own in (None, i, j)]
    first, second = (list(side) for side in zip(*pairs, strict=True))
    cosines = (text[first] * text[second]).sum(-1)
    if form == "signed":
        return cosines.mean()
    mean = cosines.abs().mean()
    return mean if form == "mean" else mean * (len(pairs) * text.shape[-2])
