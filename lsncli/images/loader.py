"""Many images, in order, decoded by threads, with only a few batches of pixels in memory at a time."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from lsncli.console import printable
from lsncli.errors import UsageError
from lsncli.images.decode import Undecodable, decode, read_bytes
from lsncli.images.sources import ImageItem
from lsncli.types import Failure, Labels

LOOKAHEAD = 2  # batches being decoded while one is in use

Preprocess = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """Items ``start`` to ``stop`` of a listing: ``pixels`` (B, 3, H, W), ``keys`` and ``labels`` (B,) of the
    images that could be read, ``failures`` of the others, each in listing order."""

    start: int
    stop: int
    pixels: torch.Tensor
    keys: tuple[str, ...]
    labels: Labels
    failures: tuple[Failure, ...]


def load_batches(
    items: Sequence[ImageItem],
    preprocess: Preprocess,
    *,
    batch_size: int,
    workers: int,
    start: int = 0,
) -> Generator[Batch, None, None]:
    """Read and preprocess ``items[start:]`` in batches; batch k is always items [k B, (k + 1) B).

    ``preprocess`` maps an RGB image to (3, H, W) and is called from ``workers`` threads (Pillow and torch
    release the interpreter lock, and threads need not copy pixels between processes). An image that fails,
    in whatever way, is a Failure of its batch. Closing the iterator stops the threads. At most
    LOOKAHEAD + 1 batches of images are in memory. Raises UsageError for sizes that cannot be meant.
    """
    for name, value in (("--batch-size", batch_size), ("--workers", workers)):
        if value < 1:
            raise UsageError(f"{name}: expected 1 or more, found {value}.")
    if start % batch_size and start != len(items):
        raise UsageError(f"Batches of {batch_size} cannot start at image {start}.")
    return _batches(items, preprocess, batch_size, workers, start)


def _batches(
    items: Sequence[ImageItem], preprocess: Preprocess, batch_size: int, workers: int, start: int
) -> Generator[Batch, None, None]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lsn-images")
    waiting: deque[tuple[int, list[Future[torch.Tensor | Failure]]]] = deque()
    following = start
    try:
        while following < len(items) or waiting:
            while following < len(items) and len(waiting) <= LOOKAHEAD:
                chunk = items[following : following + batch_size]
                waiting.append((following, [pool.submit(_load, item, preprocess) for item in chunk]))
                following += len(chunk)
            # No name may hold the futures here: they would keep a second copy of the batch alive.
            yield _gather(items, *waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _load(item: ImageItem, preprocess: Preprocess) -> torch.Tensor | Failure:
    """Errors become values here: one kept in a future would keep, by its traceback, the whole batch alive."""
    try:
        return preprocess(decode(read_bytes(item)))
    except Undecodable as error:
        return Failure(item.key, one_line(error.message))
    except Exception as error:
        return Failure(item.key, one_line(f"cannot be preprocessed: {type(error).__name__}: {error}"))


def _gather(items: Sequence[ImageItem], start: int, futures: list[Future[torch.Tensor | Failure]]) -> Batch:
    stop = start + len(futures)
    good: list[ImageItem] = []
    pixels: list[torch.Tensor] = []
    failures: list[Failure] = []
    for item, future in zip(items[start:stop], futures, strict=True):
        result = future.result()
        if isinstance(result, Failure):
            failures.append(result)
        else:
            good.append(item)
            pixels.append(result)
    return Batch(
        start,
        stop,
        torch.stack(pixels) if pixels else torch.empty((0, 3, 0, 0)),
        tuple(item.key for item in good),
        np.array([item.label for item in good], dtype=np.int32),
        tuple(failures),
    )


def one_line(text: str) -> str:
    """An error's text as a reason: one printable line of bounded length, whatever the image held."""
    return printable(" ".join(text.split()))[:300]
