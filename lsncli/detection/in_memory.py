"""Load images that a program passes as objects or paths, in batches of pixels like those of a listing."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lsncli.images import decode_process
from lsncli.images.budget import allowed_image_seconds
from lsncli.images.decode import decode
from lsncli.images.item import ImageItem
from lsncli.images.loader import Batch, Preprocess, one_line
from lsncli.images.pixel_modes import NotFinite, read_orientation, to_rgb, turn_upright
from lsncli.images.read import Undecodable, read_bytes
from lsncli.images.remote import Remote, as_url
from lsncli.types import UNLABELLED, Failure

Picture = Image.Image | NDArray[Any] | str | os.PathLike[str]
"""A PIL image, an image file, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or of floats in
[0, 1]."""

Paths = dict[str, str | None]
"""The file of each image of a batch by its key, in order; None for an image that is not a file."""


def load_pictures(
    pictures: Iterable[Picture], preprocess: Preprocess, *, batch_size: int, workers: int
) -> Iterator[tuple[Paths, Batch]]:
    """Yield batches of pixels; decode only the next batch ahead, and read no more of ``pictures``.

    A single picture is decoded by the calling thread: to start others takes longer than to resize it.
    Raises TypeError for an object that is not an image and for a single image in place of several, UsageError
    if the time limit of images (LSN_IMAGE_TIMEOUT) is not a number.
    """
    if isinstance(pictures, Image.Image) or (isinstance(pictures, np.ndarray) and pictures.ndim in (2, 3)):
        raise TypeError("Expected several images, found a single one: put it into a list.")
    if not isinstance(pictures, Iterable):
        raise TypeError(f"Expected several images, or a path of them, found {type(pictures).__name__}.")
    remaining, numbers = iter(pictures), count()
    allowed_image_seconds()
    first = [_checked(picture) for picture in islice(remaining, 2)]
    if len(first) == 1:
        paths = {"0": first[0] if isinstance(first[0], str) else None}
        yield paths, _batch(("0",), [_pixels(first[0], preprocess)])
        return
    remaining = chain(first, remaining)
    with decode_process.threads(workers, "lsn-images") as pool:

        def submit_batch() -> tuple[Paths, list[Future[torch.Tensor | str]]]:
            chunk = [_checked(picture) for picture in islice(remaining, batch_size)]
            paths = {str(next(numbers)): item if isinstance(item, str) else None for item in chunk}
            return paths, [pool.submit(_pixels, picture, preprocess) for picture in chunk]

        paths, futures = submit_batch()
        while paths:
            following = submit_batch()
            yield paths, _batch(tuple(paths), [future.result() for future in futures])
            paths, futures = following


def open_picture(picture: Picture) -> Image.Image:
    """Return a picture as upright 8-bit RGB. Raises Undecodable with the reason."""
    if isinstance(picture, str | os.PathLike):
        path = os.fspath(picture)
        url = as_url(path)
        content = None if url is None else Remote(url)
        return decode(read_bytes(ImageItem(path, path, None, None, content)))
    if isinstance(picture, np.ndarray):
        return to_rgb(Image.fromarray(_eight_bits(picture)))
    picture.load()
    return turn_upright(to_rgb(picture), read_orientation(picture))


def _checked(picture: Picture) -> Image.Image | NDArray[Any] | str:
    if isinstance(picture, os.PathLike):
        return os.fspath(picture)
    if isinstance(picture, str):
        return str(picture)  # numpy and pandas have string types of their own
    if isinstance(picture, Image.Image | np.ndarray):
        return picture
    raise TypeError(
        f"Expected PIL images, numpy arrays or paths of image files, found {type(picture).__name__}."
    )


def _eight_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    shape = array.shape
    if array.ndim == 3 and shape[2] == 1:  # the grey images of OpenCV, Keras and medical data
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and shape[2] in (3, 4))) or not array.size:
        raise Undecodable(f"an array of shape {shape}, expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise Undecodable(f"an array of {array.dtype}, expected uint8 or floats in [0, 1]")
    if not np.isfinite(array).all():
        raise Undecodable("an array with nan or infinity, expected floats in [0, 1]")
    if array.min() < 0 or array.max() > 1:
        raise Undecodable(f"an array of floats from {array.min():g} to {array.max():g}, expected [0, 1]")
    bytes_: NDArray[np.uint8] = np.rint(array * 255).astype(np.uint8)
    return bytes_


def _pixels(picture: Picture, preprocess: Preprocess) -> torch.Tensor | str:
    """Return the pixels, or the reason of a failure, so that no image stops a run."""
    try:
        return preprocess(open_picture(picture))
    except Undecodable as error:
        reason = error.message
    except NotFinite:
        reason = "pixels that are not finite numbers"
    except Exception as error:
        reason = f"cannot be read: {type(error).__name__}: {error}"
    return one_line(reason)


def _batch(keys: tuple[str, ...], results: list[torch.Tensor | str]) -> Batch:
    """Build a batch from the pixels or failure reason of each key."""
    pairs = list(zip(keys, results, strict=True))
    pixels = [result for result in results if isinstance(result, torch.Tensor)]
    return Batch(
        0,
        len(keys),
        torch.stack(pixels) if pixels else torch.empty((0, 3, 0, 0)),
        tuple(key for key, result in pairs if isinstance(result, torch.Tensor)),
        np.full(len(pixels), UNLABELLED, dtype=np.int32),
        tuple(Failure(key, result) for key, result in pairs if isinstance(result, str)),
    )
