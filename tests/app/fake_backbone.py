"""A deterministic image encoder of a few lines, and images for it."""

import io
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lsncli.types import Fingerprint

DIM = 6
PROJECTION = np.random.default_rng(0).standard_normal((48, DIM))


class FakeBackbone:
    """Projects 4 x 4 thumbnails. Pure red images give infinity, pure green ones zero."""

    device = torch.device("meta")
    """Neither a CPU nor CUDA: one batch is encoded at a time."""

    def __init__(self, model: str = "fake", pause: float = 0.0) -> None:
        self.model, self.pause = model, pause
        self.encoded = 0

    @property
    def fingerprint(self) -> Fingerprint:
        sizes = (4, "nearest", "squash", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return Fingerprint(self.model, "", "00" * 32, DIM, *sizes, "fp32", 100.0)

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        small = np.array(image.resize((4, 4)), dtype=np.float32) / 255
        return torch.from_numpy(small).permute(2, 0, 1)

    def encode(self, pixels: torch.Tensor) -> NDArray[np.float16]:
        time.sleep(self.pause)
        self.encoded += len(pixels)
        flat = pixels.numpy().reshape(len(pixels), 48).astype(np.float64)
        # One product a row: a matrix product could round differently in batches of another size.
        features = np.stack([row @ PROJECTION for row in flat]).astype(np.float16)
        red, green, _ = pixels.mean(dim=(2, 3)).numpy().T
        features[(red == 1) & (green == 0)] = np.inf
        features[(red == 0) & (green == 1)] = 0
        return features


def png(*colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


def make_images(root: Path, count: int, classes: int = 2, broken: tuple[int, ...] = ()) -> Path:
    """``count`` images in class folders; those numbered in ``broken`` are cut short."""
    for index in range(count):
        path = root / f"class_{index % classes}" / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = png(50 + index % 200, 10 + index // 200, index * 7 % 200)
        path.write_bytes(data[:30] if index in broken else data)
    return root
