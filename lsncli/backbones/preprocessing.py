"""Preprocess RGB pixels for an image tower: resize, centre crop, normalise; exactly, or fast.

Exact pixels are open_clip's own to the bit, without the detours of its transform: Pillow resizes, numpy does
the arithmetic. Fast ones are resized by torch's antialiased filter for bytes, some four times as quick as
Pillow's; it is the same filter with weights of 16 bits, and no pixel is more than 2 of 255 grey levels off.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from lsncli.errors import UsageError

Picture: TypeAlias = Image.Image | NDArray[np.uint8]
"""RGB of 8 bits, upright: an image, or an array (H, W, 3)."""
Size = tuple[int, int]  # height, width

MAX_RESIZED = 1 << 27
"""Pixels of the resized image, before the crop: there is no memory for one that is thousands of times as long
as wide."""

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocessing:
    """Resize to ``size`` (the shorter side to it, and crop the middle, unless ``squash``) and normalise.

    Call it with an RGB image, or an array (H, W, 3) of uint8, for (3, H, W) float32; from any thread.
    Raises ValueError for an image too long and narrow to be resized.
    """

    size: Size
    squash: bool
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fast: bool = False

    def __call__(self, picture: Picture) -> Tensor:
        height, width = shape_of(picture)
        resized = self._resized_size(height, width)
        if math.prod(resized) > MAX_RESIZED:
            raise ValueError(f"too long and narrow: {width} x {height} pixels")
        top, left = (round((have - want) / 2.0) for have, want in zip(resized, self.size, strict=True))
        if self.fast:
            array = np.array(picture) if isinstance(picture, Image.Image) else picture
            planes = self._resized_fast(array, resized)
            planes = planes[:, top : top + self.size[0], left : left + self.size[1]]
        else:
            image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
            image = image.resize(resized[::-1], FILTERS[self.interpolation])
            box = (left, top, left + self.size[1], top + self.size[0])
            planes = np.asarray(image.crop(box)).transpose(2, 0, 1)
        return torch.from_numpy(normalised(planes, self.mean, self.std))

    def decoding_fast(self) -> "Preprocessing":
        """Return the fast variant, whose pixels differ by at most 2 grey levels."""
        return replace(self, fast=True)

    def _resized_size(self, height: int, width: int) -> Size:
        if self.squash:
            return self.size
        side = self.size[0]
        if width <= height:
            return int(side * height / width), side
        return side, int(side * width / height)

    def _resized_fast(self, array: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
        """Preprocess pixels (H, W, 3) to (3, h, w)."""
        height, width, _ = array.shape
        # A view with channels last, the layout that torch's code for bytes expects.
        planes = torch.from_numpy(array).permute(2, 0, 1)[None]
        if pillow_takes_height_first() and height > size[0] and height - size[0] > 2 * (width - size[1]):
            planes = self._interpolated(planes, (size[0], width))
        resized: NDArray[np.uint8] = self._interpolated(planes, size)[0].numpy()
        return resized

    def _interpolated(self, planes: Tensor, size: Size) -> Tensor:
        # One direction after the other, the width first. No threads of torch: callers are threads already.
        return interpolate(planes, size, mode=self.interpolation, antialias=True)


def preprocessing_of(
    transform: Callable[[Any], Tensor], config: Mapping[str, Any]
) -> Callable[[Any], Tensor]:
    """Return ``transform``, open_clip's own for ``config``, as a ``Preprocessing`` where the two are equal.

    A comparison on two images decides; any other transform is returned unchanged.
    """
    size = config["size"]
    size = (size, size) if isinstance(size, int) else tuple(size)
    known = config["interpolation"] in FILTERS and (
        config["resize_mode"] == "squash" or (config["resize_mode"] == "shortest" and size[0] == size[1])
    )
    if not known:
        return transform
    squash = config["resize_mode"] == "squash"
    ours = Preprocessing(size, squash, config["interpolation"], tuple(config["mean"]), tuple(config["std"]))
    noise = np.random.default_rng(0).integers(0, 256, (97, 61, 3), dtype=np.uint8)
    probe = Image.fromarray(noise).resize((size[1] + 41, 2 * size[0] + 3))
    same = all(torch.equal(ours(image), transform(image)) for image in (Image.fromarray(noise), probe))
    return ours if same else transform


Model = TypeVar("Model")


def decoding_fast(backbone: Model) -> Model:
    """Return the model with fast preprocessing and its fingerprint. Raises UsageError if it has none."""
    exact: Any = backbone
    if not isinstance(getattr(exact, "transform", None), Preprocessing):
        raise UsageError(
            f"--decode fast: {exact.fingerprint.model} resizes its images in a way of its own.",
            "Use --decode exact.",
        )
    fingerprint = replace(exact.fingerprint, decode="fast")
    return cast(Model, replace(exact, fingerprint=fingerprint, transform=exact.transform.decoding_fast()))


def shape_of(picture: Picture) -> Size:
    """Return height and width."""
    if isinstance(picture, Image.Image):
        return picture.height, picture.width
    return picture.shape[0], picture.shape[1]


def normalised(
    planes: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """Normalise (3, H, W) uint8 to float32: (x / 255 - mean) / std, bit-identical to torchvision."""
    result = np.empty(planes.shape, dtype=np.float32)
    for plane, values, middle, spread in zip(result, planes, mean, std, strict=True):
        np.copyto(plane, values)
        plane /= np.float32(255)
        plane -= np.float32(middle)
        plane /= np.float32(spread)
    return result


@cache
def pillow_takes_height_first() -> bool:
    """Return whether this Pillow resizes the height first where that removes over twice as many pixels.

    Pillow 13 began to. Clipping to bytes between the two makes the order visible where contrasts are hard.
    """
    stripes = np.zeros((40, 8, 3), dtype=np.uint8)
    stripes[::2, ::2] = stripes[1::2, 1::2] = 255
    image = Image.fromarray(stripes)
    height_first = image.resize((8, 32), Image.Resampling.BICUBIC).resize((34, 32), Image.Resampling.BICUBIC)
    return image.resize((34, 32), Image.Resampling.BICUBIC).tobytes() == height_first.tobytes()
