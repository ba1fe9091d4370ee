"""A few images of three easy classes, one folder a class."""

from pathlib import Path

import numpy as np
from PIL import Image


def photos(folder: Path, count: int = 10, broken: int | None = None) -> Path:
    """``count`` noisy images a class, each class with a brighter third; number ``broken`` of each is cut."""
    random = np.random.default_rng(3)
    for label, name in enumerate(("left", "middle", "right")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 150, size=(32, 33, 3), dtype=np.uint8)
            pixels[:, 11 * label : 11 * label + 11] += 60
            path = folder / name / f"{number}.png"
            Image.fromarray(pixels).save(path)
            if number == broken:
                path.write_bytes(path.read_bytes()[:40])
    return folder
