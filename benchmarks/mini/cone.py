"""Scale half of the constant coordinate of the image side with the content of each image.

With a constant bias, the share of the constant in an image depends on the length of its content, which is
shorter for unfamiliar images: they all lie near the mean direction, and nearest neighbours take them for
familiar (KNN at or below chance). Pooled features h are non-negative (ReLU6, then a mean), so a non-negative
linear function of h grows with the content; fitted to the length of the content it keeps ``a^2`` nearly the
same for every image. If all of the constant is scaled, KNN is best and MCM worst. ``SHARE`` is in the middle,
where the order of the scores is much like that on real CLIP. This only rescales the cosines of an image: no
ranking of classes changes.
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
    """Set bias and weights of the constant coordinate in place; on average ``a^2`` is ``A ** 2``."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(cache.activations), generator=generator)[:ROWS]
    h = torch.cat([upper(tower.trunk, cache.activations[part].float()) for part in rows.split(64)])
    length = tower.proj(h)[:, :CONTENT].norm(dim=1)
    tower.proj.weight[CONTENT] = SHARE * (B / A) * length_weights(h, length)
    tower.proj.bias[CONTENT] = (1 - SHARE) * (B / A) * length.mean()


def length_weights(h: Tensor, length: Tensor) -> Tensor:
    """Return non-negative w with h @ w close to ``length``, by ridge regression around equal weights."""
    equal = torch.full((h.shape[1],), float(length.mean() / h.sum(1).mean()))
    gram = h.T @ h / len(h)
    damping = RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    step = torch.linalg.solve(gram + damping, h.T @ (length - h @ equal) / len(h))
    weights = (equal + step).clamp(min=0)
    return weights * float(length.mean() / (h @ weights).mean())
