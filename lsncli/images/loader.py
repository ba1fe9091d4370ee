"""Load batches of images in order: some threads read files, others decode them into the batches."""

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
from lsncli.memory import out_of_memory
from lsncli.types import Failure, Labels, Seconds

LOOKAHEAD = 2  # batches being decoded while one is in use
IMAGES_PER_TASK = 4  # scheduling each image alone costs as much as reading it
READ_AHEAD = 1 << 28
"""Bytes of files that may be read ahead of decoding."""

Preprocess = Callable[[Image.Image], torch.Tensor]
Pixels = Callable[[bytes], torch.Tensor]
"""Converts the bytes of an image file to pixels (3, H, W). Thread-safe. Raises Undecodable."""


@dataclass(frozen=True)
class Batch:
    """Items ``start`` to ``stop`` of a listing.

    ``pixels`` (B, 3, H, W), ``keys`` and ``labels`` (B,) are those of the readable images, ``failures`` those
    of the others, each in listing order; ``seconds`` is the time of reading and decoding. Call ``release``
    when ``pixels`` are no longer used, so that a later batch reuses their memory: allocating new memory takes
    as long as decoding a small image.
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
    and threads need not copy pixels between processes); twice as many, which mostly wait, read. Every image
    that fails is a Failure of its batch. Closing the iterator stops the threads. At most LOOKAHEAD + 1
    batches of images are in memory, and about READ_AHEAD bytes of files; ``pinned`` allocates the batches in
    pinned memory, for asynchronous copies to a CUDA device. ``together.end()``, from any thread, cancels
    decoding, and the iterator raises GivenUp. Raises UsageError for invalid sizes, and for an invalid time
    limit of images (LSN_IMAGE_TIMEOUT).
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
    read_ahead, memory = _ReadAhead(), _BatchMemory(batch_size, pinned)
    pending: deque[_PendingBatch] = deque()

    def read(batch: _PendingBatch, rows: range) -> None:
        read_ahead.wait()
        began = time.perf_counter()
        files = [_read(batch.items[row]) for row in rows]
        batch.add_read_seconds(time.perf_counter() - began)
        size = sum(len(data) for data in files if isinstance(data, bytes))
        read_ahead.add(size)
        # Submitted only now, so that a decoding thread never waits for a reading one.
        decoders.submit(decode, batch, rows, files, size)

    def decode(batch: _PendingBatch, rows: range, files: list[bytes | Failure], size: int) -> None:
        batch.fill(rows, files, pixels)
        files.clear()
        read_ahead.add(-size)

    following = start
    with threads(workers, "lsn-images-decode", together) as decoders:
        try:
            while following < len(items) or pending:
                while following < len(items) and len(pending) <= LOOKAHEAD:
                    batch = _PendingBatch(following, items[following : following + batch_size], memory)
                    for first in range(0, len(batch.items), IMAGES_PER_TASK):
                        last = min(first + IMAGES_PER_TASK, len(batch.items))
                        readers.submit(read, batch, range(first, last))
                    following += len(batch.items)
                    pending.append(batch)
                    del batch  # no variable may keep a batch in memory after it was yielded
                yield pending.popleft().wait()
        finally:
            read_ahead.stop()
            readers.shutdown(wait=True, cancel_futures=True)


class _ReadAhead:
    """Limits the bytes that are read and not yet decoded to READ_AHEAD."""

    def __init__(self) -> None:
        self._change = Condition()
        self._bytes, self._stopped = 0, False

    def wait(self) -> None:
        """Wait until more may be read."""
        with self._change:
            self._change.wait_for(lambda: self._bytes <= READ_AHEAD or self._stopped)

    def add(self, size: int) -> None:
        with self._change:
            self._bytes += size
            self._change.notify_all()

    def stop(self) -> None:
        """Release all waiting threads."""
        with self._change:
            self._stopped = True
            self._change.notify_all()


class _BatchMemory:
    """Allocates the pixels of batches, and reuses those that were given back."""

    def __init__(self, batch_size: int, pinned: bool) -> None:
        self._batch_size, self._pinned = batch_size, pinned
        self._free: list[torch.Tensor] = []

    def take(self, like: torch.Tensor) -> torch.Tensor:
        """Return memory for a batch of images of the shape and type of ``like``."""
        shape = (self._batch_size, *like.shape)
        while self._free:
            free = self._free.pop()
            if free.shape == shape and free.dtype == like.dtype:
                return free
        try:
            return torch.empty(shape, dtype=like.dtype, pin_memory=self._pinned)
        except RuntimeError as error:
            if not (self._pinned and out_of_memory(error)):
                raise
        self._pinned = False  # memory that cannot be paged out is scarce; from other memory copies are slower
        return self.take(like)

    def give_back(self, pixels: torch.Tensor) -> None:
        self._free.append(pixels)


class _PendingBatch:
    """A batch whose images are still being read and decoded, in any order."""

    def __init__(self, start: int, items: Sequence[ImageItem], memory: _BatchMemory) -> None:
        self.start, self.items = start, items
        self._memory = memory
        self._lock, self._complete = Lock(), Event()
        self._pixels: torch.Tensor | None = None
        self._failures: dict[int, Failure] = {}
        self._error: BaseException | None = None
        self._remaining = len(items)
        self._seconds = Seconds()

    def add_read_seconds(self, seconds: float) -> None:
        with self._lock:
            self._seconds += Seconds(read=seconds)

    def fill(self, rows: range, files: Sequence[bytes | Failure], pixels: Pixels) -> None:
        """Decode ``files`` into ``rows`` of the batch. ``wait`` raises errors that are no image's fault."""
        began = time.perf_counter()
        try:
            for row, data in zip(rows, files, strict=True):
                result = _decode(self.items[row], data, pixels) if isinstance(data, bytes) else data
                if isinstance(result, Failure):
                    self._failures[row] = result
                else:
                    self._put(row, result)
        except BaseException as error:
            self._error = error
        with self._lock:
            self._seconds += Seconds(decode=time.perf_counter() - began)
            self._remaining -= len(rows)
            if not self._remaining:
                self._complete.set()

    def wait(self) -> Batch:
        """Wait for all images and return the batch. Raises what ``fill`` could not assign to an image."""
        self._complete.wait()
        if self._error is not None:
            raise self._error
        good = [row for row in range(len(self.items)) if row not in self._failures]
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
            tuple(self.items[row].key for row in good),
            np.array([self.items[row].label for row in good], dtype=np.int32),
            tuple(self._failures[row] for row in sorted(self._failures)),
            self._seconds,
            release,
        )

    def _put(self, row: int, pixels: torch.Tensor) -> None:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._memory.take(pixels)
        if self._pixels.shape[1:] != pixels.shape:
            raise ValueError(f"pixels of shape {tuple(pixels.shape)} among {tuple(self._pixels.shape[1:])}")
        # With numpy: torch would split even so small a copy among threads of its own.
        np.copyto(self._pixels[row].numpy(), pixels.numpy())


def _read(item: ImageItem) -> bytes | Failure:
    """Read an image; an error is returned, as the traceback of one raised would keep the batch in memory."""
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
    """Return the text of an error as one printable line of bounded length."""
    return printable(" ".join(text.split()))[:300]
