"""Small images of one colour each, with captions, as a csv or a tar."""

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220), "grey": (128, 128, 128)}


def png(name: str, number: int) -> bytes:
    """A noisy image of a colour."""
    noise = np.random.default_rng([number, len(name)]).normal(0, 25, size=(32, 32, 3))
    pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def samples(count: int = 20) -> list[tuple[str, bytes, str]]:
    """File name, bytes and caption of ``count`` images."""
    names = [list(COLOURS)[number % len(COLOURS)] for number in range(count)]
    return [(f"{n:03}.png", png(name, n), f"a {name} square, number {n}") for n, name in enumerate(names)]


def write_csv(folder: Path, count: int = 20, extra: tuple[tuple[str, str], ...] = ()) -> Path:
    """``pairs.csv`` beside a folder of its images; ``extra`` rows name what is not there."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / "pairs.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for name, data, caption in samples(count):
            (folder / "images" / name).write_bytes(data)
            writer.writerow([f"images/{name}", caption])
        writer.writerows(extra)
    return path


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """A plain tar of these members."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
