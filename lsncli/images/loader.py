"""Many images, in order: some threads read, others decode, straight into the batches that they become."""

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition, Event, Lock

import numpy as np
import torch
from PIL import Image

from lsncli.console import printable
from lsncli.device import check_sizes
from lsncli.errors import UsageError
from lsncli.images.budget import allowed_image_seconds
from lsncli.images.decode_process import Together, threads
from lsncli.images.item import ImageItem
from lsncli.images.read import Undecodable, read_bytes
from lsncli.types import Failure, Labels, Seconds

LOOKAHEAD = 2  # batches being decoded while one is in use
BITE = 4  # images that a thread takes at a time: handing over each alone costs as much as reading it
READ_AHEAD = 1 << 28
"""Bytes of images that were read and not yet decoded, above which nothing more is read."""

Preprocess = Callable[[Image.Image], torch.Tensor]
Pixels = Callable[[bytes], torch.Tensor]
"""The bytes of an image file -> (3, H, W), from any thread. Raises Undecodable."""


@dataclass(frozen=True)
class Batch:
    """Items ``start`` to ``stop`` of a listing.

    ``pixels`` (B, 3, H, W), ``keys`` and ``labels`` (B,) of the images that could be read, ``failures`` of
    the others, each in listing order; and the seconds of reading and decoding.

    ``release`` it when nothing looks at ``pixels`` any more, and their memory serves a later batch: new
    memory costs as much time as decoding a small image does.
    """

    start: int
    stop: int
    pixels: torch.Tensor
    keys: tuple[str, ...]
    labels: Labels
    failures: tuple[Failure, ...]
    seconds: Seconds = field(default_factory=Seconds)
    release: Callable[[], None] = lambda: None


def load_batches(
    items: Sequence[ImageItem],
    pixels: Pixels,
    *,
    batch_size: int,
    workers: int,
    start: int = 0,
    pinned: bool = False,
    together: Together | None = None,
) -> Generator[Batch, None, None]:
    """Read and decode ``items[start:]`` in batches; batch k is always items [k B, (k + 1) B).

    ``pixels`` is called from ``workers`` threads (Pillow, simplejpeg and numpy release the interpreter lock,
    and threads need not copy pixels between processes); twice as many, which mostly wait, read. An image that
    fails, in whatever way, is a Failure of its batch. Closing the iterator stops the threads. At most
    LOOKAHEAD + 1 batches of images are in memory, and about READ_AHEAD bytes of files; ``pinned`` puts the
    batches where a CUDA device copies from by itself. ``together.end()``, from any thread, gives up what is
    still being decoded, and the iterator raises GivenUp. Raises UsageError for invalid sizes, and for a
    time limit of images (LSN_IMAGE_TIMEOUT) that is no number.
    """
    allowed_image_seconds()
    check_sizes(batch_size=batch_size, workers=workers)
    if start % batch_size and start != len(items):
        raise UsageError(f"Batches of {batch_size} cannot start at image {start}.")
    return _batches(items, pixels, batch_size, workers, start, pinned, together or Together())


def _batches(
    items: Sequence[ImageItem],
    pixels: Pixels,
    batch_size: int,
    workers: int,
    start: int,
    pinned: bool,
    together: Together,
) -> Generator[Batch, None, None]:
    readers = ThreadPoolExecutor(max(4, 2 * workers), thread_name_prefix="lsn-images-read")
    held, memory = _Held(), _Memory(batch_size, pinned)
    waiting: deque[_Growing] = deque()

    def read(batch: _Growing, places: range) -> None:
        held.wait()
        began = time.perf_counter()
        found = [_read(batch.items[place]) for place in places]
        batch.read_seconds(time.perf_counter() - began)
        size = sum(len(one) for one in found if isinstance(one, bytes))
        held.add(size)
        # Handed on only now: a thread that decodes never waits for one that reads.
        decoders.submit(decode, batch, places, found, size)

    def decode(batch: _Growing, places: range, found: list[bytes | Failure], size: int) -> None:
        batch.fill(places, found, pixels)
        found.clear()
        held.add(-size)

    following = start
    with threads(workers, "lsn-images-decode", together) as decoders:
        try:
            while following < len(items) or waiting:
                while following < len(items) and len(waiting) <= LOOKAHEAD:
                    batch = _Growing(following, items[following : following + batch_size], memory)
                    for first in range(0, len(batch.items), BITE):
                        readers.submit(read, batch, range(first, min(first + BITE, len(batch.items))))
                    following += len(batch.items)
                    waiting.append(batch)
                    del batch  # no name may keep a batch alive that was given away
                yield waiting.popleft().whole()
        finally:
            held.stop()
            readers.shutdown(wait=True, cancel_futures=True)


class _Held:
    """Counts the bytes between reading and decoding."""

    def __init__(self) -> None:
        self._change = Condition()
        self._bytes, self._stopped = 0, False

    def wait(self) -> None:
        """Until there is room for more."""
        with self._change:
            self._change.wait_for(lambda: self._bytes <= READ_AHEAD or self._stopped)

    def add(self, size: int) -> None:
        with self._change:
            self._bytes += size
            self._change.notify_all()

    def stop(self) -> None:
        """Nobody waits any more."""
        with self._change:
            self._stopped = True
            self._change.notify_all()


class _Memory:
    """Room for batches of pixels, again and again."""

    def __init__(self, batch_size: int, pinned: bool) -> None:
        self._batch_size, self._pinned = batch_size, pinned
        self._free: list[torch.Tensor] = []

    def take(self, like: torch.Tensor) -> torch.Tensor:
        """For a batch of images of the shape and type of ``like``."""
        shape = (self._batch_size, *like.shape)
        while self._free:
            free = self._free.pop()
            if free.shape == shape and free.dtype == like.dtype:
                return free
        return torch.empty(shape, dtype=like.dtype, pin_memory=self._pinned)

    def give_back(self, pixels: torch.Tensor) -> None:
        self._free.append(pixels)


class _Growing:
    """A batch while its images arrive, in any order."""

    def __init__(self, start: int, items: Sequence[ImageItem], memory: _Memory) -> None:
        self.start, self.items = start, items
        self._memory = memory
        self._lock, self._done = Lock(), Event()
        self._pixels: torch.Tensor | None = None
        self._failures: dict[int, Failure] = {}
        self._error: BaseException | None = None
        self._left = len(items)
        self._seconds = Seconds()

    def read_seconds(self, seconds: float) -> None:
        with self._lock:
            self._seconds += Seconds(read=seconds)

    def fill(self, places: range, found: Sequence[bytes | Failure], pixels: Pixels) -> None:
        """Decode what was found for some places into them. What is not an image's fault breaks the batch."""
        began = time.perf_counter()
        try:
            for place, one in zip(places, found, strict=True):
                made = _decode(self.items[place], one, pixels) if isinstance(one, bytes) else one
                if isinstance(made, Failure):
                    self._failures[place] = made
                else:
                    self._put(place, made)
        except BaseException as error:
            self._error = error
        with self._lock:
            self._seconds += Seconds(decode=time.perf_counter() - began)
            self._left -= len(places)
            if not self._left:
                self._done.set()

    def whole(self) -> Batch:
        """The batch, once all of it is there."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        good = [place for place in range(len(self.items)) if place not in self._failures]
        taken, memory = self._pixels, self._memory
        if taken is None:
            pixels = torch.empty((0, 3, 0, 0))
        elif len(good) == len(self.items):
            pixels = taken[: len(good)]
        else:
            pixels = taken[good]
            memory.give_back(taken)
            taken = None

        def release() -> None:
            nonlocal taken
            if taken is not None:
                memory.give_back(taken)
                taken = None  # once: the next batch owns it

        return Batch(
            self.start,
            self.start + len(self.items),
            pixels,
            tuple(self.items[place].key for place in good),
            np.array([self.items[place].label for place in good], dtype=np.int32),
            tuple(self._failures[place] for place in sorted(self._failures)),
            self._seconds,
            release,
        )

    def _put(self, place: int, pixels: torch.Tensor) -> None:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._memory.take(pixels)
        if self._pixels.shape[1:] != pixels.shape:
            raise ValueError(f"pixels of shape {tuple(pixels.shape)} among {tuple(self._pixels.shape[1:])}")
        # By numpy: torch would share so small a copy among threads of its own, in each of ours.
        np.copyto(self._pixels[place].numpy(), pixels.numpy())


def _read(item: ImageItem) -> bytes | Failure:
    """Errors become values here: one kept in a future would keep, by its traceback, the whole batch alive."""
    try:
        return read_bytes(item)
    except Undecodable as error:
        return Failure(item.key, one_line(error.message))
    except Exception as error:
        return Failure(item.key, one_line(f"cannot be read: {type(error).__name__}: {error}"))


def _decode(item: ImageItem, data: bytes, pixels: Pixels) -> torch.Tensor | Failure:
    try:
        return pixels(data)
    except Undecodable as error:
        return Failure(item.key, one_line(error.message))
    except Exception as error:
        return Failure(item.key, one_line(f"cannot be preprocessed: {type(error).__name__}: {error}"))


def one_line(text: str) -> str:
    """An error's text as a reason: one printable line of bounded length, whatever the image held."""
    return printable(" ".join(text.split()))[:300]
