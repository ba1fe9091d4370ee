"""Encode images batch by batch, without a store. Reading, decoding and encoding run concurrently.

On a CPU several batches are encoded in parallel, each by one thread. Sharing one batch among threads would
round differently with their number (torch splits attention and convolutions by it), and a store must not show
how many cores made it. On CUDA, pixels move to the device while it computes on others.

Freed memory stays with the process where the C library is glibc. A forward pass allocates and frees tens of
megabytes, again and again. glibc hands them back to the system each time, and the system zeroes every page
before it is used again: with the mini model on a CPU that took as long as the arithmetic (18 ms an image with
it, 8.5 ms without).
"""

import ctypes
import platform
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from threading import Condition, Lock, Thread, local
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli import console
from lsncli.backbones import Backbone
from lsncli.errors import LsnError
from lsncli.images.decode import decode
from lsncli.images.decode_process import Together
from lsncli.images.fast_decode import fast_decoder
from lsncli.images.item import ImageItem
from lsncli.images.loader import Batch, Pixels, load_batches
from lsncli.store.format import Chunk, shortest_safe_length
from lsncli.types import Failure, Seconds


@contextmanager
def batches_abreast(device: torch.device) -> Iterator[int]:
    """How many batches to encode at once: on a CPU as many as torch may use threads, else 1.

    Afterwards torch has its threads again, which ``compute_alone`` took from it.
    """
    threads = torch.get_num_threads()
    try:
        yield threads if device.type == "cpu" else 1
    finally:
        if device.type == "cpu":
            torch.set_num_threads(threads)


def compute_alone(device: torch.device) -> None:
    """From now on the calling thread shares with no other what it computes on a CPU."""
    if device.type == "cpu":
        torch.set_num_threads(1)


ENCODERS = 2
"""Batches that a CUDA device works on at once: while the features of one are fetched, the other computes."""

_own = local()


def mover(device: torch.device) -> Callable[[Batch], Batch]:
    """A function that brings a batch's pinned pixels to ``device``, for one thread of its own.

    It returns when they are there, so that any stream may use them. They are safe to drop once their
    features were fetched, for that waits for whatever computes on them.
    """
    stream = torch.cuda.Stream(device)

    def move(batch: Batch) -> Batch:
        with torch.cuda.stream(stream):
            pixels = batch.pixels.to(device, non_blocking=True)
        stream.synchronize()
        batch.release()
        return replace(batch, pixels=pixels, release=lambda: None)

    return move


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """What this thread starts on a CUDA device waits for no other thread's work; nothing on other devices."""
    if device.type != "cuda":
        yield
        return
    if getattr(_own, "device", None) != device:
        _own.device, _own.stream = device, torch.cuda.Stream(device)
    with torch.cuda.stream(_own.stream):
        yield


# Parameters of mallopt, from malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST_MMAP_THRESHOLD = 1 << 25  # the library takes no more than this
HEAP = 1 << 26
"""Bytes of one heap of a thread; with this much to spare, an empty one is kept."""
KEPT = 1 << 30
"""Free bytes at the end of the heap above which some go back."""


@cache
def keep_freed_memory() -> bool:
    """Tell the C library, once; whether it could be told. The process's peak stays about what it was."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Either alone would be worse: naming one ends the library's own tuning of both.
    settings = {MMAP_THRESHOLD: LARGEST_MMAP_THRESHOLD, TRIM_THRESHOLD: KEPT, TOP_PAD: HEAP}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Raised:
    error: BaseException


def in_threads(
    source: Generator[T, None, None],
    work: Callable[[T], R],
    *,
    threads: int = 1,
    ahead: int = 1,
    name: str,
    stop: Callable[[], object] = lambda: None,
) -> Generator[R, None, None]:
    """``work`` on every element of ``source``, in its order, while the caller is busy with earlier results.

    At most ``threads + ahead`` elements were taken and not yet given to the caller. What ``source`` or
    ``work`` raises, the caller gets in its place. Closing the iterator calls ``stop``, which may give up what
    ``source`` waits for, ends the threads, once each is done with its element, and then closes ``source``.
    """
    turn, change = Lock(), Condition()  # a generator cannot be asked by two threads at once
    results: dict[int, R | _Raised] = {}
    taken = given = 0
    end: int | None = None
    stopped = False

    def run() -> None:
        nonlocal taken, end
        while True:
            with turn:
                with change:
                    while not stopped and taken - given >= threads + ahead:
                        change.wait()
                    if stopped or end is not None:
                        return
                    number = taken
                try:
                    one = next(source)
                except StopIteration:
                    with change:
                        end = number
                        change.notify_all()
                    return
                except BaseException as error:
                    with change:
                        results[number], end = _Raised(error), number + 1
                        change.notify_all()
                    return
                taken += 1
            result: R | _Raised
            try:
                result = work(one)
            except BaseException as error:
                result = _Raised(error)
            with change:
                results[number] = result
                change.notify_all()
            del one, result  # a batch is not to stay in memory while this thread waits

    # Daemons: an iterator that nobody closed must not keep the program from ending.
    running = [Thread(target=run, name=f"{name}-{index}", daemon=True) for index in range(threads)]
    for thread in running:
        thread.start()
    try:
        while True:
            with change:
                while given not in results and (end is None or given < end):
                    change.wait()
                if given not in results:
                    return
                result = results.pop(given)
                given += 1
                change.notify_all()
            if isinstance(result, _Raised):
                raise result.error
            yield result
            del result
    finally:
        with change:
            stopped = True
            change.notify_all()
        stop()
        for thread in running:
            thread.join()
        source.close()


def pixels_of(backbone: Backbone) -> Pixels:
    """How bytes become the pixels of this model: exactly or fast, as its fingerprint says.

    Raises Unavailable if fast decoding is not installed.
    """
    rgb = fast_decoder() if backbone.fingerprint.decode == "fast" else decode
    return lambda data: backbone.preprocess(rgb(data))


def encode_stream(
    items: Sequence[ImageItem], backbone: Backbone, *, batch_size: int, workers: int, start: int = 0
) -> Generator[Chunk, None, None]:
    """Encode ``items[start:]`` in order; ``start`` is a border of batches.

    Encoding goes on in threads of its own while the caller is busy with a batch, one or two ahead; on a CPU a
    batch is one thread's work, so that features do not depend on how many threads there are. Features are
    (B, D) float16, raw. An image that cannot be read, and one whose features are not finite, all zero (no
    direction, so no cosine) or too small for float16, is among the batch's failures instead. Close the
    iterator to stop its threads early. Raises UsageError for invalid sizes, Unavailable if fast decoding is
    not installed, LsnError if memory runs out.
    """
    keep_freed_memory()
    device = backbone.device
    on_cuda = device.type == "cuda"
    together = Together()
    batches = load_batches(
        items,
        pixels_of(backbone),
        batch_size=batch_size,
        workers=workers,
        start=start,
        pinned=on_cuda,
        together=together,
    )
    if on_cuda:
        batches = in_threads(batches, mover(device), name="lsn-move")

    def encode(waited: tuple[float, Batch]) -> Chunk:
        seconds, batch = waited
        compute_alone(device)
        with own_stream(device):
            encoded = encode_batch(batch, backbone, seconds)
        batch.release()
        return encoded

    with batches_abreast(device) as abreast:
        threads = ENCODERS if on_cuda else abreast
        waited_for = _waited_for(batches)
        # Whoever is interrupted does not wait for an image that takes long.
        yield from in_threads(waited_for, encode, threads=threads, name="lsn-encode", stop=together.end)


def encode_batch(batch: Batch, backbone: Backbone, wait_seconds: float = 0.0) -> Chunk:
    """Encode pixels that were read, as ``encode_stream`` does."""
    began = time.perf_counter()
    features = _features(backbone, batch.pixels)
    took = Seconds(waiting=wait_seconds, encode=time.perf_counter() - began)
    return _sound_rows(batch, features, batch.seconds + took)


class Encoder:
    """How one command encodes, and where its time went."""

    def __init__(
        self, backbone: Backbone, batch_size: int, workers: int, progress: console.ProgressCallback
    ) -> None:
        self.fingerprint = backbone.fingerprint
        self.batch_size = batch_size
        self.seconds = Seconds()
        self.elapsed = 0.0
        self.images = 0
        self.progress = progress
        self._backbone, self._workers = backbone, workers
        pixels_of(backbone)  # what is not installed is said before anything is begun

    @property
    def device(self) -> str:
        """What it computes on."""
        return str(self._backbone.device)

    @property
    def images_per_second(self) -> float:
        """Of the images encoded so far; 0 if none were."""
        return self.images / self.elapsed if self.elapsed else 0.0

    def stream(self, items: Sequence[ImageItem], start: int = 0) -> Generator[Chunk, None, None]:
        """``encode_stream``, counting; ``progress`` counts a batch once the caller is done with it."""
        began = time.perf_counter()
        batches = encode_stream(
            items, self._backbone, batch_size=self.batch_size, workers=self._workers, start=start
        )
        with closing(batches):
            for batch in batches:
                given = time.perf_counter()
                yield batch
                now = time.perf_counter()
                self.seconds += replace(batch.seconds, write=now - given)
                self.elapsed, began = self.elapsed + now - began, now
                self.images += batch.stop - batch.start
                self.progress(batch.stop - batch.start)


def _waited_for(batches: Generator[Batch, None, None]) -> Generator[tuple[float, Batch], None, None]:
    """Each batch with the seconds until it came."""
    began = time.perf_counter()
    with closing(batches):
        for batch in batches:
            yield time.perf_counter() - began, batch
            del batch
            began = time.perf_counter()


def _features(backbone: Backbone, pixels: torch.Tensor) -> NDArray[np.float16]:
    if not len(pixels):
        return np.empty((0, backbone.fingerprint.dim), dtype=np.float16)
    try:
        return backbone.encode(pixels)
    except torch.cuda.OutOfMemoryError as error:
        raise LsnError(
            f"The device has no memory for a batch of {len(pixels)} images.",
            "Use a smaller --batch-size, or --precision fp16.",
        ) from error


def _sound_rows(batch: Batch, features: NDArray[np.float16], seconds: Seconds) -> Chunk:
    """The rows that can be used; the others are failures, sorted by key with the rest."""
    wide = features.astype(np.float32)
    lengths = np.linalg.norm(np.where(np.isfinite(wide), wide, 0), axis=1)
    reasons = np.select(
        [~np.isfinite(wide).all(axis=1), lengths == 0, lengths < shortest_safe_length(features.shape[1])],
        ["not finite", "all zero", "too small for float16, in which they are stored"],
        default="",
    )
    good = reasons == ""
    unsound = tuple(
        Failure(key, f"the features are {reason}")
        for key, reason in zip(batch.keys, reasons, strict=True)
        if reason
    )
    return Chunk(
        start=batch.start,
        stop=batch.stop,
        features=features[good],
        labels=batch.labels[good],
        keys=tuple(key for key, is_good in zip(batch.keys, good, strict=True) if is_good),
        failures=tuple(sorted(batch.failures + unsound, key=lambda failure: failure.key)),
        seconds=seconds,
    )
