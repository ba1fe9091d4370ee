"""The losses of prompt learning, Eq. 3-8, as the paper writes them and as the authors' code computes them.

LSN: Nie et al., "Out-of-Distribution Detection with Negative Prompts", ICLR 2024; code: junz-debug/lsn.
The two differ (docs/decisions/0003-two-modes.md), so every loss here exists in both modes:

* ``paper``: cross-entropy of one softmax, the orthogonality term summed over classes and pairs of sets.
* ``official``: the softmax is handed to a cross-entropy that applies a second one, so that the loss never
  falls below log(1 + (C - 1) / e); the orthogonality term is a mean of signed cosines.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Mode = Literal["paper", "official"]
MODES: tuple[Mode, ...] = ("paper", "official")

TAU_POSITIVE = 0.01
TAU_NEGATIVE = 0.05


def classify(logits: Tensor, labels: Tensor, mode: Mode) -> Tensor:
    """Mean cross-entropy of logits (B, C) and labels (B,); the official mode softmaxes them first."""
    return cross_entropy(logits.softmax(-1) if mode == "official" else logits, labels)


def positive_loss(images: Tensor, text: Tensor, labels: Tensor, mode: Mode) -> Tensor:
    """Eq. 3-4: cross-entropy of cos(f(x), g(V(l_c))) / 0.01.

    ``images`` (B, D) and ``text`` (C, D) are unit vectors.
    """
    return classify(images @ text.T / TAU_POSITIVE, labels, mode)


def negative_loss(images: Tensor, text: Tensor, labels: Tensor, mode: Mode) -> Tensor:
    """Eq. 5-6: cross-entropy of (1 - cos(f(x), g(V̄(l_c)))) / 0.05 for one set of negative prompts.

    It is small when the negative prompt of an image's own class matches the image least of all.
    """
    return classify((1 - images @ text.T) / TAU_NEGATIVE, labels, mode)


def orthogonality(sets: Tensor) -> Tensor:
    """Eq. 7: sum over classes and over pairs i < j of |cos(t_c^i, t_c^j)|; ``sets`` (K, C, D) is unit.

    One set has no pairs: the term is 0.
    """
    count = len(sets)
    cosines = torch.einsum("icd,jcd->cij", sets, sets)
    first, second = torch.triu_indices(count, count, offset=1, device=sets.device)
    return cosines[:, first, second].abs().sum()


def official_orthogonality(own: Tensor, others: Tensor) -> Tensor:
    """The authors' form for one set: mean over classes and other sets of the signed cosine.

    ``own`` (C, D); ``others`` (K - 1, C, D), constants; both unit. Without other sets the term is 0.
    """
    if len(others) == 0:
        return own.new_zeros(())
    return torch.einsum("cd,kcd->kc", own, others).mean()
