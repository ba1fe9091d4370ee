"""Feature extraction by plain loops, which ``benchmarks.speed.extraction`` compares with.

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


def open_image(item: ImageItem) -> Image.Image:
    """Return the image of a file, or of a member of an uncompressed tar."""
    with open(item.path, "rb") as file:
        file.seek(item.offset or 0)
        data = file.read(-1 if item.size is None else item.size)
    return Image.open(io.BytesIO(data)).convert("RGB")


def authors_transform(size: int) -> Callable[[Image.Image], Tensor]:
    """Return the transform of the published script: torchvision's default resize, which is bilinear."""
    ensure_torchvision()
    from torchvision import transforms

    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()]
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(
        [*steps, transforms.Normalize(CLIP_MEAN, CLIP_STD)]
    )
    return composed


@torch.no_grad()
def authors(items: Sequence[ImageItem], model: Any, size: int, device: torch.device) -> Tensor:
    """Encode as the published script does: open, transform, stack a batch, encode, normalise, in turn."""
    transform, rows = authors_transform(size), []
    for first in range(0, len(items), BATCH):
        pixels = torch.stack([transform(open_image(item)) for item in items[first : first + BATCH]])
        features = model.encode_image(pixels.to(device))
        rows.append((features / features.norm(dim=-1, keepdim=True)).half().cpu())
    return torch.cat(rows)


@dataclass(frozen=True)
class Images(Dataset[Tensor]):
    """Transformed images, for a DataLoader."""

    items: Sequence[ImageItem]
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(open_image(self.items[index]))


@torch.no_grad()
def loader(
    items: Sequence[ImageItem],
    model: Any,
    transform: Callable[[Image.Image], Tensor],
    device: torch.device,
    *,
    autocast: bool = False,
) -> Tensor:
    """Encode by a DataLoader with one process for each core; return raw features.

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
        # Python 3.12 and later warn of a fork with threads, as every DataLoader does it.
        warnings.simplefilter("ignore", DeprecationWarning)
        for batch in pixels:
            with torch.autocast(device.type, torch.float16, enabled=autocast):
                rows.append(model.encode_image(batch.to(device, non_blocking=True)).half().cpu())
    return torch.cat(rows)
