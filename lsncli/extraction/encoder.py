"""Encode images batch by batch, without a store. Reading, decoding and encoding run concurrently.

On a CPU several batches are encoded in parallel, each by one thread. Sharing one batch among threads would
round differently with their number (torch splits attention and convolutions by it), and a store must not show
the number of cores. On CUDA, pixels move to the device while it computes on others.

Freed memory stays with the process where the C library is glibc. A forward pass allocates and frees tens of
megabytes, again and again. glibc hands them back to the system each time, and the system zeroes every page
before it is used again: with the mini model on a CPU that took as long as the arithmetic (18 ms an image with
it, 8.5 ms without).
"""

import ctypes
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from threading import Condition, Lock, Thread
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli import console
from lsncli.backbones import Backbone, runtime_of
from lsncli.backbones.runtime_choice import for_images
from lsncli.device import apply_precision
from lsncli.images.decode import decode
from lsncli.images.decode_process import Together
from lsncli.images.fast_decode import fast_decoder
from lsncli.images.item import ImageItem
from lsncli.images.loader import Batch, Pixels, load_batches
from lsncli.memory import InParts, memory_errors, out_of_memory
from lsncli.store.format import Chunk, shortest_safe_length
from lsncli.types import Failure, Seconds


@contextmanager
def batches_abreast(device: torch.device) -> Iterator[int]:
    """Yield the number of batches to encode in parallel: torch's number of threads on a CPU, else 1.

    Restores torch's number of threads, which ``compute_alone`` sets to 1.
    """
    threads = torch.get_num_threads()
    try:
        yield threads if device.type == "cpu" else 1
    finally:
        if device.type == "cpu":
            torch.set_num_threads(threads)


def compute_alone(device: torch.device) -> None:
    """Make the calling thread compute without helper threads on a CPU."""
    if device.type == "cpu":
        torch.set_num_threads(1)


ENCODERS = 2
"""Batches in parallel on a CUDA device: one computes while the features of the other are copied back."""

_free: dict[tuple[torch.device, str], list[torch.cuda.Stream]] = defaultdict(list)
"""Streams that no thread uses, by device and purpose. torch keeps freed memory apart for each stream, so they
are used again: a part of an extraction has new threads, but no new streams."""


@contextmanager
def _stream(device: torch.device, purpose: str) -> Iterator[torch.cuda.Stream]:
    """Run the block on a CUDA stream of its own."""
    free = _free[device, purpose]
    try:
        stream = free.pop()
    except IndexError:
        stream = torch.cuda.Stream(device)
    try:
        with torch.cuda.stream(stream):
            yield stream
    finally:
        free.append(stream)


def mover(device: torch.device) -> Callable[[Batch], Batch]:
    """Return a function that copies a batch's pinned pixels to ``device``.

    It returns when the copy is complete, so that any stream may use the pixels. They may be freed once their
    features were copied back, because that waits for all computation on them.
    """

    def move(batch: Batch) -> Batch:
        try:
            with _stream(device, "move") as stream:
                pixels = batch.pixels.to(device, non_blocking=True)
                stream.synchronize()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return batch  # the model moves as many of its pixels at a time as fit
        batch.release()
        return replace(batch, pixels=pixels, release=lambda: None)

    return move


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Run the block on a CUDA stream that no other thread uses; does nothing on other devices.

    It waits for what the default stream has to do first, such as copying weights to the device.
    """
    if device.type != "cuda":
        yield
        return
    with _stream(device, "encode") as stream:
        stream.wait_stream(torch.cuda.default_stream(device))
        yield


# Parameters of mallopt, from malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST_MMAP_THRESHOLD = 1 << 25  # glibc's maximum
HEAP = 1 << 26
"""Bytes of one heap of a thread; with this padding, an empty heap is kept."""
MAX_FREE_BYTES = 1 << 30
"""Free bytes at the end of the heap above which glibc returns memory to the system."""


@cache
def keep_freed_memory() -> bool:
    """Configure glibc, once per process, to keep freed memory; return whether that was possible.

    The peak memory of the process stays about the same.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Setting only one would be worse: setting either ends the library's own tuning of both.
    settings = {MMAP_THRESHOLD: LARGEST_MMAP_THRESHOLD, TRIM_THRESHOLD: MAX_FREE_BYTES, TOP_PAD: HEAP}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


Forward = Callable[[torch.Tensor], NDArray[np.float16]]
"""Pixels (B, 3, H, W) to raw features (B, D)."""

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
    """Yield ``work`` of every element of ``source``, in order, computed in threads ahead of the caller.

    At most ``threads + ahead`` elements are in progress or wait for the caller. An exception of ``source`` or
    ``work`` is raised in place of its result. Closing the iterator calls ``stop``, which may cancel what
    ``source`` waits for, waits for the threads to finish their elements, and then closes ``source``.
    """
    source_lock, change = Lock(), Condition()  # two threads must not advance a generator at once
    results: dict[int, R | _Raised] = {}
    taken = yielded = 0
    end: int | None = None
    stopped = False

    def run() -> None:
        nonlocal taken, end
        while True:
            with source_lock:
                with change:
                    while not stopped and taken - yielded >= threads + ahead:
                        change.wait()
                    if stopped or end is not None:
                        return
                    number = taken
                try:
                    element = next(source)
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
                result = work(element)
            except BaseException as error:
                result = _Raised(error)
            with change:
                results[number] = result
                change.notify_all()
            del element, result  # a batch must not stay in memory while this thread waits

    # Daemons: an iterator that was never closed must not keep the program from ending.
    running = [Thread(target=run, name=f"{name}-{index}", daemon=True) for index in range(threads)]
    for thread in running:
        thread.start()
    try:
        while True:
            with change:
                while yielded not in results and (end is None or yielded < end):
                    change.wait()
                if yielded not in results:
                    return
                result = results.pop(yielded)
                yielded += 1
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
    """Return the function from bytes to this model's pixels: exact or fast, by its fingerprint.

    Raises Unavailable if fast decoding is not installed.
    """
    rgb = fast_decoder() if backbone.fingerprint.decode == "fast" else decode
    return lambda data: backbone.preprocess(rgb(data))


def encode_stream(
    items: Sequence[ImageItem], backbone: Backbone, *, batch_size: int, workers: int, start: int = 0
) -> Generator[Chunk, None, None]:
    """Encode ``items[start:]`` in order; ``start`` is a multiple of ``batch_size``.

    Threads encode one or two batches ahead of the caller; on a CPU each batch is encoded by one thread, so
    that features do not depend on the number of threads, and with the fastest runtime (``runtime_choice``).
    Features are (B, D) float16, not normalised. An
    image that cannot be read, and one whose features are not finite, all zero (no direction, so no cosine) or
    too small for float16, is among the batch's failures instead. Close the iterator to stop its threads
    early. Once a batch does not fit into memory, it and later ones are encoded in parts. Raises UsageError
    for invalid sizes, Unavailable if fast decoding is not installed or the device lacks the precision,
    LsnError if not even one image fits.
    """
    keep_freed_memory()
    backbone = for_images(backbone, len(items) - start)
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

    forward = InParts(backbone.encode)  # shared, so that what fits is found once

    def encode(timed_batch: tuple[float, Batch]) -> Chunk:
        seconds, batch = timed_batch
        compute_alone(device)
        with own_stream(device):
            encoded = encode_batch(batch, backbone, seconds, forward)
        batch.release()
        return encoded

    with batches_abreast(device) as cpu_batches:
        threads = ENCODERS if on_cuda else cpu_batches
        # ``together.end``: an interrupted run does not wait for an image that takes long to decode.
        yield from in_threads(
            _with_waiting_seconds(batches), encode, threads=threads, name="lsn-encode", stop=together.end
        )


def encode_batch(
    batch: Batch, backbone: Backbone, wait_seconds: float = 0.0, forward: Forward | None = None
) -> Chunk:
    """Encode a loaded batch, as ``encode_stream`` does, by ``backbone.encode`` or ``forward``."""
    began = time.perf_counter()
    features = _features(backbone, batch.pixels, forward or InParts(backbone.encode))
    seconds = Seconds(waiting=wait_seconds, encode=time.perf_counter() - began)
    return _sound_rows(batch, features, batch.seconds + seconds)


class Encoder:
    """The encoder of one command, with the time spent in each stage."""

    def __init__(
        self, backbone: Backbone, batch_size: int, workers: int, progress: console.ProgressCallback
    ) -> None:
        self.fingerprint = backbone.fingerprint
        self.runtime = runtime_of(backbone)
        self.batch_size = batch_size
        self.seconds = Seconds()
        self.elapsed = 0.0
        self.images = 0
        self.progress = progress
        self._backbone, self._workers = backbone, workers
        pixels_of(backbone)  # raises Unavailable before any work begins

    @property
    def device(self) -> str:
        """The name of the device."""
        return str(self._backbone.device)

    @property
    def images_per_second(self) -> float:
        """Speed over all encoded images; 0 if there are none."""
        return self.images / self.elapsed if self.elapsed else 0.0

    def stream(self, items: Sequence[ImageItem], start: int = 0) -> Generator[Chunk, None, None]:
        """Encode as ``encode_stream`` does, and count images and time.

        ``progress`` is called with the images of a batch after the caller has processed it.
        """
        began = time.perf_counter()
        batches = encode_stream(
            items, self._backbone, batch_size=self.batch_size, workers=self._workers, start=start
        )
        with closing(batches):
            for batch in batches:
                yielded = time.perf_counter()
                yield batch
                now = time.perf_counter()
                self.seconds += replace(batch.seconds, write=now - yielded)
                self.elapsed, began = self.elapsed + now - began, now
                self.images += batch.stop - batch.start
                self.progress(batch.stop - batch.start)


def _with_waiting_seconds(
    batches: Generator[Batch, None, None],
) -> Generator[tuple[float, Batch], None, None]:
    """Yield each batch with the seconds of waiting for it."""
    began = time.perf_counter()
    with closing(batches):
        for batch in batches:
            yield time.perf_counter() - began, batch
            del batch
            began = time.perf_counter()


def _features(backbone: Backbone, pixels: torch.Tensor, forward: Forward) -> NDArray[np.float16]:
    if not len(pixels):
        return np.empty((0, backbone.fingerprint.dim), dtype=np.float16)
    apply_precision(backbone.fingerprint.precision, backbone.device)
    with memory_errors("one image at a time", "Use --precision fp16 or another --device."):
        return forward(pixels)


def _sound_rows(batch: Batch, features: NDArray[np.float16], seconds: Seconds) -> Chunk:
    """Keep the usable rows; the others become failures, sorted by key with those of the batch."""
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
