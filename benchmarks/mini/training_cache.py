"""Activations of the frozen half for every training view, with the teacher's logits of its sharp copy.

Each photo has a few boxes (the central square, then random crops); each box once sharp and twice at low
resolution, as small benchmark images look when they are enlarged. All copies of a box share the teacher's
logits of the sharp one, so that the student learns to ignore the blur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.mini.data import (
    Photo,
    View,
    batches,
    central_square,
    imagenet_wnids,
    random_box,
    training_photos,
)
from benchmarks.mini.image_tower import SIDE, cache_lower, teacher_logits

BOXES = {"tinyimagenet-train": 3, "imagenet-1perclass": 8}
TEACHER_SIDE = {"tinyimagenet-train": 192, "imagenet-1perclass": 224}
LEAST_AREA = 0.55
LOW_SIDES = (32, 48)


@dataclass(frozen=True)
class TrainingCache:
    """Row i of ``activations`` is of box ``box[i]``; the last three have a row for each box."""

    activations: Tensor
    box: Tensor
    low: Tensor
    teacher: Tensor
    label: Tensor
    tiny: Tensor


def _boxes(photos: Sequence[Photo], count: int, rng: np.random.Generator) -> list[View]:
    views = []
    for photo in photos:
        image = photo.decode()
        for number in range(count):
            box = central_square(image) if number == 0 else random_box(image, rng, LEAST_AREA)
            views.append(View(box, mirror=bool(number % 2)))
    return views


def _copies(view: View, rng: np.random.Generator) -> list[View]:
    """Return the sharp view and its copies of low resolution, mirrored at random."""
    sides = [0, LOW_SIDES[0], int(rng.integers(LOW_SIDES[0] - 4, LOW_SIDES[1] + 1))]
    return [View(view.box, low, bool(rng.integers(2))) for low in sides]


def _repeat(photos: Sequence[Photo], times: int) -> list[Photo]:
    return [photo for photo in photos for _ in range(times)]


def build(trunk: nn.Module, images: Path, seed: int) -> TrainingCache:
    """Render all views, run the frozen half and the teacher; about ten minutes on two cores."""
    rng = np.random.default_rng(seed)
    order = {wnid: index for index, wnid in enumerate(imagenet_wnids(images))}
    activations, teacher, low, labels, tiny = [], [], [], [], []
    for name, group in training_photos(images).items():
        count, side = BOXES[name], TEACHER_SIDE[name]
        views = _boxes(group, count, rng)
        repeated = _repeat(group, count)
        teacher.append(teacher_logits(trunk, batches(repeated, views, side)))
        copies = [copy for view in views for copy in _copies(view, rng)]
        times = len(copies) // len(views)
        activations.append(cache_lower(trunk, batches(_repeat(repeated, times), copies, SIDE)))
        low += [copy.low for copy in copies]
        labels += [order[photo.wnid] for photo in repeated]
        tiny += [name.startswith("tiny")] * len(repeated)
    rows = torch.cat(activations)
    return TrainingCache(
        activations=rows,
        box=torch.arange(len(rows)) // (len(rows) // len(labels)),
        low=torch.tensor(low),
        teacher=torch.cat(teacher),
        label=torch.tensor(labels),
        tiny=torch.tensor(tiny),
    )


def load_or_build(trunk: nn.Module, images: Path, seed: int, path: Path | None) -> TrainingCache:
    """Return the cache stored at ``path``, or build one and store it there."""
    if path is not None and path.exists():
        return TrainingCache(**torch.load(path, weights_only=True))
    cache = build(trunk, images, seed)
    if path is not None:
        torch.save(vars(cache), path)
    return cache
