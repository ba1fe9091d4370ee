"""Images of the training and test sets, read from tars, and the rule that separates them.

A set is one tar, ``<set>.tar``, that holds ``<set>/<class>/<file>``. Folders of sets derived from
ImageNet are ``<wnid>_<name>``. Only these images are used for training:

* Tiny-ImageNet train: the first 32 files of a class (sorted as strings), 180 of the 200 classes;
* ImageNet, one photo per class: the even class numbers, minus the 20 held-out classes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HELD_OUT: tuple[str, ...] = tuple(
    json.loads(Path(__file__).with_name("heldout_classes.json").read_text("utf-8"))
)
TINY_FILES_PER_CLASS = 32

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photo:
    """One encoded image, its folder and its file name."""

    folder: str
    file: str
    data: bytes

    @property
    def wnid(self) -> str:
        """The WordNet id at the start of the folder's name."""
        return self.folder.split("_", 1)[0]

    def decode(self) -> Image.Image:
        """Return the image in RGB."""
        return Image.open(io.BytesIO(self.data)).convert("RGB")


def read_set(images: Path, name: str) -> list[Photo]:
    """Read all photos of ``<images>/<name>.tar``, sorted by class folder, then file name."""
    photos = []
    with tarfile.open(images / f"{name}.tar") as tar:
        for member in tar:
            if member.isfile():
                folder, file = member.name.split("/")[-2:]
                stream = tar.extractfile(member)
                assert stream is not None
                photos.append(Photo(folder, file, stream.read()))
    return sorted(photos, key=lambda photo: (photo.folder, photo.file))


def imagenet_wnids(images: Path) -> list[str]:
    """Return the 1,000 ImageNet wnids in class order, which is their sorted order."""
    wnids = sorted({photo.wnid for photo in read_set(images, "imagenet-1perclass")})
    assert len(wnids) == 1000
    return wnids


def training_photos(images: Path) -> dict[str, list[Photo]]:
    """Return every photo for training, by set (see the module's docstring)."""
    tiny, counts = [], dict[str, int]()
    for photo in read_set(images, "tinyimagenet-train"):
        counts[photo.folder] = counts.get(photo.folder, 0) + 1
        if photo.folder not in HELD_OUT and counts[photo.folder] <= TINY_FILES_PER_CLASS:
            tiny.append(photo)
    held_wnids = {folder.split("_", 1)[0] for folder in HELD_OUT}
    order = {wnid: index for index, wnid in enumerate(imagenet_wnids(images))}
    sharp = [
        photo
        for photo in read_set(images, "imagenet-1perclass")
        if order[photo.wnid] % 2 == 0 and photo.wnid not in held_wnids
    ]
    return {"tinyimagenet-train": tiny, "imagenet-1perclass": sharp}


def unseen_photos(images: Path) -> list[Photo]:
    """Return the one-per-class photos of odd class numbers, which are not used for training."""
    order = {wnid: index for index, wnid in enumerate(imagenet_wnids(images))}
    photos = read_set(images, "imagenet-1perclass")
    return [photo for photo in photos if order[photo.wnid] % 2 == 1]


@dataclass(frozen=True)
class View:
    """A view of a photo: crop box, optional low resolution, optional mirroring."""

    box: tuple[float, float, float, float]
    low: int = 0
    mirror: bool = False


def central_square(image: Image.Image) -> tuple[float, float, float, float]:
    """Return the box of the central square."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def random_box(
    image: Image.Image, rng: np.random.Generator, least_area: float
) -> tuple[float, float, float, float]:
    """Return a random, nearly square box of at least ``least_area`` of the shorter side's square."""
    side = min(image.size)
    area = side * side * rng.uniform(least_area, 1.0)
    ratio = float(np.exp(rng.uniform(np.log(0.8), np.log(1.25))))
    width = min(float(np.sqrt(area * ratio)), image.width)
    height = min(float(np.sqrt(area / ratio)), image.height)
    left = rng.uniform(0, image.width - width)
    top = rng.uniform(0, image.height - height)
    return left, top, left + width, top + height


def render(image: Image.Image, view: View, side: int) -> Pixels:
    """Return pixels (side, side, 3) of a view; one of low resolution is made small, then enlarged."""
    size = (side, side)
    if view.low:
        small = image.resize((view.low, view.low), Image.Resampling.BICUBIC, box=view.box)
        pixels = small.resize(size, Image.Resampling.BICUBIC)
    else:
        pixels = image.resize(size, Image.Resampling.BICUBIC, box=view.box)
    if view.mirror:
        pixels = pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(pixels)


def batches(
    photos: Sequence[Photo], views: Sequence[View | None], side: int, size: int = 32
) -> Iterator[Pixels]:
    """Yield pixels (n, side, side, 3) in order; a view of None is the central square."""

    def one(pair: tuple[Photo, View | None]) -> Pixels:
        photo, view = pair
        image = photo.decode()
        return render(image, view or View(central_square(image)), side)

    with ThreadPoolExecutor(2) as pool:
        pairs = list(zip(photos, views, strict=True))
        for start in range(0, len(pairs), size):
            yield np.stack(list(pool.map(one, pairs[start : start + size])))
