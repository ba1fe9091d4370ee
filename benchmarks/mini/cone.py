"""Let half of the image side's constant grow with each image's own content.

With the constant coordinate as a bias, an image's share of it depends on the length of its content, which
is shorter for unfamiliar images: all of them then crowd round the mean direction, and nearest neighbours
call them familiar (KNN at chance level and below). Pooled features h are non-negative (ReLU6, then a mean),
so a non-negative linear function of h grows with the content; fitted to the content's length it would keep
``a^2`` the same for every image. With all of the constant made so, KNN is at its best and MCM at its worst;
``SHARE`` is half-way, where the scores stand to each other much as they do on real CLIP. Per image this
only rescales cosines: no ranking of classes changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.mini.class_table import CONTENT, A, B
from benchmarks.mini.image_tower import ImageTower, upper
from benchmarks.mini.training_cache import TrainingCache

ROWS = 8000
RIDGE = 0.3
SHARE = 0.5


@torch.no_grad()
def balance(tower: ImageTower, cache: TrainingCache, seed: int) -> None:
    """Set bias and weights of the constant coordinate, in place; ``a^2`` is as designed on average."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(cache.activations), generator=generator)[:ROWS]
    h = torch.cat([upper(tower.trunk, cache.activations[part].float()) for part in rows.split(64)])
    length = tower.proj(h)[:, :CONTENT].norm(dim=1)
    tower.proj.weight[CONTENT] = SHARE * (B / A) * length_weights(h, length)
    tower.proj.bias[CONTENT] = (1 - SHARE) * (B / A) * length.mean()


def length_weights(h: Tensor, length: Tensor) -> Tensor:
    """Non-negative w with h @ w close to ``length``: ridge regression around equal weights."""
    equal = torch.full((h.shape[1],), float(length.mean() / h.sum(1).mean()))
    gram = h.T @ h / len(h)
    damping = RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    step = torch.linalg.solve(gram + damping, h.T @ (length - h @ equal) / len(h))
    weights = (equal + step).clamp(min=0)
    return weights * float(length.mean() / (h @ weights).mean())
