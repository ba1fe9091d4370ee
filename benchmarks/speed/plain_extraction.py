"""Feature extraction as scripts do it: the yardsticks of ``benchmarks.speed.extraction``.

They run open_clip's own image tower in float32 and share no code with ``lsncli``.
"""

import io
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lsncli.backbones.loading import ensure_torchvision
from lsncli.images.item import ImageItem

BATCH = 64
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def opened(item: ImageItem) -> Image.Image:
    """The image of a file, or of a member of a plain tar."""
    with open(item.path, "rb") as file:
        file.seek(item.offset or 0)
        data = file.read(-1 if item.size is None else item.size)
    return Image.open(io.BytesIO(data)).convert("RGB")


def authors_transform(size: int) -> Callable[[Image.Image], Tensor]:
    """What the published script prepares images with: torchvision's default, bilinear, resize."""
    ensure_torchvision()
    from torchvision import transforms

    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()]
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(
        [*steps, transforms.Normalize(CLIP_MEAN, CLIP_STD)]
    )
    return composed


@torch.no_grad()
def authors(items: Sequence[ImageItem], model: Any, size: int, device: torch.device) -> Tensor:
    """The published extraction: open, transform, stack a batch, encode, normalise; one after the other."""
    transform, rows = authors_transform(size), []
    for first in range(0, len(items), BATCH):
        pixels = torch.stack([transform(opened(item)) for item in items[first : first + BATCH]])
        features = model.encode_image(pixels.to(device))
        rows.append((features / features.norm(dim=-1, keepdim=True)).half().cpu())
    return torch.cat(rows)


@dataclass(frozen=True)
class Images(Dataset[Tensor]):
    """What a DataLoader reads."""

    items: Sequence[ImageItem]
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(opened(self.items[index]))


@torch.no_grad()
def loader(
    items: Sequence[ImageItem],
    model: Any,
    transform: Callable[[Image.Image], Tensor],
    device: torch.device,
    *,
    autocast: bool = False,
) -> Tensor:
    """open_clip's transform in a DataLoader with a process a core, then ``encode_image``; raw features.

    ``autocast`` computes in float16, as is usual on a GPU.
    """
    pixels = DataLoader(
        Images(items, transform),
        batch_size=BATCH if device.type == "cpu" else 256,
        num_workers=os.cpu_count() or 1,
        pin_memory=device.type == "cuda",
    )
    rows = []
    with warnings.catch_warnings():
        # From Python 3.12 on, about forking with threads: what a DataLoader does in anybody's script.
        warnings.simplefilter("ignore", DeprecationWarning)
        for batch in pixels:
            with torch.autocast(device.type, torch.float16, enabled=autocast):
                rows.append(model.encode_image(batch.to(device, non_blocking=True)).half().cpu())
    return torch.cat(rows)
